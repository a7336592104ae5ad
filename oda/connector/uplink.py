"""How far the network has taken what a connection has written.

A pong tells that the platform has read something; on a slow link its ping waits behind everything
that was written before. Long before the pong, the TCP of the other side acknowledges bytes. As long
as it does, the connection is alive, however long a message takes.

Linux tells how many in ``TCP_INFO``, and with ``SIOCOUTQ`` how many are left (tcp(7)); elsewhere
that is not known, and ``Uplink`` says so.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from typing import Any, NamedTuple

#: ``tcpi_bytes_acked`` in ``struct tcp_info`` (linux/tcp.h): bytes acknowledged, since Linux 4.1.
_BYTES_ACKED = struct.Struct("@Q")
_BYTES_ACKED_AT = 120
_TCP_INFO_BYTES = _BYTES_ACKED_AT + _BYTES_ACKED.size


class Taken(NamedTuple):
    """``acknowledged`` bytes of a connection were taken by the other side's TCP; ``is_all`` when no
    more were given to the network."""

    acknowledged: int
    is_all: bool


def taken_bytes(transport: Any) -> Taken | None:
    """What the network has taken of what was written to a connection; None where that can't be
    known."""
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
    """The progress of one connection. ``read`` gives what the network has taken; it is asked only
    when somebody asks here. ``seconds`` is the reactor's clock."""

    def __init__(self, read: Callable[[], Taken | None], seconds: Callable[[], float]) -> None:
        self._read = read
        self._seconds = seconds
        self._taken = read()
        self._since_s = seconds()

    def progress_s(self) -> float | None:
        """The time at which progress was last seen, or of the first look; None where nothing is
        known about it."""
        now = self._read()
        if now is None:
            return None
        before, self._taken = self._taken, now
        # What was written since is left to be taken, too: that is no progress.
        if before is None or now.acknowledged != before.acknowledged:
            self._since_s = self._seconds()
        return self._since_s

    @property
    def is_waiting(self) -> bool:
        """Whether something was left for the network to take at the last look; False where that is
        not known."""
        return self._taken is not None and not self._taken.is_all

    @property
    def is_all_taken(self) -> bool:
        """Whether nothing was left for the network to take at the last look; False where that is
        not known."""
        return self._taken is not None and self._taken.is_all
