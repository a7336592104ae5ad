"""A recording proxy: devices connect to it, and it connects to their platform and records all
traffic, frame by frame.

It changes as little as possible. A device is accepted only after the platform has accepted it, and
refused as the platform refuses it. Pings, pongs and closes go through, so a pong still comes from
the platform. A side that reads slowly slows the other one down. The proxy does not preserve
compression or the division of messages into frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone

from oda.peer_bounds import BoundedReception
from oda.platform.protocol import refusal
from oda.platform.tape.client import (
    FrameClient,
    FrameListener,
    SilentLog,
    Target,
    connect_client,
)
from oda.platform.tape.recorder import SessionRecorder
from oda.platform.tape.relay import Relay


class RecordingProxy:
    """Relays every connection to ``target`` and records it.

    A path in ``target`` replaces the path that devices use in front of their id. ``failed`` is
    called when the record can't be written: continuing would leave a gap.
    """

    def __init__(
        self,
        reactor: Any,
        target: Target,
        recorder: SessionRecorder,
        failed: Callable[[OSError], None],
        trust_root: Any = None,
    ) -> None:
        self.reactor = reactor
        self._recorder = recorder
        self._target = target
        self._failed = failed
        self._trust_root = trust_root
        self._relays: set[Relay] = set()
        self._port: Any = None
        self._has_failed = False

    def listen(self, port: int, interface: str) -> int:
        """Accept devices; returns the real port. Raises ``CannotListenError``."""
        factory = WebSocketServerFactory(reactor=self.reactor)
        factory.noisy = False
        factory.protocol = lambda: DeviceSide(self)
        factory.setProtocolOptions(
            webStatus=False,
            failByDrop=False,
            utf8validateIncoming=False,
            openHandshakeTimeout=90,
            closeHandshakeTimeout=5,
            allowNullOrigin=True,
        )
        self._port = self.reactor.listenTCP(port, factory, interface=interface)
        real: int = self._port.getHost().port
        return real

    async def stop(self) -> None:
        """End every connection and close the file."""
        if self._port is not None:
            await self._port.stopListening()
        for relay in tuple(self._relays):
            relay.abort()
        while self._relays:
            await _turn(self.reactor)
        self._recorder.close()

    def relay(self, device: DeviceSide) -> Deferred[str | None]:
        """Connect a device's upgrade request through; see ``Relay.begin``."""
        device.relay = Relay(
            device, self._recorder, self._connect, self._relays.discard, self._fail
        )
        self._relays.add(device.relay)
        return device.relay.begin()

    def _connect(
        self,
        uri: str,
        headers: Mapping[str, str],
        subprotocols: Sequence[str],
        listener: FrameListener,
    ) -> Deferred[FrameClient]:
        resource = resource_of(uri, self._target.path)
        return connect_client(
            self.reactor, self._target, resource, headers, subprotocols, listener, self._trust_root
        )

    def _fail(self, error: OSError) -> None:
        """The record can't be written; reports only the first failure."""
        for relay in tuple(self._relays):
            relay.abort()
        if not self._has_failed:
            self._has_failed = True
            self._failed(error)


class DeviceSide(BoundedReception, WebSocketServerProtocol):  # type: ignore[misc]
    """A device's connection to the proxy."""

    log = SilentLog()
    relay: Relay | None = None

    def __init__(self, proxy: RecordingProxy) -> None:
        super().__init__()
        self._proxy = proxy

    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.setTcpNoDelay(True)

    def onConnect(self, request: Any) -> Any:
        return self._proxy.relay(self)

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        self.transport.write(refusal(code, reason, responseHeaders or ()))
        self.dropConnection(abort=False)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self._tell(lambda relay: relay.device_sent(payload, not isBinary))

    def onPing(self, payload: bytes) -> None:
        self._tell(lambda relay: relay.device_pinged(payload))

    def onPong(self, payload: bytes) -> None:
        self._tell(lambda relay: relay.device_ponged(payload))

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> Any:
        self._tell(lambda relay: relay.device_closed(code, reasonRaw or b""))
        return super().onCloseFrame(code, reasonRaw)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        super().connectionLost(reason)
        self._tell(lambda relay: relay.device_lost())

    def _tell(self, call: Callable[[Relay], None]) -> None:
        relay = self.relay
        if relay is not None:
            relay.guard(lambda: call(relay))


def resource_of(uri: str, path: str) -> str:
    """The resource to request from the platform when a device requests ``uri``: the same, or with
    ``path`` (if any) in front of the device id."""
    asked, question, query = uri.partition("?")
    if path.strip("/"):
        asked = f"{path.rstrip('/')}/{asked.rstrip('/').rpartition('/')[2]}"
    return asked + question + query


def _turn(reactor: Any) -> Deferred[None]:
    turned: Deferred[None] = Deferred()
    reactor.callLater(0, turned.callback, None)
    return turned
