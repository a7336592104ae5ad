"""The WebSocket endpoint: Autobahn's server protocol, tied to a ``Session`` per connection.

Only this module knows Autobahn. Autobahn logs an exception from a callback and leaves the socket
open, hence the boundary around each callback.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from twisted.internet import interfaces as twisted_interfaces
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from zope.interface import implementer

from oda.peer_bounds import BoundedReception, NewestPong
from oda.platform.gate import ReadingGate
from oda.platform.logger import PlatformLogger
from oda.platform.sessions import Session

log = PlatformLogger()

#: The reason phrases of the statuses that this endpoint sends.
_PHRASES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    426: "Upgrade Required",
    429: "Too Many Requests",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}

GARBAGE = b"\x16\x03\x01 this is no HTTP \x00\xff\xfe\r\n\r\n"


def refusal(status: int, reason: str, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """The HTTP answer that refuses an upgrade."""
    body = json.dumps({"error": reason}).encode()
    head = [
        f"HTTP/1.1 {status} {_PHRASES.get(status, 'Refused')}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


class Welcome:
    """How to treat an upgrade request: the decision of the ``Door``.

    One of: ``device`` (accept it), ``status`` (refuse), ``garbage`` bytes, or silence.
    """

    __slots__ = ("device", "garbage", "headers", "reason", "status")

    def __init__(
        self,
        device: str | None = None,
        status: int | None = None,
        reason: str = "",
        headers: Sequence[tuple[str, str]] = (),
        garbage: bool = False,
    ) -> None:
        self.device = device
        self.status = status
        self.reason = reason
        self.headers = tuple(headers)
        self.garbage = garbage


class WebSocketPipe:
    """A ``Pipe`` over an Autobahn protocol."""

    def __init__(self, protocol: DeviceProtocol) -> None:
        self._protocol = protocol

    def send_message(self, payload: bytes, is_text: bool) -> None:
        if self._protocol.state == self._protocol.STATE_OPEN:
            self._protocol.sendMessage(payload, isBinary=not is_text)

    def send_pong(self, payload: bytes) -> None:
        self._protocol.send_pong(payload)

    def send_close(self, code: int, reason: str) -> None:
        # sendClose() itself refuses RFC 6455's reserved codes, but a fault may want any code
        if self._protocol.state == self._protocol.STATE_OPEN:
            self._protocol.sendCloseFrame(code=code, reasonUtf8=reason.encode(), isReply=False)

    def hang_up(self) -> None:
        self._protocol.wasClean = True  # on purpose: not worth a warning from Autobahn
        self._protocol.dropConnection(abort=False)

    def abort(self) -> None:
        self._protocol.wasClean = True
        self._protocol.dropConnection(abort=True)

    def set_reading(self, frozen: bool, bytes_per_s: int | None) -> None:
        self._protocol.set_reading(frozen, bytes_per_s)

    def set_max_message(self, max_bytes: int) -> None:
        self._protocol.maxMessagePayloadSize = max_bytes


@implementer(twisted_interfaces.IPushProducer)
class DeviceProtocol(BoundedReception, WebSocketServerProtocol):  # type: ignore[misc]
    """One connection."""

    factory: DeviceServerFactory
    session: Session | None = None
    gate: ReadingGate
    openHandshakeTimeoutCall: Any  # Autobahn's

    def connectionMade(self) -> None:
        self._pong = NewestPong()
        self.gate = ReadingGate(
            self.factory.reactor,
            super().dataReceived,
            self.transport.pauseProducing,
            self.transport.resumeProducing,
        )
        super().connectionMade()
        self.factory.connections.add(self)
        # Autobahn reads its own option too early, and so never turns Nagle's algorithm off
        self.transport.setTcpNoDelay(True)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.factory.connections.discard(self)
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        self.gate.received(data)

    def processData(self) -> bool:
        """Process one step of the received bytes; none while frozen, even within a chunk."""
        if self.gate.is_frozen:
            return False
        return bool(super().processData())

    def set_reading(self, frozen: bool, bytes_per_s: int | None) -> None:
        self.gate.set(frozen, bytes_per_s)

    def onConnect(self, request: Any) -> Any:
        if "origin" in self.http_headers and not self._is_own_page():
            # A page in a browser: it would replace the device, and read its orders.
            self.failHandshake("requests of this origin are not allowed", 403)
            return Deferred()
        try:
            welcome = self.factory.admit(self.http_request_uri, self.http_headers.get("x-apikey"))
        except Exception:  # noqa: BLE001 - Autobahn would tell the peer the exception's text
            log.failure("admitting a device failed")
            welcome = Welcome(status=503, reason="internal error")
        if welcome.device is not None:
            self.session = self.factory.make_session(
                welcome.device, str(self.peer), WebSocketPipe(self)
            )
            return None
        if welcome.status is not None:
            self.failHandshake(welcome.reason, welcome.status, welcome.headers)
        elif welcome.garbage:
            self.transport.write(GARBAGE)
            self.wasClean = True
            self.dropConnection(abort=False)
        elif self.openHandshakeTimeoutCall is not None:
            self.openHandshakeTimeoutCall.cancel()
            self.openHandshakeTimeoutCall = None
        return Deferred()  # the handshake stops here

    def _is_own_page(self) -> bool:
        """Whether the request comes from a page of this host, or of an allowed origin."""
        origin = self.http_headers["origin"].strip().lower().rstrip("/")
        host = self.http_headers.get("host", "").strip().lower()
        return origin in {f"http://{host}", f"https://{host}", *self.factory.origins}

    def failHandshake(
        self, reason: str, code: int = 400, responseHeaders: Sequence[tuple[str, str]] | None = None
    ) -> None:
        """Refuse the upgrade. Autobahn's own reasons may quote the request line with the key, so
        the peer gets them but the log doesn't."""
        self.transport.write(refusal(code, reason, responseHeaders or ()))
        self.wasClean = True
        self.dropConnection(abort=False)

    def onOpen(self) -> None:
        self.registerProducer(self, True)
        self._guard(lambda session: self.factory.open_session(session))

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self._guard(lambda session: session.message_received(payload, not isBinary))

    def onPing(self, payload: bytes) -> None:
        self._guard(lambda session: session.ping_received(payload))

    def send_pong(self, payload: bytes) -> None:
        """Send a pong, or the newest one when the device reads again."""
        if self._pong.may_go(payload):
            self.sendPong(payload)

    def pauseProducing(self) -> None:
        """The device reads more slowly than the platform writes."""
        self._pong.writable_changed(False)

    def resumeProducing(self) -> None:
        """The device has read what was written."""
        payload = self._pong.writable_changed(True)
        if payload is not None:
            self.sendPong(payload)

    def stopProducing(self) -> None:
        """The transport is closing; ``connectionLost`` follows."""

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.gate.close()
        if self.localCloseCode is not None and self.closedByMe:
            code, reason = self.localCloseCode, (self.localCloseReason or b"").decode()
        elif self.remoteCloseCode is None:
            code = 1005 if self.wasClean and not self.droppedByMe else 1006
        self._guard(lambda session: session.closed(code, reason))
        self.session = None

    def _guard(self, call: Callable[[Session], None]) -> None:
        if self.session is None:
            return
        try:
            call(self.session)
        except Exception:  # noqa: BLE001 - the boundary: Autobahn would leave the socket open
            log.failure("a connection of {device} failed", device=self.session.device)
            self.transport.abortConnection()


