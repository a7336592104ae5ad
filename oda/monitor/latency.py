"""How late the reactor is. A blocked reactor serves nothing, so its lateness shows its health.

All agents of a process share one measurement: with a timer for each, a thousand agents at rest
would wake the process a thousand times a second.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.task import LoopingCall

from oda.interfaces import ICounters

#: The interval of measurements, in seconds, and how many of them count for the worst.
INTERVAL_S = 1.0
_KEPT = 300


class _Meter:
    """Measures how late ``clock`` calls, while anybody is in ``listeners``."""

    def __init__(self, clock: Any) -> None:
        self.listeners: list[ICounters] = []
        self.recent: deque[float] = deque(maxlen=_KEPT)
        self._clock = clock
        self._loop = LoopingCall(self._measure)
        self._loop.clock = clock
        self._due_s = 0.0

    def add(self, counters: ICounters) -> None:
        """Tell these counters of each measurement."""
        self.listeners.append(counters)
        if not self._loop.running:
            self._due_s = self._clock.seconds() + INTERVAL_S
            self._loop.start(INTERVAL_S, now=False)

    def remove(self, counters: ICounters) -> None:
        """Tell them no more; the last ones end the measurement."""
        self.listeners = [one for one in self.listeners if one is not counters]
        if not self.listeners:
            self._loop.stop()

    def _measure(self) -> None:
        now_s = self._clock.seconds()
        late_s = max(0.0, now_s - self._due_s)
        self.recent.append(late_s)
        for counters in self.listeners:
            counters.observe("reactor_latency_seconds", late_s)
        # LoopingCall keeps to its grid, and does not make up for missed calls.
        missed = int(late_s / INTERVAL_S)
        self._due_s += (1 + missed) * INTERVAL_S


#: The meters that run, by their reactors.
_METERS: dict[Any, _Meter] = {}


class ReactorLatency:
    """Measures, every ``INTERVAL_S`` seconds of ``clock``, how late the reactor calls.

    ``last_s`` is the newest measurement, ``max_s`` the worst of the last five minutes.
    """

    def __init__(self, clock: Any, counters: ICounters) -> None:
        self._clock = clock
        self._counters = counters
        self._meter: _Meter | None = None
        self._is_running = False

    @property
    def last_s(self) -> float:
        return self._meter.recent[-1] if self._meter and self._meter.recent else 0.0

    @property
    def max_s(self) -> float:
        return max(self._meter.recent, default=0.0) if self._meter else 0.0

    def start(self) -> None:
        """Start measuring."""
        if not self._is_running:
            self._is_running = True
            self._meter = _METERS.setdefault(self._clock, self._meter or _Meter(self._clock))
            self._meter.add(self._counters)

    def stop(self) -> None:
        """Stop; the measurements stay."""
        if self._is_running and self._meter is not None:
            self._is_running = False
            self._meter.remove(self._counters)
            if not self._meter.listeners:
                del _METERS[self._clock]
