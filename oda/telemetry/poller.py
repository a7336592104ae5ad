"""The poller reads datastreams by the lines of its configuration.

The state manager publishes or keeps what is read. The event dispatcher gathers readings that answer
within one turn of the reactor into common documents.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from oda.interfaces import ICounters, IStateManager
from oda.log import Logger
from oda.model import DatastreamValue, ValueStatus
from oda.settings import Schedule
from oda.telemetry.changes import ChangeFilter
from oda.telemetry.schedules import Timetable
from oda.troubles import TroubleKind, Troubles

log = Logger()


class Poller:
    """Reads from ``state_manager`` what is due; ``clock`` is the reactor.

    Counts ``readings``, ``readings_failed`` and ``polls_missed`` (a reading that was due while the
    one before had not ended, or while the reactor was blocked).
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
        self._timetable = Timetable(clock, self._read, self._tick_ended)
        self._seconds = clock.seconds
        self._filters: dict[Schedule, ChangeFilter] = {}
        self._failing: set[tuple[str, str]] = set()  # datastream and device
        self._troubles = troubles or Troubles(clock.seconds)
        self._readings = 0
        self._failed = 0

    def start(self) -> None:
        """Start: from now on every line waits for its ``first``."""
        self._timetable.apply(self._schedules)

    def stop(self) -> None:
        """End. Readings in progress end by themselves."""
        self._timetable.stop()
        self._tick_ended(0)
        self._failing.clear()
        self._troubles.end_all(TroubleKind.READING)

    def set_schedules(self, schedules: Iterable[Schedule]) -> None:
        """Read by these lines; lines that stay keep their rhythm."""
        self._schedules = tuple(schedules)
        self._timetable.apply(self._schedules)
        self._filters = {
            line: self._filters[line] for line in self._schedules if line in self._filters
        }
        read = {line.datastream_id for line in self._schedules}
        for thing in [one for one in self._failing if one[0] not in read]:
            self._failing.remove(thing)
            self._troubles.end(TroubleKind.READING, _subject(*thing))

    def _read(self, line: Schedule) -> Deferred[Any]:
        read = self._state_manager.read
        if line.on_change is None:
            reading = read(line.datastream_id, line.device_pattern)
        else:
            changes = self._filters.get(line)
            if changes is None:
                changes = self._filters[line] = ChangeFilter(line.on_change, self._seconds)
            reading = read(line.datastream_id, line.device_pattern, changes)
        return reading.addCallback(self._have_read)

    def _have_read(self, values: list[DatastreamValue]) -> None:
        self._readings += len(values)
        for value in values:
            thing = (value.datastream_id, value.device_id)
            if value.status is ValueStatus.OK:
                if thing in self._failing:
                    self._failing.remove(thing)
                    self._troubles.end(TroubleKind.READING, _subject(*thing))
                    log.info(
                        "reads {datastream_id} of {device} again",
                        datastream_id=value.datastream_id,
                        device=value.device_id or "the host",
                    )
                continue
            self._failed += 1
            reason = value.error or "nothing provides that datastream"
            self._troubles.report(TroubleKind.READING, reason, _subject(*thing))
            if thing not in self._failing:
                self._failing.add(thing)
                log.warn(
                    "could not read {datastream_id} of {device}: {reason}",
                    datastream_id=value.datastream_id,
                    device=value.device_id or "the host",
                    reason=reason,
                )

    def _tick_ended(self, missed: int) -> None:
        # Readings that answer late count with the next tick.
        for name, amount in (
            ("readings", self._readings),
            ("readings_failed", self._failed),
            ("polls_missed", missed),
        ):
            if amount:
                self._counters.increment(name, amount)
        self._readings = self._failed = 0


def _subject(datastream_id: str, device_id: str) -> str:
    """The name of a reading in a trouble."""
    return f"{datastream_id} of {device_id or 'the host'}"
