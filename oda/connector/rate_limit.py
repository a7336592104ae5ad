"""A token bucket: a rate that short bursts may exceed. Pure; time is an argument."""

from __future__ import annotations


class TokenBucket:
    """``rate_per_s`` tokens arrive every second, and at most ``burst`` are kept. It starts full.

    ``now_s`` is the same monotonic clock at every call, in seconds.
    """

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = burst
        self._seen_s: float | None = None

    def available(self, now_s: float) -> int:
        """How many whole tokens there are."""
        if self._seen_s is not None:
            came = (now_s - self._seen_s) * self._rate_per_s
            self._tokens = min(self._burst, self._tokens + came)
        self._seen_s = now_s
        # A wait of exactly ``wait_s`` must suffice, whatever floating point has made of it.
        return int(self._tokens + 1e-6)

    def spend(self, tokens: int) -> None:
        """Take tokens away; tokens that are missing are owed."""
        self._tokens -= tokens

    def wait_s(self, now_s: float) -> float:
        """How long until there is a whole token, in seconds; 0 if there is one now."""
        if self.available(now_s) >= 1:
            return 0.0
        return (1.0 - self._tokens) / self._rate_per_s