def _accept_deflate(offers: Sequence[Any]) -> Any:
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(offer)
    return None


class DeviceServerFactory(WebSocketServerFactory):  # type: ignore[misc]
    """Makes a ``DeviceProtocol`` per connection; ``connections`` are the present ones, whether they
    became WebSockets or not.

    ``admit`` decides about an upgrade request from its URI and key header; ``make_session`` and
    ``open_session`` are called before and after the upgrade of an accepted device. A request whose
    Origin is neither this host's nor one of ``origins`` is refused (403).
    """

    protocol = DeviceProtocol
    noisy = False

    def __init__(
        self,
        reactor: Any,
        admit: Callable[[str, str | None], Welcome],
        make_session: Callable[[str, str, WebSocketPipe], Session],
        open_session: Callable[[Session], None],
        max_message_bytes: int,
        origins: Iterable[str] = (),
    ) -> None:
        super().__init__(reactor=reactor, server="oda-platform")
        self.origins = {origin.lower().rstrip("/") for origin in origins}
        self.connections: set[DeviceProtocol] = set()
        self.admit = admit
        self.make_session = make_session
        self.open_session = open_session
        self.setProtocolOptions(
            webStatus=False,
            failByDrop=False,
            openHandshakeTimeout=30,
            closeHandshakeTimeout=5,
            maxMessagePayloadSize=max_message_bytes,
            perMessageCompressionAccept=_accept_deflate,
            allowNullOrigin=True,
        )
