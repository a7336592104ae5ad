"""Whether the device's own network ended a connection.

Twisted reports a timeout and a reset by the other side with the same ``ConnectionLost``, so
``NotingSocket`` notes the error number where it arises: in the socket. A connection can also end
because the device changes its network: another interface, another address. That shows in the
kernel's routes, which the agent asks for without sending anything.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

#: What the kernel reports of this side's network (``man 7 ip``, ``man 7 tcp``). ECONNABORTED means
#: that something on this machine ended the connection, as network managers do with an old address.
OWN_NETWORK = frozenset(
    {
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.EADDRNOTAVAIL,
        errno.ENODEV,
        errno.ECONNABORTED,
    }
)
#: The agent asks for the route to this port (discard), and sends nothing there.
_ANY_PORT = 9


class NotingSocket:
    """Stands in for the ``inner`` socket of a Twisted transport, and keeps the number of the last
    error of ``recv`` or ``send``."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.error_number: int | None = None

    def recv(self, size: int) -> bytes:
        """As a socket's."""
        try:
            data: bytes = self._inner.recv(size)
        except OSError as error:
            self.error_number = error.errno
            raise
        return data

    def send(self, data: bytes) -> int:
        """As a socket's."""
        try:
            sent: int = self._inner.send(data)
        except OSError as error:
            self.error_number = error.errno
            raise
        return sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Route:
    """Follows one connection from ``follow`` to its end."""

    def __init__(self, open_socket: Callable[[int, int], socket.socket] = socket.socket) -> None:
        self._open_socket = open_socket
        self._noting: NotingSocket | None = None
        self._local = self._peer = ""

    def follow(self, transport: Any) -> None:
        """The connection is up. A transport without a kernel socket is not followed."""
        lower = getattr(transport, "transport", transport)  # below TLS
        if not hasattr(lower, "socket"):
            return
        self._noting = lower.socket = NotingSocket(lower.socket)
        self._local, self._peer = lower.getHost().host, lower.getPeer().host

    def fault(self) -> str | None:
        """What was wrong with the device's network when the connection ended, for a log line; None
        if nothing was."""
        if self._noting is None:
            return None
        number = self._noting.error_number
        if number in OWN_NETWORK:
            return os.strerror(number)
        return route_fault(self._local, self._peer, self._open_socket)


def route_fault(
    local: str,
    peer: str,
    open_socket: Callable[[int, int], socket.socket] = socket.socket,
) -> str | None:
    """Why a connection from ``local`` to ``peer`` (IP addresses) could not continue; None if it
    could."""
    family = socket.AF_INET6 if ":" in peer else socket.AF_INET
    try:
        with open_socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((local, 0))
        with open_socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((peer, _ANY_PORT))
            now = probe.getsockname()[0]
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            return f"this device's address is no longer {local}"
        return os.strerror(error.errno) if error.errno in OWN_NETWORK else None
    # With IPv6 another source address says nothing: temporary addresses change (RFC 8981).
    if family == socket.AF_INET and now != local:
        return f"this device now connects from {now}, not from {local}"
    return None
