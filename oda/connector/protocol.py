"""The Autobahn protocol, reduced to what the agent needs.

The protocol holds no rule of the agent. Every callback goes to its owner or its listener through
one error boundary, because Autobahn swallows an exception of a callback into a Deferred that nobody
looks at, and leaves the socket open. Autobahn's own log lines are silenced: they repeat the
agent's, and at debug level they print the upgrade request with the API key. Its own timers are off;
the agent's replace them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from autobahn.websocket import HAS_NVX
from twisted.internet import interfaces as twisted_interfaces
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from oda.connector.framing import (
    Utf8Validator,
    build_frame,
    client_frame,
    mask_source,
    whole_message,
)
from oda.connector.outcome import BAD_GATEWAY, NORMAL_CLOSURE, Outcome, describe_end
from oda.connector.route import Route
from oda.connector.upgrade import UpgradingProtocol
from oda.log import Logger
from oda.peer_bounds import NewestPong

_log = Logger()

#: How long one iteration of the reactor handles received messages, in seconds. The next iteration
#: handles the rest, after the timers and sockets that are due: a platform that sends requests
#: without a pause must not keep the agent from publishing. An iteration costs as much as a request,
#: so a slice should hold many of them: in 10 ms a small device answers 20, a fast one 100.
READING_SLICE_S = 0.010

#: While more bytes than this wait for their slice, the agent takes nothing from the network.
MAX_UNREAD_BYTES = 64 * 1024


class IConnectionOwner(Interface):
    """Makes connections, and hears how each begins and ends. ``protocol`` is always the connection
    in question."""

    def connect_failed(connector: Any, reason: Failure) -> None:
        """A TCP connection failed."""

    def protocol_built(protocol: PlatformProtocol) -> None:
        """TCP is up; TLS and the upgrade follow."""

    def opened(protocol: PlatformProtocol) -> None:
        """The platform accepted the upgrade; messages may be sent. To hear what arrives, the owner
        sets ``protocol.listener``."""

    def closing(protocol: PlatformProtocol) -> None:
        """The agent has sent a close frame, as the first or in answer: it can't send anything more.
        The ``listener`` has already heard of it."""

    def closed(protocol: PlatformProtocol, outcome: Outcome) -> None:
        """The transport is gone. This is the last call, and happens exactly once."""


class IConnectionListener(Interface):
    """Uses a connection while it is open."""

    def message_received(payload: bytes, is_binary: bool) -> None:
        """A whole message has arrived."""

    def pong_received(payload: bytes) -> None:
        """A pong has arrived."""

    def bytes_received() -> None:
        """Bytes of any kind have arrived."""

    def writable_changed(writable: bool) -> None:
        """The transport's buffer is full (False) or empty again (True)."""

    def sending_ends() -> None:
        """The agent has sent a close frame, as the first or in answer: it can't send anything
        more."""


class QuietLog:
    """Stands in for Autobahn's logger: passes on only what the agent can't see otherwise."""

    def _ignore(self, *_args: Any, **_fields: Any) -> None:
        """This line repeats what the agent logs itself."""

    trace = debug = info = warn = warning = _ignore

    def error(self, text: str = "", **fields: Any) -> None:
        """An error inside Autobahn. Keep its kind, not its fields, which may hold the request."""
        failure = fields.get("fail") or fields.get("failure")
        kind = type(failure.value).__name__ if isinstance(failure, Failure) else "error"
        _log.debug("the WebSocket library reported: {kind}", kind=kind)

    critical = failure = error


def log_masking() -> None:
    """Log whether long frames are masked natively; Python takes many times as long."""
    if HAS_NVX:
        _log.debug("long frames are masked natively")
    else:
        _log.info(
            "Autobahn's native helpers are missing: long frames are masked in Python (slower)"
        )


