"""How much may be in flight at once, and how much of that the network has taken.

*What the network has taken* (``Uplink``). A pong says that the platform has read something, but on
a slow link its ping waits behind everything that was written before. Long before the pong, the TCP
of the other side acknowledges bytes. As long as it does, the connection is alive, however long a
message takes. Linux reports the acknowledged bytes in ``TCP_INFO``, and the bytes left with
``SIOCOUTQ`` (tcp(7)); elsewhere they are unknown, and ``Uplink`` says so.

*How much may be in flight* (``SendWindow``): as many bytes as the link carries in a short time. On
a slow link everything that is written waits in queues before it is sent: a ping, the answer to an
operation, the newest datapoint. The window keeps that wait short. It starts small. While the link
keeps up, it doubles with each answered ping, or grows eightfold on a quick link. Then it follows
the measured rate::

    window = rate x (shortest round trip + queue)

``rate`` is how fast bytes provably arrived while the window was full: the best of the last three
samples, because one delayed pong says nothing about the link. Pongs that arrive closer together
than their pings can have arrived are one sample, since all of them were delayed. ``queue`` is a
tenth of the pong's time limit, at most ``MAX_QUEUE_S``. If the round trip is long, ``queue`` is at
least ``PIPE`` of it: each ping covers a quarter of the window, which becomes free only with its
pong. With less in the queue the link would be idle until then.

A window that is not used shrinks again, because the next backlog may meet another link.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from typing import Any, NamedTuple

from oda.connector.current import CurrentSettings

# -- what the network has taken ------------------------------------------------------------------


#: ``tcpi_bytes_acked`` in ``struct tcp_info`` (linux/tcp.h): bytes acknowledged, since Linux 4.1.
_BYTES_ACKED = struct.Struct("@Q")
_BYTES_ACKED_AT = 120
_TCP_INFO_BYTES = _BYTES_ACKED_AT + _BYTES_ACKED.size


class Taken(NamedTuple):
    """The other side's TCP has acknowledged ``acknowledged`` bytes of a connection; ``is_all`` if
    that is everything given to the network."""

    acknowledged: int
    is_all: bool


def taken_bytes(transport: Any) -> Taken | None:
    """What the network has taken of the bytes written to a connection; None where that is
    unknown."""
    option = getattr(socket, "TCP_INFO", None)
    connection: Any = getattr(transport, "socket", None)  # it may be a ``NotingSocket``
    if option is None or not hasattr(connection, "getsockopt"):
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, option, _TCP_INFO_BYTES)
        left = fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4))
    except OSError:
        return None
    if len(info) < _TCP_INFO_BYTES:
        return None
    return Taken(_BYTES_ACKED.unpack_from(info, _BYTES_ACKED_AT)[0], not any(left))


class Uplink:
    """The progress of one connection. ``read`` returns what the network has taken, and is called
    only when a caller asks here. ``seconds`` is the reactor's clock."""

    def __init__(self, read: Callable[[], Taken | None], seconds: Callable[[], float]) -> None:
        self._read = read
        self._seconds = seconds
        self._taken = read()
        self._since_s = seconds()

    def progress_s(self) -> float | None:
        """The time of the last progress, or of the first look; None where progress is unknown."""
        now = self._read()
        if now is None:
            return None
        before, self._taken = self._taken, now
        # New bytes to take are not progress; only new acknowledgements are.
        if before is None or now.acknowledged != before.acknowledged:
            self._since_s = self._seconds()
        return self._since_s

    @property
    def is_waiting(self) -> bool:
        """Whether something was left for the network to take at the last look; False where that is
        unknown."""
        return self._taken is not None and not self._taken.is_all

    @property
    def is_all_taken(self) -> bool:
        """Whether nothing was left for the network to take at the last look; False where that is
        unknown."""
        return self._taken is not None and self._taken.is_all


# -- the window ----------------------------------------------------------------------------------


#: The initial window, and the smallest, in bytes of payload. One message may exceed it.
FIRST_BYTES = 2048
LEAST_BYTES = 1024
#: The longest queue in front of newly written bytes, in seconds.
MAX_QUEUE_S = 3.0
#: Pings that may be in flight at once; each covers that part of the window.
PINGS = 4
PIPE = 0.4
_SAMPLES = 3
#: The most that the window grows with one pong, and with one that took at most ``_QUICK_S``.
_GROWTH = 2.0
_QUICK_GROWTH = 8.0
_QUICK_S = 0.1
#: Size of the window of a link that is not busy, as a multiple of the bytes in flight.
_SPARE = 4


class SendWindow:
    """The window of one connection, at most ``max_bytes``."""

    def __init__(self, max_bytes: int, settings: CurrentSettings) -> None:
        self._max_bytes = max_bytes
        self._settings = settings
        self.size_bytes = min(FIRST_BYTES, max_bytes)
        self._rates: list[float] = []
        self._sample = (0.0, 0)  # how long the last one took, and its bytes
        self._shortest_s: float | None = None
        self._growth = _GROWTH
        self._since_s = 0.0
        self._was_full = False
        #: Whether the link is what keeps the window at its size.
        self.follows_link = False

    @property
    def step_bytes(self) -> int:
        """Number of bytes after which a ping is worth sending."""
        return max(1, self.size_bytes // PINGS)

    @property
    def is_narrow(self) -> bool:
        """Whether the link is known to carry less than the largest window."""
        return bool(self._rates) and self.size_bytes < self._max_bytes

    def ping_after(self, most: int) -> int:
        """Number of bytes after which a ping is due, at most ``most``: few if the window is full or
        narrow, because then only a pong makes room for more."""
        if self._was_full or self.is_narrow:
            return min(most, self.step_bytes)
        return most

    def filled(self) -> None:
        """A larger window would have let the session send more."""
        self._was_full = True

    def begins(self, now_s: float) -> None:
        """The first bytes are sent after nothing was in flight."""
        self._since_s = now_s

    def round_trip(self, seconds: float) -> None:
        """A ping was answered after ``seconds``."""
        self._growth = _QUICK_GROWTH if seconds <= _QUICK_S else _GROWTH
        if self._shortest_s is None or seconds < self._shortest_s:
            self._shortest_s = seconds

    def proven(self, now_s: float, size: int) -> None:
        """A pong has proven that another ``size`` bytes have arrived."""
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
        self._rates = [*self._rates[1 - _SAMPLES :], size / max(took_s, 1e-6)]
        pong_timeout_s = self._settings.now.pong_timeout_s
        queue_s = max(min(MAX_QUEUE_S, pong_timeout_s / 10), PIPE * round_trip_s)
        carried = max(self._rates) * (round_trip_s + queue_s)
        grown = min(self._growth * self.size_bytes, float(self._max_bytes))
        # The first sample after little traffic says too little.
        self.follows_link = len(self._rates) == _SAMPLES and carried < grown
        wanted = min(carried, grown)
        self.size_bytes = max(min(LEAST_BYTES, self._max_bytes), int(wanted))

    def interrupted(self) -> None:
        """Reading was held: the pongs that follow say nothing about the link."""
        self._was_full = False
