"""A passive WebSocket client: it reports every frame and answers none by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import connectionDone

from oda.errors import OdaError
from oda.peer_bounds import BoundedReception
from oda.verification import verified_client

#: The time limit of TCP, of TLS and of the upgrade, each, in seconds.
CONNECT_TIMEOUT_S = 30.0


class Target(NamedTuple):
    """The address to connect to: the parts of a ``ws://`` or ``wss://`` URL."""

    is_secure: bool
    host: str
    port: int
    path: str


class WrongAddress(OdaError):  # noqa: N818 - named like those of oda.errors
    """An address is not a ``ws://host:port/path``."""


def read_target(url: str) -> Target:
    """The target in ``url``; raises ``WrongAddress``, which never shows a query."""
    shown = url.partition("?")[0]
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise WrongAddress(f"{shown!r}: {error}") from None
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise WrongAddress(f"{shown!r} is not an address like ws://host:9955/south/v80/sessions")
    if parts.query or parts.fragment or parts.username:
        raise WrongAddress(f"{shown!r}: only scheme, host, port and path are allowed")
    is_secure = parts.scheme == "wss"
    return Target(is_secure, parts.hostname, port or (443 if is_secure else 80), parts.path)


class FrameListener(Protocol):
    """The receiver of a client's events."""

    def guard(self, call: Callable[[], None]) -> None:
        """Make one of the calls below and contain its exceptions: Autobahn would swallow them and
        leave the socket open."""

    def opened(self, subprotocol: str | None) -> None:
        """The upgrade was accepted."""

    def refused(self, status: int | None, headers: Mapping[str, str], reason: str) -> None:
        """The upgrade was refused (``status``) or failed; the last call."""

    def message_received(self, payload: bytes, is_text: bool) -> None:
        """A message was received."""

    def ping_received(self, payload: bytes) -> None:
        """A ping was received and is not yet answered."""

    def pong_received(self, payload: bytes) -> None:
        """A pong was received."""

    def close_received(self, code: int | None, reason: bytes) -> None:
        """A close frame was received; Autobahn answers it."""

    def lost(self) -> None:
        """The TCP connection is gone; the last call."""


class SilentLog:
    """Replaces Autobahn's logger, which quotes requests with the API key in them."""

    def _ignore(self, *_args: Any, **_fields: Any) -> None:
        """Ignored: the listener learns everything that matters."""

    trace = debug = info = warn = warning = error = critical = failure = _ignore


class FrameClient(BoundedReception, WebSocketClientProtocol):  # type: ignore[misc]
    """One connection to a platform."""

    log = SilentLog()

    def __init__(self, listener: FrameListener) -> None:
        super().__init__()
        self._listener = listener
        self._was_open = False
        self._reason = "the connection was closed during the upgrade"

    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.setTcpNoDelay(True)

    def failHandshake(self, reason: str) -> None:
        self._reason = reason
        self.dropConnection(abort=True)

    def onConnect(self, response: Any) -> None:
        self._subprotocol = response.protocol

    def onOpen(self) -> None:
        self._was_open = True
        self._listener.guard(lambda: self._listener.opened(self._subprotocol))

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self._listener.guard(lambda: self._listener.message_received(payload, not isBinary))

    def onPing(self, payload: bytes) -> None:
        self._listener.guard(lambda: self._listener.ping_received(payload))

    def onPong(self, payload: bytes) -> None:
        self._listener.guard(lambda: self._listener.pong_received(payload))

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> Any:
        self._listener.guard(lambda: self._listener.close_received(code, reasonRaw or b""))
        return super().onCloseFrame(code, reasonRaw)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        super().connectionLost(reason)
        if self._was_open:
            self._listener.guard(self._listener.lost)
            return
        headers: Mapping[str, str] = getattr(self, "http_headers", None) or {}
        self._listener.guard(lambda: self._listener.refused(self._status(), headers, self._reason))

    def _status(self) -> int | None:
        words = str(getattr(self, "http_status_line", "")).split()
        return (
            int(words[1]) if len(words) > 1 and words[1].isascii() and words[1].isdigit() else None
        )


def connect_client(
    reactor: Any,
    target: Target,
    resource: str,
    headers: Mapping[str, str],
    subprotocols: Sequence[str],
    listener: FrameListener,
    trust_root: Any = None,
) -> Deferred[FrameClient]:
    """Connect to ``target`` and request ``resource`` (path and query in wire form).

    Fires with the client when TCP is connected (before the upgrade), and fails if it can't connect.
    ``trust_root`` None means the authorities of this system.
    """
    given = {name.lower(): value for name, value in headers.items()}
    scheme = "wss" if target.is_secure else "ws"
    host = f"[{target.host}]" if ":" in target.host else target.host
    factory = WebSocketClientFactory(
        f"{scheme}://{host}:{target.port}/",
        protocols=list(subprotocols),
        useragent=given.pop("user-agent", None),
        headers={name: _as_sent(value) for name, value in given.items()},
        reactor=reactor,
    )
    factory.noisy = False
    factory.resource = resource
    factory.protocol = lambda: FrameClient(listener)
    factory.setProtocolOptions(
        failByDrop=False,
        utf8validateIncoming=False,
        openHandshakeTimeout=CONNECT_TIMEOUT_S,
        closeHandshakeTimeout=5,
        serverConnectionDropTimeout=5,
    )
    endpoint: Any = HostnameEndpoint(reactor, target.host, target.port, CONNECT_TIMEOUT_S)
    if target.is_secure:
        endpoint = wrapClientTLS(verified_client(target.host, trust_root, {}), endpoint)
    connected: Deferred[FrameClient] = endpoint.connect(factory)
    return connected


def _as_sent(value: str) -> str:
    """A header's value, read with one character per byte, for Autobahn, which writes UTF-8."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
