"""Keeps a repeated line from filling the log: the first few are written, the others counted.

Two events are the same line if they have the same origin, the same format and the same texts in it;
numbers may differ ("connecting again in 3.2 s"). Of long texts only the beginning is compared, and
only clipped texts of an event are kept. Pure: the time is an argument.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from constantly import NamedConstant  # type: ignore[import-untyped]
from twisted.logger import LogEvent

from oda.boundary import foreign_code, reason_of

#: This many of the same line are written within the window, in seconds; the rest is counted.
ALLOWED = 5
WINDOW_S = 60.0
#: The fields that hold the whole text of a ``print``, of a child's output, or of an older call.
_TEXTS = frozenset(("log_text", "log_io"))
#: How many different lines are watched at a time.
_WATCHED = 1000
#: How many characters of each text are compared, and how many kept for writing.
_COMPARED = 200
_KEPT = 500


def identity_of(event: LogEvent) -> Hashable:
    """Equal for events that differ only in numbers."""
    failure = event.get("log_failure")
    texts = tuple(
        value[:_COMPARED]
        for name, value in event.items()
        if isinstance(value, str) and (name in _TEXTS or not name.startswith("log_"))
    )
    return (
        event.get("log_namespace"),
        str(event.get("log_format"))[:_COMPARED],
        texts,
        None if failure is None else (failure.type, reason_of(failure.value)[:_COMPARED]),
    )


def _kept(event: LogEvent) -> LogEvent:
    """What is kept of the event until its window ends: enough for its line, and no reference to
    what the event was about."""
    return {
        name: _short(value)
        for name, value in event.items()
        if name not in ("log_source", "log_logger", "log_failure", "log_trace")
    }


def _short(value: Any) -> Any:
    if value is None or isinstance(value, int | float | NamedConstant):
        return value
    if not isinstance(value, str):
        try:
            with foreign_code:
                value = str(value)
        except Exception:  # noqa: BLE001 - a foreign object may fail to describe itself
            value = type(value).__name__
    return value if len(value) <= _KEPT else value[:_KEPT] + "..."


@dataclass
class _Window:
    began_s: float
    event: LogEvent | None = None
    written: int = 0
    held_back: int = 0


@dataclass(frozen=True)
class Repeated:
    """``event`` stands for ``count`` more events like it that were not written."""

    event: LogEvent
    count: int


class RepetitionLimit:
    """Decides which events are written."""

    def __init__(self, allowed: int = ALLOWED, window_s: float = WINDOW_S) -> None:
        self._allowed = allowed
        self._window_s = window_s
        self._windows: OrderedDict[Hashable, _Window] = OrderedDict()

    def admit(self, event: LogEvent, now_s: float) -> bool:
        """Whether to write the event. Call ``due`` first."""
        identity = identity_of(event)
        window = self._windows.get(identity)
        if window is None:
            window = self._windows[identity] = _Window(now_s)
        if window.written < self._allowed:
            window.written += 1
            return True
        window.held_back += 1
        window.event = _kept(event)
        return False

    def due(self, now_s: float, everything: bool = False) -> list[Repeated]:
        """What was suppressed in windows that have ended (or in all of them), to be written now."""
        over: list[Any] = []
        for identity, window in self._windows.items():
            if not everything and now_s - window.began_s < self._window_s:
                break  # windows are in order of their start
            over.append(identity)
        if len(self._windows) - len(over) > _WATCHED:
            over = list(self._windows)[: len(self._windows) - _WATCHED]
        closed = [self._windows.pop(identity) for identity in over]
        return [Repeated(item.event, item.held_back) for item in closed if item.event is not None]
