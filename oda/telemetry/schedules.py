"""The lines ``datastreamId[;devicePattern]=[first;]period`` of a configuration: when each is due,
and the events that are held until then.

A ``Timetable`` calls an action for every line when the line is due. Lines with the same ``first``
and ``period`` that started together share one timer, so thousands of lines cost a handful of
timers. A timer waits ``first`` seconds once and is then a ``LoopingCall``, which keeps to its grid
however long the actions take. If the action of a line has not finished when the line is due again,
that line alone is skipped. Skipped lines, and those that the reactor was too busy to start, count
as missed.

A line of the dispatcher's configuration collects the events of its datastream and device
(``Holding``). A line with period 0 does so once: after its time its events are no longer held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall

from oda.boundary import foreign_code
from oda.log import Logger
from oda.model import HOST, DevicePattern, Event
from oda.settings import Schedule

log = Logger()

#: How early a tick may be, as a fraction of the period.
_ROUNDING = 1e-3
#: An event, its time, and who waits for its acceptance.
Held = tuple[Event, int, object]

#: How many events of one line are held; one more sends all of them early.
MAX_HELD = 10_000


class Timetable:
    """Runs ``action(line)`` for each line when it is due.

    ``clock`` is the reactor (``IReactorTime``, monotonic). ``action`` returns None or a Deferred
    that fires, or fails, when it is done; what it raises is logged. ``tick_ended(missed)`` is
    called after all lines of one timer were started, with the number of lines skipped since the
    last time.
    """

    def __init__(
        self,
        clock: IReactorTime,
        action: Callable[[Schedule], Deferred[Any] | None],
        tick_ended: Callable[[int], None] = lambda missed: None,
    ) -> None:
        self._clock = clock
        self._action = action
        self._tick_ended = tick_ended
        self._timers: list[_Timer] = []
        self._busy: set[Schedule] = set()

    @property
    def lines(self) -> set[Schedule]:
        """The lines in force, including those that run once and are done."""
        return {line for timer in self._timers for line in timer.lines}

    def apply(self, lines: Iterable[Schedule]) -> None:
        """Make ``lines`` the lines in force. New lines start with their ``first`` now, removed
        lines end, and the others keep their rhythm (once stays once)."""
        wanted = dict.fromkeys(lines)
        known: set[Schedule] = set()
        for timer in self._timers:
            timer.lines = [line for line in timer.lines if line in wanted]
            known.update(timer.lines)
            if not timer.lines:
                timer.stop()
        self._timers = [timer for timer in self._timers if timer.lines]
        fresh: dict[tuple[float, float], list[Schedule]] = {}
        for line in wanted:
            if line not in known:
                fresh.setdefault((line.first_s, line.period_s), []).append(line)
        for (first_s, period_s), together in fresh.items():
            timer = _Timer(self._clock, first_s, period_s, together, self._run)
            self._timers.append(timer)
            timer.start()

    def stop(self) -> None:
        """End all lines and leave no delayed call. Actions in progress are not cancelled."""
        for timer in self._timers:
            timer.stop()
        self._timers = []

    def _run(self, lines: Sequence[Schedule], periods: int) -> None:
        missed = (periods - 1) * len(lines)
        busy, action = self._busy, self._action
        for line in lines:
            if line in busy:
                missed += 1
                continue
            try:
                with foreign_code:
                    doing = action(line)
            except Exception:  # noqa: BLE001 -- one line must not end the timer of the others
                log.failure(
                    "the action of {datastream_id} failed", datastream_id=line.datastream_id
                )
                continue
            if doing is not None:
                busy.add(line)
                doing.addBoth(self._finished, line)
        self._tick_ended(missed)

    def _finished(self, result: object, line: Schedule) -> None:
        self._busy.discard(line)


class _Timer:
    """One ``first`` and ``period``, and the lines that started with it."""

    def __init__(
        self,
        clock: IReactorTime,
        first_s: float,
        period_s: float,
        lines: list[Schedule],
        run: Callable[[Sequence[Schedule], int], None],
    ) -> None:
        self.lines = lines
        self._clock = clock
        self._first_s = first_s
        self._period_s = period_s
        self._run = run
        self._waiting: IDelayedCall | None = None
        self._loop: LoopingCall | None = None
        self._began_s = 0.0
        self._last_tick = -1

    def start(self) -> None:
        self._waiting = self._clock.callLater(self._first_s, self._begin)

    def stop(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        self._loop = None

    def _begin(self) -> None:
        self._waiting = None
        if not self._period_s:
            self._run(self.lines, 1)
            return
        self._began_s = self._clock.seconds()
        self._loop = LoopingCall(self._due)
        self._loop.clock = self._clock
        self._loop.start(self._period_s, now=True)

    def _due(self) -> None:
        # Not LoopingCall.withCount: if rounding puts a tick a hair before its point on the grid,
        # withCount does not count it, and silently skips a period.
        elapsed = (self._clock.seconds() - self._began_s) / self._period_s
        tick = int(elapsed + _ROUNDING)
        periods, self._last_tick = tick - self._last_tick, tick
        if periods > 0:
            # self.lines is replaced, never changed, so an action may apply new lines meanwhile.
            self._run(self.lines, periods)


class Holding:
    """The held events, by line."""

    def __init__(self, schedules: Iterable[Schedule] = ()) -> None:
        self._held: dict[Schedule, list[Held]] = {}
        self._done: set[Schedule] = set()
        self._lines: dict[str, list[tuple[Callable[[str], bool], Schedule]]] = {}
        self.apply(schedules)

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """The lines, including those with period 0 that have ended."""
        return tuple(self._held)

    @property
    def is_collecting(self) -> bool:
        """Whether any line holds events."""
        return bool(self._lines)

    def apply(self, schedules: Iterable[Schedule]) -> list[Held]:
        """Make these the lines; returns the events held for lines that are gone."""
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
        """The line that collects ``event``; None if it is to be published at once."""
        device_id = HOST if event.device_id == host_id else event.device_id
        for matches, schedule in self._lines.get(event.datastream_id, ()):
            if matches(device_id):
                return schedule
        return None

    def hold(self, schedule: Schedule, event: Event, at_ms: int, owner: object) -> bool:
        """Hold an event; True if that line is now full and must be released."""
        events = self._held[schedule]
        events.append((event, at_ms, owner))
        return len(events) >= MAX_HELD

    def release(self, schedule: Schedule) -> list[Held]:
        """The events held for a line, in order; they are no longer held."""
        if schedule not in self._held:
            return []
        held, self._held[schedule] = self._held[schedule], []
        return held

    def finish(self, schedule: Schedule) -> None:
        """The time of a line with period 0 has passed: from now on it holds nothing."""
        self._done.add(schedule)
        self._index()

    def _index(self) -> None:
        self._lines = {}
        # A line for exactly this device precedes one whose pattern includes the device.
        for schedule in sorted(
            self._held, key=lambda line: DevicePattern(line.device_pattern).is_wildcard
        ):
            if schedule not in self._done:
                self._lines.setdefault(schedule.datastream_id, []).append(
                    (DevicePattern(schedule.device_pattern).matches, schedule)
                )
