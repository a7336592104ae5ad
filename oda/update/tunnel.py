"""The way to a web server: through the connection's proxy where there is one, with the
connection's TLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from oda.connector.handshake import connect_request, read_head
from oda.connector.tls import build_tls_options
from oda.errors import ConnectorError
from oda.peer_bounds import MAX_HANDSHAKE_BYTES
from oda.settings import ConnectorSettings


@implementer(IAgentEndpointFactory)
class WebEndpoints:
    """Where an agent of twisted.web connects to, by the settings of the connection."""

    def __init__(self, reactor: Any, settings: ConnectorSettings) -> None:
        self._reactor = reactor
        self._settings = settings

    def endpointForURI(self, uri: Any) -> Any:
        """See ``IAgentEndpointFactory``. Raises ``ConnectorError`` for certificates that can't be
        used."""
        settings = self._settings
        host = uri.host.decode("ascii").strip("[]")
        if settings.proxy_host is None:
            endpoint: Any = self._to(host, uri.port)
        else:
            shown = f"[{host}]" if ":" in host else host
            request = connect_request(shown, uri.port, settings.proxy_user, settings.proxy_password)
            proxy = self._to(settings.proxy_host, settings.proxy_port)
            endpoint = TunnelEndpoint(proxy, request)
        if uri.scheme != b"https":
            return endpoint
        return wrapClientTLS(
            build_tls_options(msgspec.structs.replace(settings, host=host)), endpoint
        )

    def _to(self, host: str, port: int) -> HostnameEndpoint:
        timeout_s = self._settings.connection_timeout_s
        return HostnameEndpoint(self._reactor, host, port, timeout=timeout_s)


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """A connection through a proxy: ``proxy`` leads to it, ``request`` asks it for the way on."""

    def __init__(self, proxy: Any, request: bytes) -> None:
        self._proxy = proxy
        self._request = request

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """See ``IStreamClientEndpoint``. Fails with ``ConnectorError`` when the proxy refuses."""
        opened: Deferred[Any] = Deferred(lambda _: tunnel.give_up())
        tunnel = _Tunnel(self._request, protocolFactory, opened)
        connecting = self._proxy.connect(Factory.forProtocol(lambda: tunnel))
        connecting.addErrback(tunnel.failed)
        return opened


class _Tunnel(Protocol):
    """Asks the proxy, then hands the connection to the protocol that it is for."""

    def __init__(self, request: bytes, factory: Any, opened: Deferred[Any]) -> None:
        self._request = request
        self._factory = factory
        self._opened: Deferred[Any] | None = opened
        self._received = b""

    def connectionMade(self) -> None:
        if self._opened is None:
            self.give_up()
            return
        self._write(self._request)

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        while (head := read_head(self._received)) is not None and head.is_interim:
            self._received = self._received[head.size :]
        if head is None:
            if len(self._received) > MAX_HANDSHAKE_BYTES:
                self._refused("the proxy's answer is too long")
            return
        if head.status is None or not 200 <= head.status < 300:
            self._refused(f"the proxy refused: {head.status or 'no HTTP'} {head.phrase[:100]}")
            return
        opened, self._opened = self._opened, None
        transport: Any = self.transport
        protocol = self._factory.buildProtocol(transport.getPeer())
        if opened is None or protocol is None:
            transport.abortConnection()
            return
        rest, self._received = self._received[head.size :], b""
        transport.protocol = protocol
        protocol.makeConnection(transport)
        opened.callback(protocol)
        if rest:
            protocol.dataReceived(rest)

    def connectionLost(self, reason: Failure = Failure(ConnectionError())) -> None:  # noqa: B008
        self._fail(ConnectorError("the proxy ended the connection"))

    def failed(self, reason: Failure) -> None:
        """The proxy can't be reached."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.errback(reason)

    def give_up(self) -> None:
        """Nobody wants the connection any more."""
        self._opened = None
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def _refused(self, reason: str) -> None:
        self._fail(ConnectorError(reason))
        self.give_up()

    def _fail(self, error: Exception) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.errback(error)

    def _write(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data)


#: Makes the endpoints of settings.
MakeEndpoints = Callable[[Any, ConnectorSettings], Any]
