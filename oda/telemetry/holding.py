"""Events held until the time of their line in the dispatcher's configuration. Pure.

A line ``datastreamId[;deviceId]=[first;]period`` collects the events of that datastream and device.
A line with period 0 does so once: after its time its events are not held any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from oda.model import HOST, DevicePattern, Event
from oda.settings import Schedule

#: An event, its time, and who waits for its acceptance.
Held = tuple[Event, int, object]

#: So many events of one line are held; with the next they go out early.
MAX_HELD = 10_000


class Holding:
    """What is held, by line."""

    def __init__(self, schedules: Iterable[Schedule] = ()) -> None:
        self._held: dict[Schedule, list[Held]] = {}
        self._done: set[Schedule] = set()
        self._lines: dict[str, list[tuple[Callable[[str], bool], Schedule]]] = {}
        self.apply(schedules)

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """The lines, those with period 0 that are over included."""
        return tuple(self._held)

    @property
    def is_collecting(self) -> bool:
        """Whether there is any line that holds events."""
        return bool(self._lines)

    def apply(self, schedules: Iterable[Schedule]) -> list[Held]:
        """Make these the lines; returns what was held for lines that are gone."""
        wanted = dict.fromkeys(schedules)
        orphans = [
            held
            for schedule, events in self._held.items()
            if schedule not in wanted
            for held in events
        ]
        self._held = {schedule: self._held.get(schedule, []) for schedule in wanted}
        self._done &= wanted.keys()
        self._index()
        return orphans

    def schedule_of(self, event: Event, host_id: str) -> Schedule | None:
        """The line that collects ``event``, None when it is to be published at once."""
        device_id = HOST if event.device_id == host_id else event.device_id
        for matches, schedule in self._lines.get(event.datastream_id, ()):
            if matches(device_id):
                return schedule
        return None

    def hold(self, schedule: Schedule, event: Event, at_ms: int, owner: object) -> bool:
        """Hold an event; True when that line is now full and has to be released."""
        events = self._held[schedule]
        events.append((event, at_ms, owner))
        return len(events) >= MAX_HELD

    def release(self, schedule: Schedule) -> list[Held]:
        """What is held for a line, in order; it is not held any more."""
        if schedule not in self._held:
            return []
        held, self._held[schedule] = self._held[schedule], []
        return held

    def finish(self, schedule: Schedule) -> None:
        """The time of a line with period 0 is over: it holds nothing from now on."""
        self._done.add(schedule)
        self._index()

    def _index(self) -> None:
        self._lines = {}
        # A line for exactly this device goes before one whose pattern includes it.
        for schedule in sorted(
            self._held, key=lambda line: DevicePattern(line.device_pattern).is_wildcard
        ):
            if schedule not in self._done:
                self._lines.setdefault(schedule.datastream_id, []).append(
                    (DevicePattern(schedule.device_pattern).matches, schedule)
                )
