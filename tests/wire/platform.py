"""The platform of the tests: a real Autobahn server that records, and misbehaves on request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.protocol import Protocol, ServerFactory


class SilentLog:
    """Keeps the library's log of the platform's side out of the agent's log."""

    def _ignore(self, *_args: Any, **_fields: Any) -> None:
        """Requests show up here, API key included."""

    trace = debug = info = warn = error = failure = _ignore


class Peer(WebSocketServerProtocol):  # type: ignore[misc]
    """One connection of the platform."""

    log = SilentLog()

    def __init__(self) -> None:
        super().__init__()
        self.request: Any = None
        self.messages: list[tuple[bytes, bool]] = []
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.closed: tuple[bool, int | None, str | None] | None = None
        self.is_open_now = False

    def onConnect(self, request: Any) -> Any:
        self.request = request
        if self.factory.refusal is not None:
            raise ConnectionDeny(*self.factory.refusal)

    def onOpen(self) -> None:
        self.is_open_now = True

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.messages.append((payload, isBinary))
        self.factory.received.append(payload)
        if self.factory.on_message is not None:
            self.factory.on_message(self, payload)

    def onPing(self, payload: bytes) -> None:
        self.pings.append(payload)
        answer = self.factory.pong(payload)
        if answer is not None:
            self.sendPong(answer)

    def onPong(self, payload: bytes) -> None:
        self.pongs.append(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.is_open_now = False
        self.closed = (wasClean, code, reason)

    @property
    def may_send(self) -> bool:
        """True until a close frame was sent."""
        return bool(self.state == self.STATE_OPEN)

    @property
    def payloads(self) -> list[bytes]:
        """The messages without their frame types."""
        return [payload for payload, _ in self.messages]


class Platform(WebSocketServerFactory):  # type: ignore[misc]
    """Accepts everybody until told otherwise.

    ``refusal`` is ``(status, phrase)``; ``pong(payload)`` gives the pong's payload or None for
    silence; ``on_message(peer, payload)`` is called for each message. ``received`` collects the
    messages of all connections in the order of their arrival.
    """

    protocol = Peer
    log = SilentLog()

    def __init__(self, reactor: Any, **options: Any) -> None:
        super().__init__(reactor=reactor)
        self.setProtocolOptions(
            openHandshakeTimeout=0, closeHandshakeTimeout=0, failByDrop=False, **options
        )
        self.refusal: tuple[int, str] | None = None
        self.pong: Callable[[bytes], bytes | None] = lambda payload: payload
        self.on_message: Callable[[Peer, bytes], None] | None = None
        self.peers: list[Peer] = []
        self.received: list[bytes] = []

    def buildProtocol(self, addr: Any) -> Peer:
        peer = super().buildProtocol(addr)
        self.peers.append(peer)
        return peer

    @property
    def peer(self) -> Peer:
        """The newest connection."""
        return self.peers[-1]


class RawPeer(Protocol):
    """A connection on which the test writes bytes itself."""

    def __init__(self, answer: Callable[[RawPeer], None]) -> None:
        self.received = b""
        self.reason: Any = None
        self._answer = answer
        self._answered = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if not self._answered and b"\r\n\r\n" in self.received:
            self._answered = True
            self._answer(self)

    def connectionLost(self, reason: Any = None) -> None:
        self.reason = reason


class RawPlatform(ServerFactory):
    """Calls ``answer(peer)`` once the head of a request has arrived."""

    noisy = False

    def __init__(self, answer: Callable[[RawPeer], None] = lambda peer: None) -> None:
        self.answer = answer
        self.peers: list[RawPeer] = []

    def buildProtocol(self, addr: Any) -> RawPeer:
        peer = RawPeer(self.answer)
        peer.factory = self
        self.peers.append(peer)
        return peer


def say(text: bytes, *, and_close: bool = True) -> Callable[[RawPeer], None]:
    """An answer of fixed bytes."""

    def answer(peer: RawPeer) -> None:
        assert peer.transport is not None
        peer.transport.write(text)
        if and_close:
            peer.transport.loseConnection()

    return answer