@implementer(twisted_interfaces.IPushProducer)
class PlatformProtocol(UpgradingProtocol):
    """One connection to the platform."""

    __slots__ = (
        "_discards",
        "_done",
        "_has_closed",
        "_is_held",
        "_masks",
        "_next_slice",
        "_owner",
        "_pong",
        "_slice_end_s",
        "is_writable",
        "listener",
        "route",
        "sent_binary",
        "was_open",
    )
    log = QuietLog()  # Autobahn's name for its logger
    websocket_extensions_in_use: list[Any]
    _BINARY = 2

    def __init__(self, owner: IConnectionOwner) -> None:
        super().__init__()
        self._owner = owner
        #: Set by the owner while the connection is open.
        self.listener: IConnectionListener | None = None
        self._masks = mask_source(os.urandom)
        self._done = False
        self._is_held = False
        self._discards = False
        self._slice_end_s = 0.0
        #: The call that continues with what the last slice has left.
        self._next_slice: twisted_interfaces.IDelayedCall | None = None
        #: Whether the transport's buffer has room.
        self.is_writable = True
        self._pong = NewestPong()
        self.was_open = False
        self._has_closed = False
        #: True once a binary message was sent.
        self.sent_binary = False
        #: Knows whether the device's own network ended the connection.
        self.route = Route()

    # -- what the agent calls ----------------------------------------------------------------

    @property
    def may_send(self) -> bool:
        """True from the opening until a close frame was sent or the socket was lost."""
        return bool(self.state == self.STATE_OPEN)

    def send_messages(self, messages: Iterable[tuple[bytes, bool]]) -> None:
        """Write messages to the transport at once. Each is a payload, and whether it is text."""
        messages = list(messages)
        if not self.sent_binary:
            self.sent_binary = any(not is_text for _, is_text in messages)
        if self._perMessageCompress is None and self.state == self.STATE_OPEN:
            masks = self._masks
            self.transport.writeSequence(
                [client_frame(payload, is_text, next(masks)) for payload, is_text in messages]
            )
        else:
            for payload, is_text in messages:
                self.sendMessage(payload, isBinary=not is_text, doNotCompress=not self.compresses)

    def send_ping(self, payload: bytes) -> None:
        """Write one ping; ``payload`` is at most 125 bytes (RFC 6455)."""
        self.sendPing(payload)

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; ``closing`` and ``closed`` follow."""
        self.own_reason = reason
        self.sendClose(code, reason)

    def hold_reading(self) -> None:
        """From the next frame on, take nothing more from the network, and process nothing of what
        has already arrived."""
        self._is_held = True
        self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Continue after ``hold_reading``. Not to be called from a callback of this connection."""
        self._is_held = False
        if self._next_slice is None:
            self._read_on()

    def _read_on(self) -> None:
        """Handle what has arrived, for the time of one slice."""
        if self._done or self._is_held:
            return
        self._slice_end_s = self.factory.clock.seconds() + READING_SLICE_S
        self.consumeData()
        if not self._is_held and self._next_slice is None:
            self.transport.resumeProducing()

    def _next_slice_begins(self) -> None:
        self._next_slice = None
        self._read_on()

    def _hand_on(self, payload: bytes, is_binary: bool) -> None:
        """Give a message to the listener. If the slice has ended, leave the rest to the next
        iteration of the reactor."""
        if self.listener is not None:
            self.listener.message_received(payload, is_binary)
        self._end_slice_in_time()

    def _end_slice_in_time(self) -> None:
        if (
            self._next_slice is None
            and self.factory.clock.seconds() >= self._slice_end_s
            and not self._done
        ):
            self._next_slice = self.factory.clock.callLater(0, self.guard, self._next_slice_begins)

    def discard_messages(self) -> None:
        """Messages that arrive from now on count as never read."""
        self._discards = True

    def guard(self, call: Callable[[], object]) -> None:
        """The error boundary for callbacks and timers of this connection. A defect is logged once,
        and costs this connection, not the agent."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 - see above
            if self.was_open:
                _log.failure("a defect while handling the connection; it is dropped")
                self.abort(f"a defect in the agent ({type(error).__name__})")
            else:
                # Autobahn's parser fails on garbage instead of refusing it.
                self.abort(f"what answered is not HTTP ({type(error).__name__})")

    # -- what Autobahn and Twisted call ------------------------------------------------------

    def connectionMade(self) -> None:
        self.guard(self._connected)

    def _connected(self) -> None:
        # Autobahn's option for this is applied before the transport exists, and its error is
        # swallowed.
        self.transport.setTcpNoDelay(True)
        self.route.follow(self.transport)
        super().connectionMade()
        self.utf8validator = Utf8Validator()  # Autobahn's name; its own is slower

    def dataReceived(self, data: bytes) -> None:
        self.guard(lambda: self._received(data))

    def _received(self, data: bytes) -> None:
        if self.listener is not None:
            self.listener.bytes_received()
        if self._next_slice is None:
            self._slice_end_s = self.factory.clock.seconds() + READING_SLICE_S
        super().dataReceived(data)
        if self._next_slice is not None and len(self.data) > MAX_UNREAD_BYTES:
            # Not at the end of each slice: the system call costs as much as a small message.
            self.transport.pauseProducing()

    def processData(self) -> bool:
        if self._is_held or self._next_slice is not None:
            # Autobahn processes a chunk in one go, and a chunk may hold many messages.
            return False
        is_between = not self.inside_message and self.current_frame is None
        if is_between and self.state == self.STATE_OPEN and not self._take_whole_messages():
            return False
        # The rest is incomplete, or for Autobahn to judge.
        goes_on = bool(super().processData())
        if goes_on and self.state == self.STATE_OPEN:
            # A chunk may also hold tens of thousands of pings or fragments.
            self._end_slice_in_time()
        return goes_on

    def _take_whole_messages(self) -> bool:
        """Hand on what ``whole_message`` can read; True if something is left for Autobahn."""
        data = self.data
        start = 0
        try:
            # The listener may end the connection or hold its reading.
            while (
                self.state == self.STATE_OPEN
                and not self._is_held
                and self._next_slice is None
                and (found := whole_message(data, start, self.maxMessagePayloadSize))
            ):
                is_binary = data[start] & 0x0F == self._BINARY
                payload, start = found
                self._hand_on(payload, is_binary)
        finally:
            if start:
                self.data = data[start:]
        return start < len(data) and not self._is_held and self._next_slice is None

    def onOpen(self) -> None:
        self.guard(self._opened)

    def _opened(self) -> None:
        self.was_open = True
        self.registerProducer(self, True)
        self._owner.opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.wasClean or self._discards:
            return  # nothing counts behind the platform's close frame (RFC 6455, section 5.5.1)
        self.guard(lambda: self._hand_on(payload, isBinary))

    def onPing(self, payload: bytes) -> None:
        if self._pong.may_go(payload):
            super().onPing(payload)

    def onPong(self, payload: bytes) -> None:
        if (listener := self.listener) is not None:
            self.guard(lambda: listener.pong_received(payload))

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> Any:
        if self._has_closed:
            return None  # nothing counts behind the first close frame, not even a second one
        self._has_closed = True
        if code != BAD_GATEWAY:
            return super().onCloseFrame(code, reasonRaw)
        # The code is in the IANA registry but not in Autobahn's list, which would call it a breach.
        result = super().onCloseFrame(NORMAL_CLOSURE, reasonRaw)
        if not self.failedByMe:
            self.remoteCloseCode = code
        return result

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        # Autobahn also comes here for its own refusals (1002, 1007, 1009): no other place sees
        # every way in which closing begins.
        super().sendCloseFrame(code=code, reasonUtf8=reasonUtf8, isReply=isReply)
        self.guard(self._closing)

    def _closing(self) -> None:
        if self.listener is not None:
            self.listener.sending_ends()
        self._owner.closing(self)

    def _writable_changed(self, writable: bool) -> None:
        self.is_writable = writable
        payload = self._pong.writable_changed(writable)
        if payload is not None:
            self.guard(lambda: super(PlatformProtocol, self).onPing(payload))
        if (listener := self.listener) is not None:
            self.guard(lambda: listener.writable_changed(writable))

    def sendFrame(
        self,
        opcode: int,
        payload: bytes = b"",
        fin: bool = True,
        rsv: int = 0,
        mask: bytes | None = None,
        payload_len: int | None = None,
        chopsize: int | None = None,
        sync: bool = False,
    ) -> None:
        # Autobahn comes here with pings, pongs, closes and compressed messages. It uses ``mask``
        # and ``payload_len`` only to send frames that are deliberately wrong.
        first = fin << 7 | rsv << 4 | opcode
        self.sendData(build_frame(first, payload, next(self._masks)), sync, chopsize)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override, unused-ignore]
        self.guard(lambda: super(PlatformProtocol, self).connectionLost(reason))
        if self._done:
            return
        self._done = True
        if self._next_slice is not None:
            self._next_slice.cancel()
            self._next_slice = None
        factory = self.factory
        outcome = describe_end(self, reason, factory.address.without_key, factory.made_with)
        self.guard(lambda: self._owner.closed(self, outcome))
        self._let_go()

    def _let_go(self) -> None:
        # Autobahn's objects refer back to the connection. Only the rare search for cycles would
        # free it, with its unsent bytes and its compression (a third of a megabyte).
        self.transport = self.listener = None
        self.is_open = self.is_closed = None
        self._perMessageCompress = None
        self.websocket_extensions_in_use = []

    def pauseProducing(self) -> None:
        self._writable_changed(False)

    def resumeProducing(self) -> None:
        self._writable_changed(True)

    def stopProducing(self) -> None:
        """The transport is going away; ``connectionLost`` follows."""
