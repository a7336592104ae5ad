"""Java-properties text -> entries with their line numbers. Pure: bytes in, entries and faults out.

javaproperties handles the syntax (separators, comments, escapes, continuation lines). This module
adds the encoding, line numbers, and the rule for duplicate keys, and makes sure that a fault never
hides the ones after it.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import IO, cast

from javaproperties import InvalidUEscapeError, KeyValue, parse

from oda.errors import Fault

#: A configuration file is written by hand; a larger file is a mistake (a log, a database).
MAX_BYTES = 1024 * 1024

_PRINTABLE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]*")
_RAW_KEY = re.compile(r"[ \t\f]*[^=: \t\f\r\n]*")


@dataclass(frozen=True)
class Entry:
    """One ``key=value``; ``line`` is where it begins, counted from 1. The value is stripped."""

    key: str
    value: str
    line: int


@dataclass(frozen=True)
class Properties:
    """The content of a file. ``faults`` may stand beside entries that are fine. A file that isn't
    ``readable`` may contain anything, so nothing can be said to be missing from it. ``repeated``
    holds each entry that a later one of the same key has replaced, and the line of the later
    one."""

    entries: tuple[Entry, ...]
    faults: tuple[Fault, ...]
    readable: bool = True
    repeated: tuple[tuple[Entry, int], ...] = ()


class _Lines:
    """Hands out physical lines one by one and counts them. javaproperties reads lazily, so the
    count is the line number of what it has just parsed."""

    def __init__(self, text: str) -> None:
        self._stream = io.StringIO(text, newline="")
        self._given: list[str] = []

    @property
    def given(self) -> int:
        return len(self._given)

    def readline(self) -> str:
        line = self._stream.readline()
        if line:
            self._given.append(line)
        return line

    def key_at(self, line: int) -> str:
        """The key as written in that line, for a line that can't be parsed."""
        match = _RAW_KEY.match(self._given[line - 1])
        return match[0].strip() if match else ""


def decode(content: bytes) -> str:
    """The text of a file: UTF-8 (without a byte order mark), otherwise ISO-8859-1 as Java reads it.

    Raises ``ValueError`` with the reason if it is not text at all.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES} bytes: it can't be a configuration file")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("is UTF-16: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("iso-8859-1")


def read_properties(file: str, content: bytes) -> Properties:
    """Every entry of ``content``, in order, and every fault; ``file`` is the name in the faults.

    Of duplicate keys the last entry counts, as in Java: existing files rely on that unknowingly. A
    text that can't be decoded has no entries.
    """
    try:
        text = decode(content)
    except ValueError as error:
        return Properties((), (Fault(file, 0, "", str(error)),), readable=False)
    entries: dict[str, Entry] = {}
    faults: list[Fault] = []
    repeated: list[tuple[Entry, int]] = []
    lines = _Lines(text)
    while True:
        elements = parse(cast(IO[str], lines))  # it needs only readline
        start = lines.given
        try:
            for element in elements:
                line, start = start + 1, lines.given
                if isinstance(element, KeyValue):
                    entry = Entry(element.key, element.value.strip(), line)
                    fault = _fault(file, entry)
                    if fault is not None:
                        faults.append(fault)
                        continue
                    earlier = entries.pop(entry.key, None)
                    if earlier is not None:
                        repeated.append((earlier, line))
                    entries[entry.key] = entry
        except InvalidUEscapeError:
            # The escape itself is not shown: it may be part of the API key.
            problem = "malformed escape: \\u must be followed by four hex digits"
            faults.append(Fault(file, start + 1, lines.key_at(start + 1), problem))
            continue  # the generator is dead, but the lines after the faulty one are not
        return Properties(tuple(entries.values()), tuple(faults), repeated=tuple(repeated))


def _fault(file: str, entry: Entry) -> Fault | None:
    problem = _problem(entry)
    if not problem:
        return None
    # The text after such a character may be the value, with a damaged separator: the API key.
    shown = _PRINTABLE.match(entry.key)
    return Fault(file, entry.line, ascii(shown[0])[1:-1] if shown else "", problem)


def _problem(entry: Entry) -> str:
    if not entry.key.strip():
        return "the line has no key before its separator (=, : or a blank)"
    for text in (entry.key, entry.value):
        if any(character < " " and character != "\t" for character in text) or "\x7f" in text:
            return "contains a control character; only printable text is allowed"
        if any("\ud800" <= character <= "\udfff" for character in text):
            return "contains half a surrogate pair: write both halves, or the character itself"
    return ""
