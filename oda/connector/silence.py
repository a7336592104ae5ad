"""How long a silent connection lives, learnt from those that died.

Load balancers, proxies and NATs end a connection on which nothing was sent for a while; many do so
without a word, and only the next ping finds out. When two connections in a row to the same address
end after about the same time of silence, pings go out twice as often as that from then on, until
that is often enough or ``FLOOR_S`` is reached. The configured ``keepAliveInterval`` is the upper
limit. What was learnt holds as long as the process runs.

Pure but for the log.
"""

from __future__ import annotations

from twisted.logger import Logger

_log = Logger()

#: No ping goes out more often than this because of what was learnt, in seconds.
FLOOR_S = 15.0
#: An end after less silence than this had another reason, in seconds.
_LEAST_S = 20.0
#: Two silences are about the same when they differ by no more than this part.
_LIKENESS = 0.2


class Silence:
    """What is known of one address. ``keep_alive_s`` is the longest time that should pass between
    two pings, None where nothing was learnt."""

    def __init__(self) -> None:
        self.keep_alive_s: float | None = None
        self._before_s: float | None = None

    def interval_s(self, configured_s: float) -> float:
        """How often to ping where ``configured_s`` is the upper limit."""
        return configured_s if self.keep_alive_s is None else min(configured_s, self.keep_alive_s)

    def ended(self, silence_s: float | None, configured_s: float) -> None:
        """A connection has ended: after so much silence without a word, or (None) otherwise."""
        before_s, self._before_s = self._before_s, silence_s
        if silence_s is None or silence_s < _LEAST_S:
            self._before_s = None
            return
        if before_s is None or abs(before_s - silence_s) > _LIKENESS * max(before_s, silence_s):
            return
        learnt_s = max(FLOOR_S, min(before_s, silence_s) / 2)
        if learnt_s >= self.interval_s(configured_s):
            return
        self.keep_alive_s = learnt_s
        self._before_s = None
        _log.warn(
            "two connections in a row ended after {silence:.0f} s of silence: a ping goes out every"
            " {interval:.0f} s instead of {configured:.0f} s",
            silence=silence_s,
            interval=learnt_s,
            configured=configured_s,
        )
