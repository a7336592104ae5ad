"""When to connect again: full jitter over a window that doubles.

The first window is one second, so that a failure to connect costs little; each failure doubles it
up to ``max_delay_s``. The count starts again only after a connection has stayed open for
``stable_s``: a platform that accepts and drops at once is not hammered.

A connection that had lasted for ``stable_s`` is different. When it ends, the platform may have
ended all its connections at that moment, and nobody can tell that from an interruption of one's own
network. So the first window after it is ``spread_s`` wide, and doubles from there.

Where every device hears the same at the same moment (a platform that restarts or is overloaded),
the window is a minute and a half from the first time on, so that of ten thousand devices no second
sees more than one in fifty; it doubles from there. Refusals wait a quarter of the window besides:
none must be repeated within moments. An explicit wish of the platform (Retry-After) is a minimum;
what chance adds comes on top of it, because it was given to all of them.

Pure: chance is an argument.
"""

from __future__ import annotations

from collections.abc import Callable

from oda.connector.outcome import Lane, Outcome


class Backoff:
    """Delays between connection attempts, in seconds.

    ``random`` returns a float in [0, 1).
    """

    initial_window_s = 1.0
    crowd_window_s = 90.0
    stable_s = 60.0

    def __init__(
        self, max_delay_s: float, random: Callable[[], float], spread_s: float = 0.0
    ) -> None:
        self.max_delay_s = max_delay_s
        self.spread_s = spread_s
        self._was_stable = False
        self._random = random
        self._window_s = self.initial_window_s

    def connection_stable(self) -> None:
        """The connection has been open for ``stable_s``: forget earlier failures."""
        self._window_s = self.initial_window_s
        self._was_stable = True

    def begin_anew(self) -> None:
        """Nothing that was says anything about the connections to come."""
        self._window_s = self.initial_window_s
        self._was_stable = False

    def next_delay_s(self, outcome: Outcome) -> float:
        """The wait after this outcome, in seconds, in [0, max_delay_s] (plus what the platform
        asked for)."""
        window_s, least_s = self._window_s, 0.0
        if self._was_stable:
            window_s = max(window_s, self.spread_s)
            self._was_stable = False
        if outcome.lane is not Lane.NORMAL:
            window_s = max(window_s, self.crowd_window_s)
        window_s = min(window_s, self.max_delay_s)
        self._window_s = 2 * window_s
        if outcome.lane is Lane.SLOW:
            window_s = min(window_s, self.max_delay_s / 1.25)
            least_s = window_s / 4
        if outcome.retry_after_s is not None:
            least_s = max(least_s, outcome.retry_after_s)
        return least_s + self._random() * window_s
