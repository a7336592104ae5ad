"""How late the reactor is. A blocked reactor serves nothing, so its lateness shows its health."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.task import LoopingCall

from oda.interfaces import ICounters

#: The interval of measurements, in seconds, and how many of them count for the worst.
INTERVAL_S = 1.0
_KEPT = 300


class ReactorLatency:
    """Measures, every ``INTERVAL_S`` seconds of ``clock``, how late the reactor calls it.

    ``last_s`` is the newest measurement, ``max_s`` the worst of the last five minutes.
    """

    def __init__(self, clock: Any, counters: ICounters) -> None:
        self._clock = clock
        self._counters = counters
        self._loop = LoopingCall(self._measure)
        self._loop.clock = clock
        self._due_s = 0.0
        self._recent: deque[float] = deque(maxlen=_KEPT)

    @property
    def last_s(self) -> float:
        return self._recent[-1] if self._recent else 0.0

    @property
    def max_s(self) -> float:
        return max(self._recent, default=0.0)

    def start(self) -> None:
        """Start measuring."""
        self._due_s = self._clock.seconds() + INTERVAL_S
        self._loop.start(INTERVAL_S, now=False)

    def stop(self) -> None:
        """Stop; the measurements stay."""
        if self._loop.running:
            self._loop.stop()

    def _measure(self) -> None:
        now_s = self._clock.seconds()
        late_s = max(0.0, now_s - self._due_s)
        self._recent.append(late_s)
        self._counters.observe("reactor_latency_seconds", late_s)
        # LoopingCall keeps to its grid, and does not make up for missed calls.
        missed = int(late_s / INTERVAL_S)
        self._due_s += (1 + missed) * INTERVAL_S
