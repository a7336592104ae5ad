"""The pause between two connections: how long it is, and what the operator is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from oda.connector.backoff import Backoff
from oda.connector.outcome import Outcome
from oda.interfaces import ICounters

_log = Logger()


class Reconnection:
    """Keeps the back-off of one link; ``random`` gives floats in [0, 1)."""

    def __init__(
        self,
        reactor: Any,
        counters: ICounters,
        max_delay_s: float,
        random: Callable[[], float],
        spread_s: float = 0.0,
    ) -> None:
        self._reactor = reactor
        self._counters = counters
        self._backoff = Backoff(max_delay_s, random, spread_s)
        self._stable: Any = None

    def opened(self) -> None:
        """A connection is open; once it has lasted, earlier failures are forgotten."""
        self._backoff.connection_opened()
        self._stable = self._reactor.callLater(Backoff.stable_s, self._became_stable)

    def lost(self) -> None:
        """The open connection is gone."""
        if self._stable is not None:
            self._stable.cancel()
            self._stable = None

    def configure(self, max_delay_s: float, spread_s: float) -> None:
        """From now on, wait at most so long, and spread what may concern all devices so wide."""
        self._backoff.max_delay_s = max_delay_s
        self._backoff.spread_s = spread_s

    def begin_anew(self) -> None:
        """Another platform, or other credentials: earlier failures say nothing about it."""
        self._backoff.begin_anew()

    def schedule(self, outcome: Outcome, connect: Callable[[], None]) -> Any:
        """Call ``connect`` after the pause that ``outcome`` asks for; returns the delayed call."""
        delay_s = self._backoff.next_delay_s(outcome)
        self._counters.observe("reconnect_delay_seconds", delay_s)
        _log.warn(
            "{state}: {reason}{hint}; connecting again in {delay:.1f} s",
            state="connection lost" if outcome.was_open else "no connection",
            reason=outcome.reason,
            hint=outcome.hint,
            delay=delay_s,
        )
        return self._reactor.callLater(delay_s, connect)

    def _became_stable(self) -> None:
        self._stable = None
        self._backoff.begin_anew()
