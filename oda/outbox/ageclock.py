"""A clock for ages: milliseconds that only the passing of time moves.

The time of day of a device may be set by years in one step, and a step must not make every row too
old. So ages are measured on a clock that starts at the time of day, runs with the monotonic clock,
and is carried over a restart. The time the device was off counts where the time of day before and
after can be believed; where it can't, the clock goes on from where it stood.

Pure: the readings of both clocks are passed in.
"""

from __future__ import annotations

#: Earlier times of day come from a device that doesn't know the time (2020-01-01T00:00:00Z).
_BELIEVABLE_MS = 1_577_836_800_000


class AgeClock:
    """``wall_ms`` and ``monotonic_s`` are the readings at start; ``last_ms`` and ``last_wall_ms``
    what was kept of the run before, 0 when there was none."""

    def __init__(
        self, wall_ms: int, monotonic_s: float, last_ms: int = 0, last_wall_ms: int = 0
    ) -> None:
        self._started_s = monotonic_s
        if not last_ms:
            self._base_ms = wall_ms
        elif last_wall_ms >= _BELIEVABLE_MS and wall_ms >= last_wall_ms:
            self._base_ms = last_ms + wall_ms - last_wall_ms
        else:
            self._base_ms = last_ms

    def now_ms(self, monotonic_s: float) -> int:
        """The clock's reading; never less than an earlier one."""
        return self._base_ms + int((monotonic_s - self._started_s) * 1000)
