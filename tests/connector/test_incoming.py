"""The frames that are read without Autobahn are exactly those that need none of its judgement."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.connector.framing import whole_message

LIMIT = 70_000


def frame(payload: bytes, first: int = 0x82, form: int | None = None) -> bytes:
    """An unmasked frame as section 5.2 describes it; ``form`` 126 or 127 forces a longer form of
    the length."""
    size = len(payload)
    if form is None:
        form = size if size < 126 else 126 if size < 65536 else 127
    extended = size.to_bytes({126: 2, 127: 8}.get(form, 0), "big") if form > 125 else b""
    return bytes((first, form)) + extended + payload


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535])
def test_a_whole_short_message_is_cut_out_with_the_place_of_the_next(size: int) -> None:
    """Both forms of the length that a message under 64 KiB can have, at their borders."""
    payload = bytes(index % 251 for index in range(size))
    before, behind = b"\x89\x00", frame(b"next")
    data = before + frame(payload) + behind
    assert whole_message(data, 2, LIMIT) == (payload, len(data) - len(behind))


@given(st.binary(max_size=300), st.data())
def test_an_incomplete_frame_is_left(payload: bytes, data: st.DataObject) -> None:
    """However much of it is missing."""
    whole = frame(payload)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert whole_message(whole[:cut], 0, LIMIT) is None


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("not final", frame(b"x", 0x02)),
        ("a continuation", frame(b"x", 0x80)),
        ("compressed", frame(b"x", 0xC2)),
        ("a reserved bit", frame(b"x", 0xA2)),
        ("a reserved opcode", frame(b"x", 0x83)),
        ("a close", frame(b"\x03\xe8", 0x88)),
        ("a ping", frame(b"x", 0x89)),
        ("a pong", frame(b"x", 0x8A)),
        ("masked", b"\x82\x81" + b"\0\0\0\0x"),
        ("masked, longer", b"\x82\xfe\x00\x7e" + b"\0" * 140),
        ("longer than 64 KiB", frame(b"x" * 65536)),
        ("length not in its shortest form", frame(b"x" * 125, form=126)),
        ("length not in its shortest form, 8 bytes", frame(b"x" * 126, form=127)),
        ("a text that is no UTF-8", frame(b"\xff", 0x81)),
        ("a text that ends within a character", frame("é".encode()[:1], 0x81)),
        ("a text with a surrogate", frame(b"\xed\xa0\x80", 0x81)),
    ],
)
def test_what_needs_judgement_is_left(what: str, data: bytes) -> None:
    """Control frames, fragments, extensions and all violations are Autobahn's."""
    assert whole_message(data, 0, LIMIT) is None, what


def test_a_message_over_the_limit_is_left() -> None:
    """Autobahn refuses it with 1009."""
    assert whole_message(frame(b"x" * 11), 0, 10) is None
    assert whole_message(frame(b"x" * 10), 0, 10) is not None


@given(st.text())
def test_any_valid_text_is_taken(text: str) -> None:
    """Whatever its characters are."""
    payload = text.encode()
    data = frame(payload, 0x81)
    assert whole_message(data, 0, LIMIT) == (payload, len(data))
