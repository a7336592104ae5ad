"""The live changes: a numbered log of the newest events, for any number of readers.

A reader has no queue of its own, only the number of the last event it saw. A reader that falls
behind the oldest event learns how many it has missed. So a slow reader costs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec


class LiveEvent(msgspec.Struct, frozen=True, gc=False):
    """One event. ``kind`` is device, datapoints, unreadable, operation or fault;
    ``data`` is JSON without line breaks."""

    number: int
    kind: str
    data: bytes


class EventLog:
    """Keeps the newest events, bounded by number and bytes, and wakes waiting readers."""

    def __init__(self, max_events: int = 10_000, max_bytes: int = 8 * 1024 * 1024) -> None:
        self._events: deque[LiveEvent] = deque()
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._bytes = 0
        self._number = 0
        self._readers: set[Callable[[], None]] = set()

    @property
    def last_number(self) -> int:
        """The number of the newest event, 0 before the first."""
        return self._number

    @property
    def has_readers(self) -> bool:
        """Whether there are readers."""
        return bool(self._readers)

    def publish(self, kind: str, data: Mapping[str, Any]) -> None:
        """Append an event and wake the readers."""
        self._number += 1
        event = LiveEvent(self._number, kind, msgspec.json.encode(data))
        self._events.append(event)
        self._bytes += len(event.data)
        while len(self._events) > self._max_events or self._bytes > self._max_bytes:
            self._bytes -= len(self._events.popleft().data)
        for wake in tuple(self._readers):
            wake()

    def after(self, number: int, limit: int) -> tuple[int, list[LiveEvent]]:
        """At most ``limit`` events newer than ``number``, and how many such events are lost.

        A number from the future (of an earlier run of the platform) counts as 0.
        """
        if number > self._number:
            number = 0
        oldest = self._number - len(self._events) + 1
        lost = max(0, oldest - number - 1)
        start = max(0, number + 1 - oldest)
        end = min(len(self._events), start + limit)
        return lost, [self._events[index] for index in range(start, end)]

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call ``wake`` at each event; call the result to unsubscribe."""
        self._readers.add(wake)
        return lambda: self._readers.discard(wake)
