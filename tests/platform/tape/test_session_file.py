"""The file of a session."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.errors import ConfigurationError
from oda.platform.tape.session_file import (
    Entry,
    Session,
    Side,
    What,
    read_session,
    write_entry,
    write_header,
    write_session,
)

NUMBERS = st.integers(0, 2**53)
SIDES = st.sampled_from(Side)
STARTS = st.builds(
    Entry,
    at_ms=NUMBERS,
    connection=NUMBERS,
    what=st.sampled_from([What.OPEN, What.REFUSED]),
    device=st.text(),
)
MESSAGES = st.builds(
    Entry,
    at_ms=NUMBERS,
    connection=NUMBERS,
    what=st.just(What.MESSAGE),
    side=SIDES,
    payload=st.binary() | st.text().map(str.encode),
    is_text=st.booleans(),
    is_redacted=st.booleans(),
)
CONTROLS = st.builds(
    Entry,
    at_ms=NUMBERS,
    connection=NUMBERS,
    what=st.sampled_from([What.PING, What.PONG]),
    side=SIDES,
    payload=st.binary(),
)
ENDS = st.builds(
    Entry,
    at_ms=NUMBERS,
    connection=NUMBERS,
    what=st.just(What.CLOSE),
    side=st.none() | SIDES,
    code=st.none() | st.integers(0, 65535),
    reason=st.text(),
)


@given(st.lists(STARTS | MESSAGES | CONTROLS | ENDS), NUMBERS)
def test_what_is_written_is_read(entries: list[Entry], started_ms: int) -> None:
    """Every session comes back as it was, each entry from a line of its own."""
    session = Session("proxy", started_ms, entries)
    content = b"".join(write_session(session))
    assert content.count(b"\n") == 1 + len(entries)
    assert read_session(content, "f") == session


def test_a_line_is_what_the_documentation_says() -> None:
    """Text where it is UTF-8, base64 where not; what does not apply is left out."""
    message = Entry(
        at_ms=12, connection=1, what=What.MESSAGE, side=Side.DEVICE, payload=b"{}", is_text=True
    )
    assert json.loads(write_entry(message)) == {
        "at": 12,
        "connection": 1,
        "what": "message",
        "from": "device",
        "frame": "text",
        "text": "{}",
    }
    ping = Entry(at_ms=13, connection=1, what=What.PING, side=Side.PLATFORM, payload=b"\x00\xff")
    assert json.loads(write_entry(ping)) == {
        "at": 13,
        "connection": 1,
        "what": "ping",
        "from": "platform",
        "base64": "AP8=",
    }


@given(st.integers(1, 60))
def test_a_line_that_was_cut_off_is_left_out(missing: int) -> None:
    """A recorder that was killed while it wrote costs the last line, not the file."""
    entries = [
        Entry(at_ms=at, connection=1, what=What.OPEN, device="a-device-with-a-long-name")
        for at in (1, 2)
    ]
    content = b"".join(write_session(Session("proxy", 0, entries)))
    assert read_session(content[:-missing], "f").entries == entries[:1]


@pytest.mark.parametrize(
    ("line", "place"),
    [
        (b"", "s.jsonl:1: is not JSON"),
        (b"[]\n", "s.jsonl:1: is not a JSON map"),
        (b'{"format":"x"}\n', "s.jsonl:1: format"),
        (b'{"format":"oda-session","version":2}\n', "s.jsonl:1: version"),
        (write_header("proxy", 0) + b"{\n", "s.jsonl:2: is not JSON"),
        (write_header("proxy", 0) + b'\n{"at":1}\n', "s.jsonl:3: what: must be one of"),
        (write_header("proxy", 0) + b'{"at":-1,"connection":1,"what":"close"}\n', "s.jsonl:2: at"),
        (write_header("proxy", 0) + b'{"at":1,"connection":1,"what":"open"}\n', "device"),
        (
            write_header("proxy", 0)
            + b'{"at":1,"connection":1,"what":"ping","from":"device","base64":"?"}\n',
            "base64: is not base64",
        ),
        (
            write_header("proxy", 0)
            + b'{"at":1,"connection":1,"what":"message","from":"device","text":""}\n',
            "frame: must be text or binary",
        ),
    ],
)
def test_mistakes_are_named(line: bytes, place: str) -> None:
    """A file that is no session is refused with file, line and member."""
    with pytest.raises(ConfigurationError, match=place):
        read_session(line, "s.jsonl")


def test_devices_and_their_connections() -> None:
    """A file may hold several devices; each has its own connections, in the order of the file."""
    first = Entry(at_ms=0, connection=1, what=What.OPEN, device="b")
    second = Entry(at_ms=1, connection=2, what=What.OPEN, device="a")
    refused = Entry(at_ms=2, connection=3, what=What.REFUSED, device="c", code=401)
    message = Entry(at_ms=3, connection=1, what=What.MESSAGE, side=Side.DEVICE)
    session = Session("proxy", 0, [first, second, refused, message])
    assert session.devices() == ["b", "a"]
    assert session.of_device("b") == [first, message]
    assert session.of_device("c") == []
