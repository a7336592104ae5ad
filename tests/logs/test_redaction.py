"""The last line of defence for the API key."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.logs.redaction import MASK, MIN_LENGTH, Redactor

KEY = "canary/KEY+7?&=ü 0123456789"


@pytest.mark.parametrize(
    "written",
    [
        KEY,
        quote(KEY),
        quote(KEY, safe=""),
        base64.b64encode(KEY.encode()).decode(),
        base64.urlsafe_b64encode(KEY.encode()).decode(),
        json.dumps(KEY),
        repr(KEY.encode()),
        KEY.encode().hex(),
        f"X-ApiKey: {KEY}\r\nHost: h",
    ],
)
def test_every_way_of_writing_it_is_found(written: str) -> None:
    """Plain, in a URL, in base64, in JSON, as bytes, in hexadecimal, in a dump of headers."""
    cleaned = Redactor([KEY]).clean(f"before {written} after")
    assert cleaned.startswith("before ")
    assert MASK in cleaned
    for form in (KEY, quote(KEY, safe=""), base64.b64encode(KEY.encode()).decode().rstrip("=")):
        assert form not in cleaned


def test_other_texts_are_left_alone() -> None:
    """Also with a key so short that it would be found in words."""
    assert Redactor([KEY, "key", ""]).clean("the key of a monkey") == "the key of a monkey"


@given(st.text(min_size=MIN_LENGTH), st.text(), st.text())
def test_nothing_of_a_key_is_left(key: str, before: str, after: str) -> None:
    """Wherever it stands, it is gone, unless the mask itself spells it."""
    cleaned = Redactor([key]).clean(before + key + after)
    assert key not in cleaned or key in MASK + after + before + MASK or MASK in key or "*" in key
