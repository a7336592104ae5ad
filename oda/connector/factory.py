"""The factories that the agent builds on: Autobahn's WebSocket factory, kept alive by Twisted's.

``ReconnectingClientFactory`` notices the end of every attempt and connection and calls ``retry``.
There, the agent's own back-off replaces Twisted's growth (which overshoots its maximum), and a new
``ConnectionAttempt`` replaces the connector (which would not resolve the name again).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory
from autobahn.websocket.compress import (
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ReconnectingClientFactory
from twisted.python.failure import Failure

from oda.connector.address import Address
from oda.connector.current import CurrentSettings
from oda.connector.framing import offers
from oda.connector.protocol import IConnectionOwner, PlatformProtocol


class PlatformClientFactory(
    WebSocketClientFactory,  # type: ignore[misc]
    ReconnectingClientFactory,
):
    """Builds connections to one address.

    ``tls`` is the ``IOpenSSLClientConnectionCreator``, None without TLS. ``connect()`` starts an
    attempt. ``schedule_retry(call) -> IDelayedCall`` decides when the next one starts; it is called
    after every end unless the owner has called ``stopTrying``.

    ``made_with`` are the settings that ``address`` and ``tls`` come from; they hold for each
    connection until its end. Each connection reads compression and the message limit anew.
    """

    noisy = False

    def __init__(
        self,
        address: Address,
        settings: CurrentSettings,
        tls: Any,
        owner: IConnectionOwner,
        connect: Callable[[], None],
        schedule_retry: Callable[[Callable[[], None]], IDelayedCall | None],
        reactor: Any,
    ) -> None:
        host = f"[{address.host}]" if ":" in address.host else address.host
        scheme = "wss" if address.secure else "ws"
        made_with = settings.now
        proxy = None
        if made_with.proxy_host is not None:
            proxy = {"host": made_with.proxy_host, "port": made_with.proxy_port}
        # The URL given here has no path: Autobahn repeats the URL in error texts, and the resource
        # may hold the key.
        WebSocketClientFactory.__init__(
            self,
            f"{scheme}://{host}:{address.port}",
            origin=made_with.origin,
            useragent="oda-websocket",
            headers=dict(address.headers),
            proxy=proxy,
            reactor=reactor,
        )
        self.host = host
        self.resource = address.resource
        self.clock = reactor
        self.address = address
        self.contextFactory = tls  # Autobahn's name; used behind a proxy
        self.made_with = made_with
        self._settings = settings
        self._owner = owner
        self._connect = connect
        self._schedule_retry = schedule_retry

    def _set_protocol_options(self) -> None:
        """Set the options of the next connection; its protocol copies them when it begins."""
        settings = self._settings.now
        limit = settings.max_message_size_bytes
        if settings.compression:
            # Autobahn applies the limit to the compressed size as well, in both directions, and
            # incompressible data grows a little (RFC 1951: some bytes for every block).
            limit += limit // 256 + 1024
        self.setProtocolOptions(
            version=18,
            utf8validateIncoming=True,
            maxFramePayloadSize=limit,
            maxMessagePayloadSize=limit,
            failByDrop=False,  # a refusal sends its close code before the socket closes
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            serverConnectionDropTimeout=0,
            autoPingInterval=0,
            perMessageCompressionOffers=offers() if settings.compression else [],
            perMessageCompressionAccept=_accept if settings.compression else _refuse,
        )

    def open_socket(self, address: str, timeout_s: float) -> Any:
        """Start a TCP connection to ``address``, which is the platform's or the proxy's. Returns
        Twisted's connector."""
        made_with = self.made_with
        if made_with.proxy_host is not None:
            return self.reactor.connectTCP(address, made_with.proxy_port, self, timeout_s)
        port = made_with.port
        if made_with.secure:
            return self.reactor.connectSSL(address, port, self, self.contextFactory, timeout_s)
        return self.reactor.connectTCP(address, port, self, timeout_s)

    def buildProtocol(self, addr: Any) -> PlatformProtocol:
        self._set_protocol_options()
        protocol = PlatformProtocol(self._owner)
        protocol.factory = self
        self._owner.protocol_built(protocol)
        return protocol

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self._owner.connect_failed(connector, reason)

    def clientConnectionLost(self, connector: Any, unused_reason: Failure) -> None:
        # The protocol has already told the owner, in more detail, and the owner has called
        # ``retry``. Calling it here would count an attempt twice.
        self.connector = None
        # The two refer to each other. This frees the transport and its unsent bytes at once.
        connector.transport = None

    def retry(self, connector: Any = None) -> None:
        """Connect again after the delay that ``schedule_retry`` chooses."""
        if not self.continueTrying:
            return
        self.retries += 1
        self._callID = self._schedule_retry(self._reconnect)

    def _reconnect(self) -> None:
        self._callID = None
        self._connect()

    def __repr__(self) -> str:
        return "<PlatformClientFactory>"


def _refuse(response: Any) -> Any:
    return None


def _accept(response: Any) -> Any:
    if isinstance(response, PerMessageDeflateResponse):
        return PerMessageDeflateResponseAccept(response)
    return None
