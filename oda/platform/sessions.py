"""One connected device, and all of them.

A ``Session`` is a WebSocket as the platform's application sees it. It records what it reads,
commits before it answers a ping, and applies the fault in force. It knows the socket only as a
``Pipe``.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from oda.interfaces import ICodecRegistry
from oda.model import ContentType
from oda.platform.faults import NORMAL, Fault, Incident, PongMode
from oda.platform.logger import PlatformLogger
from oda.platform.pongs import PongPolicy
from oda.platform.recording import Recording, Traffic

log = PlatformLogger()

#: The close code for a connection replaced by a newer one of its device; from the private range.
REPLACED = 4001

#: How many bytes and messages of one device are held back while pongs are early. Beyond that, the
#: oldest are read ahead of time.
MAX_HELD_BYTES, MAX_HELD_MESSAGES = 4 * 1024 * 1024, 10_000


class Pipe(Protocol):
    """What a session may do to its WebSocket. Every call is harmless once the socket is gone."""

    def send_message(self, payload: bytes, is_text: bool) -> None:
        """Send a message."""

    def send_pong(self, payload: bytes) -> None:
        """Send a pong."""

    def send_close(self, code: int, reason: str) -> None:
        """Start the closing handshake."""

    def hang_up(self) -> None:
        """Close the TCP connection without a close frame, after all written bytes are sent."""

    def abort(self) -> None:
        """Reset the TCP connection (RST)."""

    def set_reading(self, frozen: bool, bytes_per_s: int | None) -> None:
        """Read at this speed from now on."""

    def set_max_message(self, max_bytes: int) -> None:
        """Close with 1009 when a longer message arrives."""


class Inbox(Protocol):
    """The receiver of what sessions read."""

    def session_opened(self, session: Session) -> None:
        """A device is connected."""

    def message_read(
        self, session: Session, number: int, payload: bytes, content_type: ContentType | None
    ) -> None:
        """A message was read and recorded under ``number``."""

    def session_closed(self, session: Session, code: int | None) -> None:
        """A device is gone."""


class Session:
    """One connection of one device."""

    def __init__(
        self,
        reactor: Any,
        device: str,
        peer: str,
        pipe: Pipe,
        recording: Recording,
        codecs: ICodecRegistry,
        inbox: Inbox,
        max_message_bytes: int,
    ) -> None:
        self.device = device
        self.peer = peer
        self.traffic = Traffic()
        self.is_open = False
        self._is_ending = False
        self.number = 0
        self._reactor = reactor
        self._pipe = pipe
        self._recording = recording
        self._codecs = codecs
        self._inbox = inbox
        self._max_message_bytes = max_message_bytes
        self._fault = NORMAL
        self._pongs = PongPolicy(reactor, self._send_pong, pipe.hang_up)
        self._unread: deque[tuple[bytes, bool]] = deque()
        self._unread_bytes = 0
        self._reading_later: IDelayedCall | None = None

    def open(self, fault: Fault) -> None:
        """The upgrade is done; ``fault`` applies from now on."""
        self.number = self._recording.connection_opened(self.device, self.peer)
        self.is_open = True
        self._inbox.session_opened(self)
        self.apply(fault)

    def apply(self, fault: Fault) -> None:
        """Behave like this from now on."""
        if not self.is_open:
            return
        self._fault = fault
        self._pipe.set_max_message(fault.close_above_bytes or self._max_message_bytes)
        if fault.pong is not PongMode.EARLY:
            self._read_held_messages()
        self._pipe.set_reading(fault.freeze, fault.slow_bytes_per_s)
        self._end_when_due()

    def strike(self, incident: Incident) -> None:
        """Reset or close this connection now."""
        if incident.reset:
            self._reset()
        elif incident.close is not None:
            self._close(incident.close, incident.reason)

    def send(self, payload: bytes, is_text: bool) -> int:
        """Send a message to the device; returns its number in the record."""
        self.traffic.messages_out += 1
        number = self._record(self.traffic.messages_out, "out", payload, is_text)
        self._pipe.send_message(payload, is_text)
        return number

    def message_received(self, payload: bytes, is_text: bool) -> None:
        """The WebSocket layer has a message. The application reads it now or, while pongs are
        early, some time later. It reads nothing once the platform has ended the connection."""
        if self._is_ending:
            return
        if self._fault.pong is PongMode.EARLY:
            self._unread.append((payload, is_text))
            self._unread_bytes += len(payload)
            while not self._is_ending and (
                self._unread_bytes > MAX_HELD_BYTES or len(self._unread) > MAX_HELD_MESSAGES
            ):
                self._read_oldest()
            if self._reading_later is None:
                self._reading_later = self._reactor.callLater(
                    self._fault.pong_delay_s, self._read_held_messages
                )
            return
        self._read(payload, is_text)

    def ping_received(self, payload: bytes) -> None:
        """A ping: record everything read before it, then answer it."""
        self.traffic.pings_in += 1
        if self._recording.is_durable:
            self._recording.commit()
        limit = self._fault.terminate_after_pings
        if limit is not None and self.traffic.pings_in >= limit:
            self._reset()
            return
        self._pongs.ping_received(payload, self._fault)

    def closed(self, code: int | None, reason: str | None) -> None:
        """The connection is gone."""
        if not self.is_open:
            return
        self.is_open = False
        self._is_ending = True
        self._pongs.close()
        self._unread.clear()
        if self._reading_later is not None:
            self._reading_later.cancel()
            self._reading_later = None
        self._recording.connection_closed(self.number, code, reason, self.traffic)
        self._inbox.session_closed(self, code)

    def _read(self, payload: bytes, is_text: bool) -> None:
        self.traffic.messages_in += 1
        content_type = self._codecs.detect(payload)
        number = self._record(self.traffic.messages_in, "in", payload, is_text, content_type)
        self._inbox.message_read(self, number, payload, content_type)
        self._end_when_due()

    def _read_held_messages(self) -> None:
        if self._reading_later is not None:
            if self._reading_later.active():
                self._reading_later.cancel()
            self._reading_later = None
        while self._unread and not self._is_ending:
            self._read_oldest()

    def _read_oldest(self) -> None:
        payload, is_text = self._unread.popleft()
        self._unread_bytes -= len(payload)
        self._read(payload, is_text)

    def _record(
        self,
        position: int,
        direction: str,
        payload: bytes,
        is_text: bool,
        content_type: ContentType | None = None,
    ) -> int:
        if content_type is None:
            content_type = self._codecs.detect(payload)
        name = None if content_type is None else content_type.value
        return self._recording.add(
            self.number, position, self.device, direction, payload, is_text, name
        )

    def _end_when_due(self) -> None:
        fault = self._fault
        if self.traffic.messages_in < fault.after_messages:
            return
        if fault.reset:
            self._reset()
        elif fault.close is not None:
            self._close(fault.close, fault.close_reason)

    def _reset(self) -> None:
        self._is_ending = True
        self._pipe.abort()

    def _close(self, code: int, reason: str) -> None:
        self._is_ending = True
        self._pipe.send_close(code, reason)

    def _send_pong(self, payload: bytes) -> None:
        self.traffic.pongs_out += 1
        self._pipe.send_pong(payload)

    def replaced(self) -> None:
        """The device has connected again: end this connection."""
        self._close(REPLACED, "replaced by a newer connection")


class Sessions:
    """The open sessions by device; of a device that connects twice, the newer one."""

    def __init__(self) -> None:
        self._by_device: dict[str, Session] = {}
        self._all: set[Session] = set()
        self._waiting: dict[str, list[Deferred[Session]]] = {}

    def get(self, device: str) -> Session | None:
        """The session of a device, None while it is not connected."""
        return self._by_device.get(device)

    def all(self) -> list[Session]:
        """Every open session, including those being replaced."""
        return sorted(self._all, key=lambda session: session.number)

    def of(self, device: str | None) -> list[Session]:
        """The open sessions of a device; None: of all devices."""
        return [session for session in self.all() if device in (None, session.device)]

    def opened(self, session: Session) -> None:
        """A session is open; ends an older one of the same device."""
        older = self._by_device.get(session.device)
        self._by_device[session.device] = session
        self._all.add(session)
        if older is not None:
            older.replaced()
        for waiting in self._waiting.pop(session.device, []):
            waiting.callback(session)

    def closed(self, session: Session) -> None:
        """A session is gone."""
        self._all.discard(session)
        if self._by_device.get(session.device) is session:
            del self._by_device[session.device]

    def wait_for(self, device: str) -> Deferred[Session]:
        """Fires with the device's session, at once when it is connected; may be cancelled."""
        waiting: Deferred[Session] = Deferred(
            lambda d: self._waiting[device].remove(d) if device in self._waiting else None
        )
        session = self._by_device.get(device)
        if session is None:
            self._waiting.setdefault(device, []).append(waiting)
        else:
            waiting.callback(session)
        return waiting
