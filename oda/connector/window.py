"""How many bytes may be on their way: as many as the link carries in little time.

On a slow link whatever is written waits in queues before it is sent: a ping, the answer to an
operation, the datapoint of this second. The window keeps that wait short. It begins small and
doubles with each answered ping as long as the link keeps up, on a quick link eightfold; then it
follows the measured rate::

    window = rate x (shortest round trip + queue)

``rate`` is how fast bytes were proven to arrive while the window was full, the best of the last
three samples: one pong that was held up says nothing about the link. Pongs that come closer
together than their pings can have arrived are one sample: all of them were held up. ``queue`` is a
tenth of the pong's time limit, at most ``MAX_QUEUE_S``. Where the round trip is long it is at least
``PIPE`` of that: a quarter of the window is covered by each ping and comes back with its pong, and
with less in the queue the link would stand still until then.

A window that is not used shrinks again: the link may be another one when the next backlog comes.

Pure.
"""

from __future__ import annotations

from collections import deque

#: The window at the beginning, and the least, in bytes of payload. One message may exceed it.
FIRST_BYTES = 2048
LEAST_BYTES = 1024
#: The longest queue in front of what is written now, in seconds.
MAX_QUEUE_S = 3.0
#: Pings that may be on their way at once: each covers that part of the window.
PINGS = 4
PIPE = 0.4
_SAMPLES = 3
#: How much the window grows at the most with one pong, and with one that came within ``_QUICK_S``.
_GROWTH = 2.0
_QUICK_GROWTH = 8.0
_QUICK_S = 0.1
#: A window of so many times what was on its way is large enough for a link that is not busy.
_SPARE = 4


class SendWindow:
    """The window of one connection, at most ``max_bytes``; ``pong_timeout_s`` is the pong's time
    limit."""

    def __init__(self, max_bytes: int, pong_timeout_s: float) -> None:
        self._max_bytes = max_bytes
        self.pong_timeout_s = pong_timeout_s
        self.size_bytes = min(FIRST_BYTES, max_bytes)
        self._rates: deque[float] = deque(maxlen=_SAMPLES)
        self._sample = (0.0, 0)  # how long the last one took, and its bytes
        self._shortest_s: float | None = None
        self._growth = _GROWTH
        self._since_s = 0.0
        self._was_full = False
        #: Whether it is the link that keeps the window as small as it is.
        self.follows_link = False

    @property
    def step_bytes(self) -> int:
        """After so many bytes a ping is worth sending."""
        return max(1, self.size_bytes // PINGS)

    @property
    def is_narrow(self) -> bool:
        """Whether the link is known to carry less than the window could be."""
        return bool(self._rates) and self.size_bytes < self._max_bytes

    def ping_after(self, most: int) -> int:
        """After so many bytes a ping is due, at the latest after ``most``: soon where the window is
        full or narrow, because its pong is what more can be sent after."""
        if self._was_full or self.is_narrow:
            return min(most, self.step_bytes)
        return most

    def filled(self) -> None:
        """More could have been sent if the window were larger."""
        self._was_full = True

    def begins(self, now_s: float) -> None:
        """The first bytes are sent after nothing was on its way."""
        self._since_s = now_s

    def round_trip(self, seconds: float) -> None:
        """A ping was answered after so long."""
        self._growth = _QUICK_GROWTH if seconds <= _QUICK_S else _GROWTH
        if self._shortest_s is None or seconds < self._shortest_s:
            self._shortest_s = seconds

    def proven(self, now_s: float, size: int) -> None:
        """A pong has proven that ``size`` bytes more have arrived."""
        since_s, self._since_s = self._since_s, now_s
        was_full, self._was_full = self._was_full, False
        if not size:
            return
        if not was_full:
            self._rates.clear()
            self.follows_link = False
            spare = max(self.size_bytes // 2, _SPARE * size)
            self.size_bytes = max(min(FIRST_BYTES, self._max_bytes), min(self.size_bytes, spare))
            return
        round_trip_s = self._shortest_s or 0.0
        took_s = now_s - since_s
        if self._rates and took_s < round_trip_s / PINGS:
            self._rates.pop()
            took_s, size = took_s + self._sample[0], size + self._sample[1]
        self._sample = took_s, size
        self._rates.append(size / max(took_s, 1e-6))
        queue_s = max(min(MAX_QUEUE_S, self.pong_timeout_s / 10), PIPE * round_trip_s)
        carried = max(self._rates) * (round_trip_s + queue_s)
        grown = min(self._growth * self.size_bytes, float(self._max_bytes))
        # The first sample after a time of little traffic says too little.
        self.follows_link = len(self._rates) == _SAMPLES and carried < grown
        wanted = min(carried, grown)
        self.size_bytes = max(min(LEAST_BYTES, self._max_bytes), int(wanted))

    def interrupted(self) -> None:
        """Reading stood still: what comes now tells nothing about the link."""
        self._was_full = False
