"""A recorded session may be given to others: the API key is not in it."""

from __future__ import annotations

import base64
import html
import io
import json
from urllib.parse import quote

import pytest

from oda.platform.access import shown_keys
from oda.platform.tape.from_record import without_key
from oda.platform.tape.recorder import SessionRecorder
from oda.platform.tape.session_file import Entry, Session, Side, What
from oda.secret_forms import MASK, SecretForms

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


#: A key whose second byte is no UTF-8, as a header or a file of Latin-1 has it.
WILD = b"K\xe9y/1"
WILD_FORMS: dict[str, bytes] = {
    "as it is": WILD,
    "percent": b"K%E9y%2F1",
    "percent, lower case, twice": b"K%25e9y%252f1",
    "hexadecimal": WILD.hex().upper().encode(),
    "base64": base64.b64encode(WILD).rstrip(b"="),
    "read as Latin-1": WILD.decode("latin-1").encode(),
    "read as Latin-1, in JSON": rb"K\u00e9y\/1",
    "read as Latin-1, in HTML": b"K&eacute;y/1",
    "read as Latin-1, in a URL": b"K%C3%A9y/1",
    "read as broken UTF-8": WILD.decode("utf-8", "replace").encode(),
    "read as broken UTF-8, in JSON": rb"K\ufffdy/1",
    "as Python prints it": repr(WILD).encode()[2:-1],
}


@pytest.mark.parametrize("form", WILD_FORMS)
def test_a_key_that_is_no_utf_8_is_masked(form: str) -> None:
    """The key that was shown is bytes, and those who repeat it make texts of them, each in its
    way; both ways of recording leave it out."""
    payload = b"<" + WILD_FORMS[form] + b">"
    hidden = b"<" + b"*" * len(WILD_FORMS[form]) + b">"
    assert SecretForms([WILD]).mask_bytes(payload) == hidden
    entry = Entry(at_ms=0, connection=1, what=What.MESSAGE, side=Side.DEVICE, payload=payload)
    (clean,) = without_key(Session("platform", 0, [entry]), WILD).entries
    assert (clean.payload, clean.is_redacted) == (hidden, True)
    text = payload.decode("utf-8", "surrogateescape")
    assert SecretForms([WILD.decode("utf-8", "surrogateescape")]).mask(text) == f"<{MASK}>"


def test_every_key_that_is_shown_is_known() -> None:
    """A device that shows a key in the header, and others in the query, gives away all of them."""
    assert shown_keys("/p/d?X-ApiKey=b%2F&y=1&x-apikey=c%FF", "a\xff") == [
        b"a\xff",
        b"b/",
        b"c\xff",
    ]


def test_no_key_shows_the_end_of_a_longer_one() -> None:
    """Of two keys, one of which begins as the other, both are masked as a whole."""
    file = io.BytesIO()
    recorder = SessionRecorder(file, lambda: 0.0, 0)
    for key in (b"abc", b"abcdef", b"ab"):
        recorder.hide(key)
    recorder.message(1, Side.PLATFORM, b"<abcdef>", is_text=True)
    assert b"<******>" in file.getvalue()


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
