"""When to connect again: full jitter over a window that doubles.

The first window is one second, so that a short interruption costs little; each failure doubles it
up to ``max_delay_s``. The count starts again only after a connection has stayed open for
``stable_s``: a platform that accepts and drops at once is not hammered. Refused credentials and
overload start at a wider window, and an explicit wish of the platform (Retry-After) is a minimum.

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
    slow_window_s = 60.0
    stable_s = 60.0

    def __init__(self, max_delay_s: float, random: Callable[[], float]) -> None:
        self.max_delay_s = max_delay_s
        self._random = random
        self.failures = 0

    def connection_stable(self) -> None:
        """The connection has been open for ``stable_s``: forget earlier failures."""
        self.failures = 0

    def next_delay_s(self, outcome: Outcome) -> float:
        """The wait after this outcome, in seconds, in [0, max_delay_s] (plus what the platform
        asked for)."""
        window_s = self.initial_window_s * 2.0 ** min(self.failures, 32)
        if outcome.lane is Lane.SLOW:
            window_s = max(window_s, self.slow_window_s)
        self.failures += 1
        window_s = min(window_s, self.max_delay_s)
        if outcome.lane is Lane.SLOW:
            # Half fixed, half chance: a refusal must never be repeated within moments.
            delay_s = window_s / 2 + self._random() * window_s / 2
        else:
            delay_s = self._random() * window_s
        if outcome.retry_after_s is not None:
            delay_s = max(delay_s, outcome.retry_after_s * (1.0 + 0.1 * self._random()))
        return delay_s
