"""What goes on from one process to the next: the ids of rows, the clock of their ages.

Both are written with the totals of the store, and go on from there. A process that can't open the
store takes ids beyond those of any store, so that the store's rows can be taken up later as the
older ones.
"""

from __future__ import annotations

from typing import Any

from oda.interfaces import IWallClock
from oda.outbox.ageclock import AgeClock
from oda.outbox.change import Totals
from oda.outbox.uptime import Uptime


class Continuity:
    """``reactor`` gives monotonic ``seconds``. ``next_id`` is the id of the next row: who uses it
    counts it on."""

    def __init__(self, reactor: Any, wall_clock: IWallClock, uptime: Uptime) -> None:
        self._reactor = reactor
        self._wall_clock = wall_clock
        self._uptime = uptime
        self._clock = AgeClock(wall_clock.now_ms(), reactor.seconds())
        self._first_id = 1
        self.next_id = 1

    def now_ms(self) -> int:
        """The outbox's own clock, see ``ageclock``."""
        return self._clock.now_ms(self._reactor.seconds())

    def begin_without_store(self) -> None:
        """The store can't be opened now."""
        self._first_id = self.next_id = max(1, self._wall_clock.now_ms()) << 11

    def can_join(self, totals: Totals) -> bool:
        """Whether all rows of a store that could be opened only late are older than those here."""
        return totals.last_id < self._first_id

    def go_on_from(self, totals: Totals) -> None:
        """The store was opened, and there are no rows yet but its own."""
        self.next_id = totals.last_id + 1
        self._clock = AgeClock(
            self._wall_clock.now_ms(),
            self._reactor.seconds(),
            totals.clock_ms,
            totals.wall_ms,
        )

    def off_ms(self, totals: Totals) -> int:
        """For how long no agent ran while the machine did, since ``totals`` were written."""
        return self._uptime.since_ms(totals.boot_id, totals.uptime_ms)

    def enter_into(self, totals: Totals) -> None:
        """Say in ``totals`` where the next process has to go on."""
        totals.last_id = self.next_id - 1
        totals.clock_ms = self.now_ms()
        totals.wall_ms = self._wall_clock.now_ms()
        totals.boot_id = self._uptime.boot_id
        totals.uptime_ms = self._uptime.now_ms()
