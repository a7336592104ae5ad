"""Text is UTF-8 or it isn't, wherever it is cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from oda.connector.framing import Utf8Validator


def is_text(pieces: list[bytes]) -> bool:
    """What Autobahn makes of the answers: each piece valid, the last one at the end of a
    character."""
    validator = Utf8Validator()
    ends = True
    for piece in pieces:
        valid, ends, _, _ = validator.validate(piece)
        if not valid:
            return False
    return ends


def cut(content: bytes, at: list[int]) -> list[bytes]:
    borders = [0, *sorted(border % (len(content) + 1) for border in at), len(content)]
    return [content[begin:end] for begin, end in pairwise(borders)]


@given(st.text(st.characters(codec="utf-8")), st.lists(st.integers(0, 200), max_size=4))
def test_text_is_valid_however_it_is_cut(text: str, at: list[int]) -> None:
    """Also in the middle of a character; everything is counted."""
    content = text.encode()
    assert is_text(cut(content, at))
    validator = Utf8Validator()
    for piece in cut(content, at):
        answer = validator.validate(piece)
    assert answer[3] == len(content)


@given(st.binary(max_size=12), st.lists(st.integers(0, 12), max_size=3))
def test_only_text_is_valid(content: bytes, at: list[int]) -> None:
    """Surrogates, overlong forms, stray and missing bytes are refused as by RFC 3629."""
    try:
        content.decode("utf-8", "strict")
        expected = True
    except UnicodeDecodeError:
        expected = False
    assert is_text(cut(content, at)) is expected


def test_a_fault_is_told_with_the_piece_that_brings_it() -> None:
    """And where it is in the message; the next message begins afresh."""
    validator = Utf8Validator()
    assert validator.validate(b"ab\xc3") == (True, False, 3, 3)
    assert validator.validate(b"\xa9c") == (True, True, 2, 5)
    assert validator.validate(b"d\xff") == (False, False, 1, 6)
    validator.reset()
    assert validator.validate(b"") == (True, True, 0, 0)
