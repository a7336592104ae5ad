"""The clock of arrivals: milliseconds that only the passing of time advances.

The time of day of a device may jump by years, in both directions. So the age of a value is measured
on a clock that follows the monotonic clock and continues over a restart:

- If the machine stayed on, its uptime says how long no agent ran.
- If the machine was off, the time of day says so, provided that the readings before and after are
  believable. Otherwise the clock continues from its last reading: rather than losing values, the
  agent keeps them too long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from oda.interfaces import IWallClock

#: Earlier times of day come from a device that doesn't know the time (2020-01-01T00:00:00Z).
_BELIEVABLE_MS = 1_577_836_800_000


class ClockReading(NamedTuple):
    """All clocks at one moment; ``boot_id`` names the boot of the machine, "" if unknown."""

    age_ms: int
    wall_ms: int
    boot_id: str
    uptime_ms: int


class ArrivalClock:
    """``monotonic_s`` is the reactor's ``seconds``, which all processes of one boot (``boot_id``)
    share."""

    def __init__(
        self, monotonic_s: Callable[[], float], wall_clock: IWallClock, boot_id: str = ""
    ) -> None:
        self._monotonic_s = monotonic_s
        self._wall_clock = wall_clock
        self._boot_id = boot_id
        self._base_ms = -self._uptime_ms()

    def now_ms(self) -> int:
        """The clock's reading; never less than an earlier one."""
        return self._base_ms + self._uptime_ms()

    def reading(self) -> ClockReading:
        """The reading that ``go_on_from`` of a later process needs."""
        return ClockReading(
            self.now_ms(), self._wall_clock.now_ms(), self._boot_id, self._uptime_ms()
        )

    def go_on_from(self, last: ClockReading | None, newest_ms: int) -> None:
        """Continue the clock of an earlier process; ``newest_ms`` is the last arrival on it."""
        now_ms = newest_ms
        if last is not None:
            now_ms = max(newest_ms, last.age_ms + self._elapsed_ms(last))
        self._base_ms = now_ms - self._uptime_ms()

    def is_off(self, last: ClockReading | None, tolerance_ms: int) -> bool:
        """Whether ``last`` no longer relates the clocks to each other: it is missing or old, or the
        time of day was set since then."""
        if last is None:
            return True
        now = self.reading()
        aged_ms = now.age_ms - last.age_ms
        stepped_ms = abs(now.wall_ms - last.wall_ms - aged_ms)
        return aged_ms > tolerance_ms or stepped_ms > tolerance_ms

    def _elapsed_ms(self, last: ClockReading) -> int:
        if last.boot_id and last.boot_id == self._boot_id:
            return max(0, self._uptime_ms() - last.uptime_ms)
        if last.wall_ms < _BELIEVABLE_MS:
            return 0
        return max(0, self._wall_clock.now_ms() - last.wall_ms)

    def _uptime_ms(self) -> int:
        return int(self._monotonic_s() * 1000)
