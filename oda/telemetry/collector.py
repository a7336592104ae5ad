"""The collector publishes what the state manager has kept, by the lines of its configuration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from oda.interfaces import ICounters, IStateManager
from oda.log import Logger
from oda.settings import Schedule
from oda.telemetry.schedules import Timetable
from oda.troubles import TroubleKind, Troubles

log = Logger()


class Collector:
    """Collects from ``state_manager`` what is due; ``clock`` is the reactor.

    Counts ``collections``, ``collections_failed`` and ``collections_missed`` (one that was due
    while the one before had not ended). Values that could not be published are kept, and tried
    again the next time.
    """

    def __init__(
        self,
        clock: IReactorTime,
        state_manager: IStateManager,
        counters: ICounters,
        schedules: Iterable[Schedule] = (),
        troubles: Troubles | None = None,
    ) -> None:
        self._state_manager = state_manager
        self._counters = counters
        self._schedules = tuple(schedules)
        self._timetable = Timetable(clock, self._collect, self._tick_ended)
        self._failing: set[Schedule] = set()
        self._troubles = troubles or Troubles(clock.seconds)
        self._collections = 0

    def start(self) -> None:
        """Start: from now on every line waits for its ``first``."""
        self._timetable.apply(self._schedules)

    def stop(self) -> None:
        """End. Collections in progress end by themselves."""
        self._timetable.stop()
        self._failing.clear()
        self._troubles.end_all(TroubleKind.PUBLISHING)

    def set_schedules(self, schedules: Iterable[Schedule]) -> None:
        """Collect by these lines; lines that stay keep their rhythm."""
        self._schedules = tuple(schedules)
        self._timetable.apply(self._schedules)
        for line in self._failing - set(self._schedules):
            self._failing.remove(line)
            self._troubles.end(TroubleKind.PUBLISHING, line.datastream_id)

    def _collect(self, line: Schedule) -> Deferred[Any]:
        self._collections += 1
        collecting = self._state_manager.collect(line.datastream_id, line.device_pattern)
        return collecting.addCallbacks(
            self._collected, self._failed, callbackArgs=(line,), errbackArgs=(line,)
        )

    def _collected(self, number: int, line: Schedule) -> None:
        if line in self._failing:
            self._failing.remove(line)
            self._troubles.end(TroubleKind.PUBLISHING, line.datastream_id)
            log.info("collects {datastream_id} again", datastream_id=line.datastream_id)

    def _failed(self, failure: Failure, line: Schedule) -> None:
        self._counters.increment("collections_failed")
        reason = failure.getErrorMessage()
        self._troubles.report(TroubleKind.PUBLISHING, reason, line.datastream_id)
        if line not in self._failing:
            self._failing.add(line)
            log.warn(
                "could not publish the kept values of {datastream_id}, trying again when next due:"
                " {reason}",
                datastream_id=line.datastream_id,
                reason=reason,
            )

    def _tick_ended(self, missed: int) -> None:
        self._counters.increment("collections", self._collections)
        self._collections = 0
        if missed:
            self._counters.increment("collections_missed", missed)
