"""Whoever writes a line of the configuration, or a value of the environment, wants the agent to
think about it for hours."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from oda.config import lines, parsers

SIZE = 200_000
PIECES = [
    " ",
    "\t",
    "#",
    " #",
    "# ",
    ";",
    "; ",
    "1",
    "1.",
    "=",
    "\\",
    "*",
    "a",
    "a.",
    "-",
    "_",
    ":",
]


def attempts() -> dict[str, Callable[[str], object]]:
    """Everything that reads a value or a name that others have written."""
    return {
        "comment": parsers.without_comment,
        "schedule": lambda text: lines.read_schedule("d", text),
        "name of a schedule": lambda text: lines.read_schedule(text, "1"),
        "script": lambda text: lines.read_script("d", text),
        "log level": lambda text: lines.read_log_level("log." + text, "info"),
        "number": parsers.integer(0, 10).parse,
        "seconds": parsers.seconds(0, 10).parse,
        "host": parsers.host().parse,
        "path of a URL": parsers.url_path().parse,
        "origin": parsers.origin().parse,
        "content type": parsers.CONTENT_TYPE.parse,
        "time source": parsers.time_source().parse,
        "time sources": parsers.time_sources().parse,
    }


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("reader", list(attempts()))
def test_a_line_makes_the_agent_think(reader: str, piece: str) -> None:
    """Reading a line takes time in proportion to its length: 200,000 characters of any kind are
    read within a second of processor time (80,000 blanks took 11.7 s)."""
    read = attempts()[reader]
    for text in (piece * (SIZE // len(piece)), "x" + piece * (SIZE // len(piece)) + "x"):
        began = time.thread_time()
        with suppress(ValueError):
            read(text)
        assert time.thread_time() - began < 1.0


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("60 # every minute", "60"),
        ("60 \t#", "60"),
        ("60#1", "60#1"),
        ("a#b # c # d", "a#b"),
        ("#60", "#60"),
        (" #60", ""),
        ("60", "60"),
        ("60  ", "60  "),
    ],
)
def test_a_comment_behind_a_value(value: str, kept: str) -> None:
    """What follows a blank and ``#`` is a comment, the first of them."""
    assert parsers.without_comment(value) == kept
