"""A recorded session may be given to others: the API key is not in it."""

from __future__ import annotations

import base64
import html
import io
import json
from urllib.parse import quote

import pytest

from oda.platform.tape.from_record import without_key
from oda.platform.tape.recorder import SessionRecorder
from oda.platform.tape.session_file import Entry, Session, Side, What

KEY = "k/é<+&>"


def forms(key: str) -> list[str]:
    quoted = quote(key, safe="")
    return [
        key,
        quoted,
        quoted.lower(),
        quote(quoted, safe=""),
        key.encode().hex(),
        key.encode().hex().upper(),
        base64.b64encode(key.encode()).decode(),
        html.escape(key),
        json.dumps(key)[1:-1],
        json.dumps(key)[1:-1].replace("/", "\\/"),
    ]


@pytest.mark.parametrize("form", forms(KEY))
def test_the_key_is_masked_in_every_form(form: str) -> None:
    """As a platform may echo it: percent-encoded once and twice, in hexadecimal, base64, HTML and
    JSON, also a key of fewer than eight characters."""
    file = io.BytesIO()
    recorder = SessionRecorder(file, lambda: 0.0, 0)
    recorder.hide(KEY.encode())
    recorder.message(1, Side.PLATFORM, f"<{form}>".encode(), is_text=True)
    recorder.closed(1, Side.PLATFORM, 1000, f"<{form}>".encode())
    lines = file.getvalue().decode()
    assert form not in lines
    assert json.dumps(form)[1:-1] not in lines


def test_the_key_is_masked_in_what_is_taken_from_the_record() -> None:
    """``oda record --device`` writes no key either, where it is told which."""
    session = Session(
        "platform",
        0,
        [
            Entry(at_ms=0, connection=1, what=What.MESSAGE, side=Side.DEVICE, payload=b"a key b"),
            Entry(at_ms=0, connection=1, what=What.CLOSE, code=1000, reason="key"),
        ],
    )
    message, closing = without_key(session, b"key").entries
    assert (message.payload, message.is_redacted) == (b"a *** b", True)
    assert closing.reason == "***"
