"""Whoever speaks for the platform has heard the key, and repeats it in whatever form it likes."""

from __future__ import annotations

import base64
import html
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oda.connector.address import build_address
from oda.logs.redaction import Redactor
from oda.model import LinkState
from oda.monitor.health import judge
from oda.secret_forms import MASK, SecretForms
from oda.settings import ConnectorSettings, Secret
from tests.monitor.snapshots import connection
from tests.security.hostile import KEY as PLAIN_KEY
from tests.security.hostile import HostilePlatform, frame

KEY = "canary/KEY+7?&=\"'<\\ü 0123\U0001f600"


def lowered(text: str) -> str:
    """With every percent escape in lower case."""
    parts = text.split("%")
    return parts[0] + "".join("%" + part[:2].lower() + part[2:] for part in parts[1:])


FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda key: key,
    "percent": lambda key: quote(key, safe=""),
    "percent in lower case": lambda key: lowered(quote(key, safe="")),
    "percent without slashes": quote,
    "form": quote_plus,
    "double percent": lambda key: quote(quote(key, safe=""), safe=""),
    "double percent in lower case": lambda key: lowered(quote(lowered(quote(key)), safe="")),
    "each letter as percent": lambda key: "".join(f"%{byte:02X}" for byte in key.encode()),
    "hexadecimal": lambda key: key.encode().hex(),
    "hexadecimal in upper case": lambda key: key.encode().hex().upper(),
    "HTML": html.escape,
    "HTML numbers": lambda key: "".join(f"&#{ord(letter)};" for letter in key),
    "HTML hexadecimal": lambda key: "".join(f"&#x{ord(letter):X};" for letter in key),
    "HTML twice": lambda key: html.escape(html.escape(key)),
    "JSON": lambda key: json.dumps(key)[1:-1],
    "JSON as PHP has it": lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
    "JSON in JSON": lambda key: json.dumps(json.dumps(key))[3:-3],
    "Python": lambda key: repr(key.encode())[2:-1],
    "base64": lambda key: base64.b64encode(key.encode()).decode().rstrip("="),
    "base64 for URLs": lambda key: base64.urlsafe_b64encode(key.encode()).decode().rstrip("="),
    "latin-1": lambda key: key.encode().decode("latin-1"),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_platform_repeats_the_key(form: str) -> None:
    """Log, reasons and recordings leave out every form of the key: they share one list."""
    text = f"before {FORMS[form](KEY)} after"
    assert Redactor([KEY]).clean(text) == f"before {MASK} after"
    address = build_address(ConnectorSettings(host="h", path="/p"), "d", Secret(KEY))
    assert address.without_key(text) == f"before {MASK} after"
    data = SecretForms([KEY]).mask_bytes(text.encode())
    assert data.replace(b"*", b"") == b"before  after"
    assert len(data) == len(text.encode())


@settings(deadline=None)
@given(
    key=st.text(
        st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=8, max_size=20
    ),
    seed=st.integers(0, 1 << 30),
)
def test_the_platform_mixes_the_forms(key: str, seed: int) -> None:
    """Each letter may be written in a form of its own."""
    chosen = random.Random(seed)
    letter_forms = [FORMS[name] for name in FORMS if "hexadecimal" not in name or "HTML" in name]
    letter_forms = [
        form
        for form in letter_forms
        if form not in (FORMS["base64"], FORMS["base64 for URLs"], FORMS["HTML twice"])
    ]
    mixed = "".join(chosen.choice(letter_forms)(letter) for letter in key)
    assert SecretForms([key]).mask(f"<{mixed}>") in (f"<{MASK}>", f"<{MASK}\\>")


@pytest.mark.parametrize(
    "letter", ["c", "%", "&", "\\", "&#0", "%25", "can", "%63%61", "\\\\u0063"]
)
def test_a_text_makes_the_search_slow(letter: str) -> None:
    """The search takes no longer than the text is long, whatever the text holds: ten times the text
    takes less than thirty times the processor time."""
    forms = SecretForms([KEY, PLAIN_KEY])

    def took_s(size: int) -> float:
        text = letter * (size // len(letter))
        best = 1e9
        for _ in range(5):
            began = time.thread_time()
            forms.mask(text)
            best = min(best, time.thread_time() - began)
        return best

    assert took_s(100_000) < 30 * max(took_s(10_000), 1e-4)


def test_what_the_platform_has_said_is_for_the_operator() -> None:
    """``/health/ready`` tells anonymous readers why the agent is not ready, in words of its own;
    the status, which only the agent's user can read, has the platform's."""
    readiness = judge(connection(state=LinkState.WAITING, last_end="refused: 'words'"))
    body = readiness.body(connection(state=LinkState.WAITING, last_end="refused: 'words'"), ())
    assert "words" not in json.dumps(body)
    assert body["reasons"] == ["the agent is waiting to connect again"]
    assert "words" in readiness.reasons[0]


@pytest.mark.parametrize("form", ["plain", "percent in lower case", "hexadecimal in upper case"])
def test_the_platform_closes_with_the_key(tmp_path: Path, form: str) -> None:
    """The reason of a close frame reaches the log of a whole agent clipped and without the key."""
    written = FORMS[form](PLAIN_KEY)
    with HostilePlatform(tmp_path) as platform:
        first = platform.accept()
        first.send(frame(8, b"\x03\xf0" + written.encode()[:120]))
        first.wait_for_the_end()
        log = platform.stop()
    assert "closed by the platform with code 1008" in log
    assert written not in log
