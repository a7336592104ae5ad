"""The file of a recorded session: JSON lines, the first one about the recording. Pure.

::

    {"format": "oda-session", "version": 1, "source": "proxy", "started": 1700000000000}
    {"at": 0, "connection": 1, "what": "open", "device": "dev-1"}
    {"at": 12, "connection": 1, "what": "message", "from": "device", "frame": "text", "text": "{}"}
    {"at": 13, "connection": 1, "what": "ping", "from": "device", "base64": "AAE="}
    {"at": 90, "connection": 1, "what": "close", "from": "device", "code": 1000}

``started`` is milliseconds since the Unix epoch, ``at`` milliseconds after it on a clock that is
never set. UTF-8 content is ``text``, other content ``base64``. A file may hold several connections,
of several devices. An incomplete last line is ignored (the recorder was killed).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import msgspec

from oda.errors import ConfigurationError, Fault

FORMAT = "oda-session"
VERSION = 1


class Side(Enum):
    """Who sent something."""

    DEVICE = "device"
    PLATFORM = "platform"


class What(Enum):
    """The events of a connection. ``refused``: the connection failed; nothing follows."""

    OPEN = "open"
    REFUSED = "refused"
    MESSAGE = "message"
    PING = "ping"
    PONG = "pong"
    CLOSE = "close"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An event ``at_ms`` after the start of the recording.

    ``side`` sent it (None for open and refused, and if the record does not know who closed).
    ``device`` belongs to open and refused, ``payload`` to message, ping and pong, ``is_text`` to
    message, ``code`` and ``reason`` to close (no code: without a close frame), ``code`` to refused
    as the HTTP status. ``is_redacted``: the payload held the API key, which was overwritten.
    """

    at_ms: int
    connection: int
    what: What
    side: Side | None = None
    device: str | None = None
    payload: bytes = b""
    is_text: bool = False
    code: int | None = None
    reason: str = ""
    is_redacted: bool = False


class Session(msgspec.Struct, frozen=True):
    """A file's content; ``source`` is the recorder (``proxy`` or ``platform``)."""

    source: str
    started_ms: int
    entries: Sequence[Entry]

    def devices(self) -> list[str]:
        """The devices that were connected, by their first connection."""
        return list(
            dict.fromkeys(
                entry.device
                for entry in self.entries
                if entry.what is What.OPEN and entry.device is not None
            )
        )

    def of_device(self, device: str) -> list[Entry]:
        """The events of a device's connections, in order."""
        numbers = {
            entry.connection
            for entry in self.entries
            if entry.what is What.OPEN and entry.device == device
        }
        return [entry for entry in self.entries if entry.connection in numbers]


def write_header(source: str, started_ms: int) -> bytes:
    """The first line of a file."""
    header = {"format": FORMAT, "version": VERSION, "source": source, "started": started_ms}
    return msgspec.json.encode(header) + b"\n"


def write_entry(entry: Entry) -> bytes:
    """The line of an entry."""
    line: dict[str, Any] = {
        "at": entry.at_ms,
        "connection": entry.connection,
        "what": entry.what.value,
    }
    if entry.side is not None:
        line["from"] = entry.side.value
    if entry.device is not None:
        line["device"] = entry.device
    if entry.what is What.MESSAGE:
        line["frame"] = "text" if entry.is_text else "binary"
    if entry.what in _WITH_CONTENT:
        line.update(_content(entry.payload))
    if entry.code is not None:
        line["code"] = entry.code
    if entry.reason:
        line["reason"] = entry.reason
    if entry.is_redacted:
        line["redacted"] = True
    return msgspec.json.encode(line) + b"\n"


_WITH_CONTENT = (What.MESSAGE, What.PING, What.PONG)


def _content(payload: bytes) -> dict[str, str]:
    try:
        return {"text": payload.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(payload).decode()}


class _Wrong(Exception):  # noqa: N818 - carries a mistake within this module
    """A member of a line is missing or wrong."""

    def __init__(self, member: str, problem: str) -> None:
        self.member = member
        self.problem = problem
        super().__init__(problem)


def read_session(content: bytes, file: str) -> Session:
    """The session in a file's ``content``; raises ``ConfigurationError`` with its first mistake,
    naming ``file``, line and member."""
    lines = content.split(b"\n")
    if len(lines) > 1:
        lines.pop()  # empty, or an incomplete line
    number, entries = 1, []
    try:
        source, started_ms = _read_header(_read_map(lines[0]))
        for line in lines[1:]:
            number += 1
            if line.strip():
                entries.append(_read_entry(_read_map(line)))
    except _Wrong as error:
        raise ConfigurationError([Fault(file, number, error.member, error.problem)]) from None
    return Session(source, started_ms, entries)


def _read_map(line: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _Wrong("", f"is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise _Wrong("", "is not a JSON map")
    return document


def _read_header(line: Mapping[str, Any]) -> tuple[str, int]:
    if line.get("format") != FORMAT:
        raise _Wrong("format", f"is not {FORMAT}: this is not a recorded session")
    if line.get("version") != VERSION:
        raise _Wrong("version", f"is not {VERSION}")
    return _member(line, "source", str), _number(line, "started")


def _read_entry(line: Mapping[str, Any]) -> Entry:
    what = _one_of(What, line, "what")
    has_content = what in _WITH_CONTENT
    has_side = has_content or (what is What.CLOSE and "from" in line)
    is_start = what in (What.OPEN, What.REFUSED)
    return Entry(
        at_ms=_number(line, "at"),
        connection=_number(line, "connection"),
        what=what,
        side=_one_of(Side, line, "from") if has_side else None,
        device=_member(line, "device", str) if is_start else None,
        payload=_read_content(line) if has_content else b"",
        is_text=what is What.MESSAGE and _read_frame(line),
        code=_number(line, "code") if "code" in line else None,
        reason=_member(line, "reason", str) if "reason" in line else "",
        is_redacted=line.get("redacted") is True,
    )


def _read_frame(line: Mapping[str, Any]) -> bool:
    frame = line.get("frame")
    if frame not in ("text", "binary"):
        raise _Wrong("frame", "must be text or binary")
    return bool(frame == "text")


def _read_content(line: Mapping[str, Any]) -> bytes:
    if "base64" not in line:
        text: str = _member(line, "text", str)
        return text.encode("utf-8")
    try:
        return base64.b64decode(_member(line, "base64", str), validate=True)
    except (binascii.Error, ValueError):
        raise _Wrong("base64", "is not base64") from None


def _one_of(kind: Any, line: Mapping[str, Any], member: str) -> Any:
    for choice in kind:
        if choice.value == line.get(member):
            return choice
    raise _Wrong(member, f"must be one of {', '.join(choice.value for choice in kind)}")


def _number(line: Mapping[str, Any], member: str) -> int:
    value = line.get(member)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _Wrong(member, "must be a whole number, not negative")
    return value


def _member(line: Mapping[str, Any], member: str, kind: type) -> Any:
    value = line.get(member)
    if not isinstance(value, kind):
        raise _Wrong(member, "is missing or not a text")
    return value


def write_session(session: Session) -> Iterator[bytes]:
    """The lines of a whole session."""
    yield write_header(session.source, session.started_ms)
    for entry in session.entries:
        yield write_entry(entry)
