"""The pause before the next connection attempt: full jitter over windows that double.

The first window is one second, so that a fault of the device's own network costs little. Each
failure doubles the window, up to ``reconnectMaxDelay``. The windows start again at one second only
after a connection has stayed open for ``stable_s``, so that the agent does not hammer a platform
that accepts and drops at once.

The lane of the end (``oda.connector.outcome.LANES``) sets the least width of the window:

- ``PROMPT``: none; only the doubling counts. No other device connects for the same reason.
- ``SPREAD``: ``reconnectSpread``. The platform may have ended all its connections at that moment,
  and nothing distinguishes that from the end of one connection.
- ``CROWD``: a minute and a half. Every device hears the same at the same moment; of ten thousand
  devices, at most one in fifty connects in any one second.
- ``SLOW``: the same, and the pause is at least a quarter of the window, so that the agent does not
  repeat a refused attempt at once.

Windows follow each other without an overlap: a pause first waits out the rest of the window before.
So the devices that lost their platform at one moment come back evenly over each window, also if the
outage ends in the middle of one. Windows overlap only where they have reached
``reconnectMaxDelay``, because no pause is longer than that.

A wish of the platform (Retry-After) is a minimum. The random part is added to it, because the
platform gave the same wish to all its devices.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from oda.connector.current import CurrentSettings
from oda.connector.outcome import Lane, Outcome
from oda.interfaces import ICounters
from oda.log import Logger

_log = Logger()


# -- back-off ------------------------------------------------------------------------------------


class Backoff:
    """Delays between connection attempts, in seconds.

    ``random`` returns a float in [0, 1).
    """

    initial_window_s = 1.0
    crowd_window_s = 90.0
    stable_s = 60.0

    def __init__(self, settings: CurrentSettings, random: Callable[[], float]) -> None:
        self._settings = settings
        self._random = random
        self._window_s = self.initial_window_s
        self._rest_s = 0.0

    def connection_opened(self) -> None:
        """The next end comes at a moment of its own: the last window no longer counts."""
        self._rest_s = 0.0

    def begin_anew(self) -> None:
        """The past says nothing about the connections to come: the connection has been open for
        ``stable_s``, or the next one leads to another platform."""
        self._window_s = self.initial_window_s
        self._rest_s = 0.0

    def next_delay_s(self, outcome: Outcome) -> float:
        """The wait after this outcome, in seconds: at most ``reconnectMaxDelay``, plus what the
        platform asked for."""
        lane = outcome.lane
        max_delay_s = self._settings.now.reconnect_max_delay_s
        window_s = max(self._window_s, self._least_window_s(lane))
        window_s = min(window_s, max_delay_s)
        self._window_s = 2 * window_s
        least_s = min(self._rest_s, max_delay_s - window_s)
        if lane is Lane.SLOW:
            window_s = min(window_s, max_delay_s / 1.25)
            least_s = max(least_s, window_s / 4)
        if outcome.retry_after_s is not None:
            least_s = max(least_s, outcome.retry_after_s)
        chance_s = self._random() * window_s
        self._rest_s = window_s - chance_s
        return least_s + chance_s

    def _least_window_s(self, lane: Lane) -> float:
        if lane is Lane.PROMPT:
            return 0.0
        spread_s = self._settings.now.reconnect_spread_s
        return spread_s if lane is Lane.SPREAD else self.crowd_window_s


#: The log line of a pause at least this long, in seconds, also says how to end the pause.
_LONG_S = 10.0
_HOW_NOW = " ('oda reconnect' or SIGHUP: at once)"


# -- the pause -----------------------------------------------------------------------------------


class Reconnection:
    """The pauses of one link; starts and logs each. ``random`` gives floats in [0, 1)."""

    def __init__(
        self,
        reactor: IReactorTime,
        counters: ICounters,
        settings: CurrentSettings,
        random: Callable[[], float],
    ) -> None:
        self._reactor = reactor
        self._counters = counters
        self._backoff = Backoff(settings, random)
        self._stable: IDelayedCall | None = None

    def opened(self) -> None:
        """A connection is open. Once it has lasted, earlier failures are forgotten."""
        self._backoff.connection_opened()
        self._stable = self._reactor.callLater(Backoff.stable_s, self._became_stable)

    def lost(self) -> None:
        """The open connection is gone."""
        if self._stable is not None:
            self._stable.cancel()
            self._stable = None

    def begin_anew(self) -> None:
        """The platform or the credentials changed: earlier failures say nothing about them."""
        self._backoff.begin_anew()

    def schedule(self, outcome: Outcome, connect: Callable[[], None]) -> IDelayedCall:
        """Call ``connect`` after the pause that ``outcome`` asks for; returns the delayed call."""
        delay_s = self._backoff.next_delay_s(outcome)
        self._counters.observe("reconnect_delay_seconds", delay_s)
        _log.warn(
            "{state}: {reason}{hint}; connecting again in {delay:.1f} s{how_now}",
            state="connection lost" if outcome.was_open else "no connection",
            reason=outcome.reason,
            hint=outcome.hint,
            delay=delay_s,
            how_now=_HOW_NOW if delay_s >= _LONG_S else "",
        )
        return self._reactor.callLater(delay_s, connect)

    def _became_stable(self) -> None:
        self._stable = None
        self._backoff.begin_anew()
