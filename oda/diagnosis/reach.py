"""The steps before the WebSocket: the name's addresses, TCP, and the TLS handshake.

These connections carry nothing but the handshake, and so no secret.
"""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, TimeoutError
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.connector.resolution import AddressCollector
from oda.diagnosis.certificates import Certificate, read_certificate
from oda.errors import ConnectorError
from oda.verification import CertificateRefused, describe_tls


class Unreachable(ConnectorError):  # noqa: N818 - named like those of oda.errors
    """There is no connection. ``is_tls``: TCP worked, and the handshake failed."""

    def __init__(self, text: str, is_tls: bool, error: BaseException) -> None:
        self.is_tls = is_tls
        self.error = error
        super().__init__(text)


class Reached(msgspec.Struct, frozen=True):
    """A connection that opened; the last three members are empty without TLS."""

    tcp_s: float
    tls_s: float = 0.0
    tls_version: str = ""
    certificate: Certificate | None = None


def resolve(reactor: Any, host: str, port: int, timeout_s: float) -> Deferred[list[str]]:
    """Fires with the host's addresses, [] if there are none; fails with ``TimeoutError`` (of
    ``twisted.internet.defer``)."""
    done: Deferred[list[str]] = Deferred()

    def found(addresses: list[str]) -> None:
        if not done.called:
            done.callback(addresses)

    reactor.nameResolver.resolveHostName(AddressCollector(found), host, port)
    return done.addTimeout(timeout_s, reactor)


def reach(reactor: Any, address: str, port: int, tls: Any, timeout_s: float) -> Deferred[Reached]:
    """Connect to an IP address and hang up. With ``tls``, an ``IOpenSSLClientConnectionCreator``,
    do the handshake in between.

    Fails with ``Unreachable``; TCP and TLS together may take ``timeout_s``. May be cancelled.
    """
    return _Reaching(reactor, timeout_s).begin(address, port, tls)


class _Reaching(ClientFactory):
    noisy = False

    def __init__(self, reactor: Any, timeout_s: float) -> None:
        self.reactor = reactor
        self._began_s = reactor.seconds()
        self.tcp_s: float | None = None
        self.protocol_in_use: _Handshake | None = None
        self._connector: Any = None
        self._done: Deferred[Reached] = Deferred(lambda _: self._hang_up())
        self._limit = reactor.callLater(timeout_s, self._expire)

    def begin(self, address: str, port: int, tls: Any) -> Deferred[Reached]:
        timeout_s = self._limit.getTime() - self._began_s + 1
        if tls is None:
            self._connector = self.reactor.connectTCP(address, port, self, timeout_s)
        else:
            self._connector = self.reactor.connectSSL(address, port, self, tls, timeout_s)
        self.is_secure = tls is not None
        return self._done

    def elapsed_s(self) -> float:
        return float(self.reactor.seconds() - self._began_s)

    def buildProtocol(self, addr: Any) -> Protocol:
        protocol = _SecureHandshake(self) if self.is_secure else _Handshake(self)
        protocol.factory = self
        self.protocol_in_use = protocol
        return protocol

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self.failed(reason)

    def succeeded(self, reached: Reached) -> None:
        self._cancel_limit()
        if not self._done.called:
            self._done.callback(reached)
        self._hang_up()

    def failed(self, reason: Failure) -> None:
        self._cancel_limit()
        if not self._done.called:
            is_tls = self.tcp_s is not None
            error: BaseException = reason.value  # type: ignore[assignment]
            self._done.errback(Unreachable(_describe(error), is_tls, error))

    def _expire(self) -> None:
        self.failed(Failure(TimeoutError("nothing came back in time")))
        self._hang_up()

    def _hang_up(self) -> None:
        self._cancel_limit()
        if self.protocol_in_use is not None and self.protocol_in_use.transport is not None:
            self.protocol_in_use.transport.abortConnection()  # type: ignore[attr-defined]
        elif self._connector is not None:
            self._connector.disconnect()

    def _cancel_limit(self) -> None:
        if self._limit.active():
            self._limit.cancel()


class _Handshake(Protocol):
    """Plain TCP: a connection is all it needs."""

    def __init__(self, owner: _Reaching) -> None:
        self._owner = owner

    def connectionMade(self) -> None:
        self._owner.tcp_s = self._owner.elapsed_s()
        self._owner.succeeded(Reached(self._owner.tcp_s))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._owner.failed(reason)


@implementer(IHandshakeListener)
class _SecureHandshake(_Handshake):
    def connectionMade(self) -> None:
        self._owner.tcp_s = self._owner.elapsed_s()

    def handshakeCompleted(self) -> None:
        transport: Any = self.transport
        shown = transport.getPeerCertificate()
        tcp_s = self._owner.tcp_s or 0.0
        try:
            certificate = None if shown is None else read_certificate(shown.to_cryptography())
        except Exception as error:  # noqa: BLE001 - an unreadable certificate must not pass
            problem = f"the certificate can't be read ({type(error).__name__})"
            self._owner.failed(Failure(CertificateRefused(problem)))
            transport.abortConnection()
            return
        self._owner.succeeded(
            Reached(
                tcp_s,
                self._owner.elapsed_s() - tcp_s,
                transport.getHandle().get_protocol_version_name(),
                certificate,
            )
        )


def _describe(error: BaseException) -> str:
    """One short sentence."""
    about_tls = describe_tls(error)
    if about_tls is not None:
        return about_tls
    if isinstance(error, ConnectionDone | ConnectionLost):
        return "the other side ended the connection"
    lines = str(error).splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
