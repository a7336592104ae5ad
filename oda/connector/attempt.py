"""One attempt to connect: name, TCP, TLS and upgrade under one time limit.

The host's addresses (IPv6 and IPv4) are tried one after the other, beginning with another one
each time, so that a dead address can't keep the agent away from a living one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import NotConnectingError
from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.logger import Logger
from twisted.python.failure import Failure

from oda.connector.outcome import Outcome
from oda.connector.protocol import PlatformProtocol
from oda.connector.resolution import AddressCollector

_log = Logger()


class ConnectionAttempt:
    """From ``start()`` to exactly one of ``opened()`` (told by the owner) and ``failed``.

    ``open_socket(address)`` starts the TCP connection and returns Twisted's connector;
    ``failed(outcome)`` is called when no address worked or the limit passed.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        timeout_s: float,
        offset: int,
        open_socket: Callable[[str], Any],
        failed: Callable[[Outcome], None],
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._timeout_s = timeout_s
        self._offset = offset
        self._open_socket = open_socket
        self._failed = failed
        self._addresses: list[str] = []
        self._connector: Any = None
        self._limit: Any = None
        self._over = False
        self.protocol: PlatformProtocol | None = None
        self.stage = "looking up the name"

    def start(self) -> None:
        """Begin; the time limit starts now."""
        self._limit = self._reactor.callLater(self._timeout_s, self._expire)
        self._guard(self._resolve)

    def _resolve(self) -> None:
        if IReactorPluggableNameResolver.providedBy(self._reactor):
            self._reactor.nameResolver.resolveHostName(
                AddressCollector(self._resolved), self._host, self._port
            )
        else:
            self._resolved([self._host])

    def connect_failed(self, reason: Failure) -> None:
        """The TCP connection to the current address could not be made."""
        if not self._over:
            if self._addresses:
                self._next_address()
            else:
                self._end(reason.getErrorMessage().rstrip("."))

    def connected(self, protocol: PlatformProtocol) -> None:
        """TCP is up; TLS and the upgrade follow."""
        self.protocol = protocol
        self.stage = "waiting for the answer to the upgrade"

    def opened(self) -> None:
        """The WebSocket is open: the attempt has succeeded and its limit is over."""
        self._over = True
        self._cancel_limit()

    def cancel(self) -> None:
        """Stop without calling ``failed``; closes whatever is half open."""
        self._over = True
        self._cancel_limit()
        self._drop("the agent is stopping")

    def lost(self) -> None:
        """The socket closed before the upgrade: the owner knows why, the limit is over."""
        self._over = True
        self._cancel_limit()

    def _resolved(self, addresses: list[str]) -> None:
        if self._over:
            return
        if not addresses:
            self._end(f"can't find the address of {self._host}")
            return
        start = self._offset % len(addresses)
        self._addresses = addresses[start:] + addresses[:start]
        self._next_address()

    def _next_address(self) -> None:
        self.stage = "opening the TCP connection"
        self._guard(self._open_next)

    def _open_next(self) -> None:
        self._connector = self._open_socket(self._addresses.pop(0))

    def _guard(self, step: Callable[[], None]) -> None:
        """Whatever a reactor or resolver raises ends this attempt, not the agent's attempts."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - nobody else would begin the next attempt
            _log.failure("a defect while connecting")
            if not self._over:
                self._end(f"a defect while {self.stage} ({type(error).__name__})")

    def _expire(self) -> None:
        self._limit = None
        reason = f"not open within {self._timeout_s:g} s (while {self.stage})"
        if self.protocol is not None:
            self.protocol.abort(reason)  # its end comes through the protocol
            return
        self._end(reason)
        self._drop(reason)

    def _end(self, reason: str) -> None:
        self._over = True
        self._cancel_limit()
        self._failed(Outcome(reason=reason))

    def _drop(self, reason: str) -> None:
        if self.protocol is not None:
            self.protocol.abort(reason)
        elif self._connector is not None:
            try:
                self._connector.stopConnecting()
            except NotConnectingError:
                self._connector.disconnect()

    def _cancel_limit(self) -> None:
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        self._limit = None
