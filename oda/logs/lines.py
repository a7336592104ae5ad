"""How an event looks in the log: for people, for programs, for the journal. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from twisted.logger import LogEvent, formatEvent, formatTime

from oda.boundary import foreign_code, reason_of
from oda.logs.components import component_of, level_of

#: Longer texts in a field are cut.
_MAX_FIELD = 500
#: A larger number is written as text, if it can be.
_MAX_FIELD_BITS = 1000
_MAX_MESSAGE = 10_000
_MAX_TRACEBACK = 40_000
#: Syslog's priorities, as sd-daemon(3) expects them in front of a line.
_PRIORITIES = {"debug": 7, "info": 6, "warn": 4, "error": 3, "critical": 2}
#: An event is one line: what the platform says must not be able to start another.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}
_CONTROLS |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}

_JSON_CONTROLS = {code: f"\\u{code:04x}" for code in (*range(127, 160), 0x2028, 0x2029)}


class LogFormat(Enum):
    """How the log is written."""

    TEXT = "text"
    JSON = "json"
    JOURNAL = "journal"


def text_line(event: LogEvent, note: str = "") -> str:
    """``2024-02-03T04:05:06+0000 [connector.link#warn] ...``; a traceback follows indented."""
    time = formatTime(event.get("log_time"))
    head = f"{time} [{component_of(event)}#{level_of(event)}] {_message(event)}{note}\n"
    return head + "".join(f"    {line}\n" for line in _traceback(event).splitlines())


def journal_line(event: LogEvent, note: str = "") -> str:
    """``<4>[connector.link] ...``: the journal adds the time and keeps the priority."""
    mark = f"<{_PRIORITIES[level_of(event)]}>"
    head = f"{mark}[{component_of(event)}] {_message(event)}{note}\n"
    return head + "".join(f"{mark}    {line}\n" for line in _traceback(event).splitlines())


def json_line(event: LogEvent, note: str = "") -> str:
    """One JSON object with ``time`` (UTC), ``level``, ``component`` and ``message``, and with
    ``fields`` and ``traceback`` if there are any."""
    moment = datetime.fromtimestamp(event.get("log_time") or 0.0, UTC)
    line: dict[str, Any] = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level_of(event),
        "component": component_of(event),
        "message": _message(event) + note,
    }
    fields = {name: _field(value) for name, value in event.items() if _is_field(name)}
    if fields and "log_text" not in event:
        line["fields"] = fields
    traceback = _traceback(event)
    if traceback:
        line["traceback"] = traceback
    # json escapes only the control characters below the blank.
    text = json.dumps(line, ensure_ascii=False, allow_nan=False)
    return text.translate(_JSON_CONTROLS) + "\n"


FORMATTERS: dict[LogFormat, Callable[[LogEvent, str], str]] = {
    LogFormat.TEXT: text_line,
    LogFormat.JSON: json_line,
    LogFormat.JOURNAL: journal_line,
}


def clipped(event: LogEvent) -> LogEvent:
    """The event with its longest texts cut: a text from the wire may have megabytes."""
    if not any(isinstance(value, str) and len(value) > _MAX_MESSAGE for value in event.values()):
        return event
    return {
        name: value[:_MAX_MESSAGE] + "..."
        if isinstance(value, str) and len(value) > _MAX_MESSAGE
        else value
        for name, value in event.items()
    }


def _message(event: LogEvent) -> str:
    message = formatEvent(event) or str(event.get("log_text", ""))
    if len(message) > _MAX_MESSAGE:
        message = message[:_MAX_MESSAGE] + "..."
    return message.translate(_CONTROLS)


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    if failure is None:
        return ""
    try:
        with foreign_code:
            text = str(failure.getTraceback()).rstrip("\n")
    except Exception as error:  # noqa: BLE001 - an exception may fail to describe itself
        return f"(no traceback: {type(error).__name__})"
    if len(text) > _MAX_TRACEBACK:
        # The beginning shows where the error was raised, the end what was raised.
        text = text[: _MAX_TRACEBACK // 2] + "\n...\n" + text[-_MAX_TRACEBACK // 2 :]
    return "\n".join(line.translate(_CONTROLS) for line in text.split("\n"))


def _is_field(name: str) -> bool:
    return not name.startswith("log_") and name not in ("format", "message", "time", "system")


def _field(value: Any) -> Any:
    if value is None or (isinstance(value, int) and value.bit_length() <= _MAX_FIELD_BITS):
        return value
    if isinstance(value, float) and value - value == 0:  # neither infinite nor NaN
        return value
    try:
        with foreign_code:
            text = value if isinstance(value, str) else str(value)
    except Exception as error:  # noqa: BLE001 - a foreign object may fail to show itself
        text = f"({type(value).__name__} can't be shown: {reason_of(error)})"
    return text if len(text) <= _MAX_FIELD else text[:_MAX_FIELD] + "..."
