"""One open connection: what is sent on it, and the proof that it arrived.

States: *open* (messages flow) -> *closing* (a close frame was sent; nothing is sent any more) ->
*ended*. While open, the session takes rows from the outbox as the window and the transport allow,
remembers their order, and retires them when a pong proves that the peer has read them (see
``barrier``). The keepalive is the same ping.

A pong must come within ``pong_timeout_s``. Progress (bytes arriving, the send buffer emptying)
extends that, but only to four times its length: bytes that arrive prove nothing about the uplink.
A message under suspicion of ending connections (see ``suspects``) is sent alone; what was taken
behind it is held until it is acknowledged.
A peer that is known to give no usable pongs is waited for only shortly; what was written to a
transport that isn't blocked then counts as sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from oda.connector.barrier import AckBarrier, Pong
from oda.connector.counting import count_batch
from oda.connector.peer import Peer, PeerClass
from oda.connector.protocol import PlatformProtocol
from oda.connector.suspects import Suspects
from oda.errors import NotConnected
from oda.interfaces import ICounters, IOutbox
from oda.model import MessageClass, OutboxRow
from oda.settings import ConnectorSettings, OutboxSettings

_log = Logger()

#: How many rows are asked of the outbox at once.
_TAKE = 64
#: A ping is sent after so many unproven messages or bytes ...
_PING_AFTER_MESSAGES = 64
_PING_AFTER_BYTES = 256 * 1024
#: ... or so long after the first of them, in seconds.
_PING_AFTER_S = 0.1
#: How often the pong's time limit can be extended.
_EXTENSIONS = 3
#: How long a peer without usable pongs is given before messages count as sent, in seconds.
_UNPROVEN_WAIT_S = 1.0
#: Responses may exceed a full window by this many messages: they are what a person waits for.
_URGENT_EXTRA = 64
#: Row id, bytes, class and datapoints of a message.
_Sent = tuple[int, int, MessageClass, int]


class Session:
    """Drives one open ``PlatformProtocol``; the owner forwards what happens to it."""

    def __init__(
        self,
        protocol: PlatformProtocol,
        outbox: IOutbox,
        reactor: Any,
        settings: ConnectorSettings,
        window: OutboxSettings,
        counters: ICounters,
        peer: Peer,
        epoch: bytes,
        suspects: Suspects,
    ) -> None:
        self._protocol = protocol
        self._outbox = outbox
        self._reactor = reactor
        self._settings = settings
        self._window = window
        self._counters = counters
        self._peer = peer
        self._barrier = AckBarrier(epoch)
        self._suspects = suspects
        self._held: deque[OutboxRow] = deque()  # taken, but a suspect has to go first, alone
        self._suspect_is_out = False
        self._is_proven = False
        self._in_flight: deque[_Sent] = deque()  # in order of sending
        self._in_flight_bytes = 0
        self._unproven_bytes = 0
        self._retired = 0
        self._writable = True
        self._open = True
        self._progress = False
        self._extensions = 0
        self._saw_foreign_pong = False
        self._ping_soon: Any = None
        self._pong_limit: Any = None
        self._close_limit: Any = None
        self._ping_sent_s = 0.0
        self._keepalive = LoopingCall(protocol.guard, self._keep_alive)
        self._keepalive.clock = reactor
        self.on_drained: Callable[[], None] | None = None

    @property
    def is_open(self) -> bool:
        """True until a close frame was sent or the socket was lost."""
        return self._open

    @property
    def has_unacknowledged(self) -> bool:
        """True while messages were sent that nothing has proven yet, or are about to be sent."""
        return bool(self._in_flight or self._held)

    @property
    def unacknowledged(self) -> int:
        """How many messages were sent that nothing has proven yet."""
        return len(self._in_flight)

    @property
    def ping_waits_s(self) -> float | None:
        """How long the outstanding ping has been waiting for its pong, None when there is none."""
        if not self._barrier.is_outstanding:
            return None
        return float(self._reactor.seconds() - self._ping_sent_s)

    @property
    def rows_in_flight(self) -> list[int | None]:
        """The rows sent that nothing has proven yet, None for a message that is no row."""
        return [None if row_id < 0 else row_id for row_id, *_ in self._in_flight]

    @property
    def is_proven(self) -> bool:
        """True once a ping of this connection was answered (or none can be expected to be)."""
        return self._is_proven or self._peer.peer_class is not PeerClass.PONG

    def start(self) -> None:
        """Probe the peer, start the keepalive and send what waits."""
        self._peer.connected()
        self._keepalive.start(self._settings.keep_alive_interval_s, now=False)
        self._ping()
        self.pump()

    def reconfigure(self, settings: ConnectorSettings) -> None:
        """Go on with other intervals and time limits."""
        interval_s = settings.keep_alive_interval_s
        changed = interval_s != self._settings.keep_alive_interval_s
        self._settings = settings
        if changed and self._keepalive.running:
            self._keepalive.stop()
            self._keepalive.start(interval_s, now=False)

    def pump(self) -> None:
        """Send what waits, as far as the window and the transport allow."""
        while self._open and self._writable and not self._suspect_is_out:
            if self._held:
                if not self._send_rows(self._release_held()):
                    break
                continue
            room = self._window.window_messages - len(self._in_flight)
            room_bytes = self._window.window_bytes - self._in_flight_bytes
            if room > 0 and room_bytes > 0:
                rows = self._outbox.take(min(room, _TAKE), room_bytes)
            elif room > -_URGENT_EXTRA:
                rows = self._outbox.take(1, 0, MessageClass.RESPONSE)
            else:
                break
            if not rows:
                break
            if self._suspects:
                self._held.extend(rows)
            else:
                self._send_rows(rows)
        if self._open:
            self._consider_ping()

    def send_now(self, payload: bytes, is_text: bool) -> None:
        """Write one message outside the outbox; it is counted by the barrier like the others.

        Raises ``NotConnected`` when the network takes nothing more: it can't be sent now.
        """
        if not (self._open and self._writable):
            raise NotConnected("the connection to the platform is congested")
        self._send(-1, payload, is_text, MessageClass.TELEMETRY, 0)
        self._consider_ping()

    def bytes_received(self) -> None:
        """Something arrived: the connection is not dead downwards."""
        self._progress = True

    def writable_changed(self, writable: bool) -> None:
        """The transport's buffer has filled or emptied."""
        self._writable = writable
        if writable:
            self._progress = True
            self.pump()

    def pong_received(self, payload: bytes) -> None:
        """Account for a pong; retire what it proves."""
        pong = self._barrier.pong_received(payload)
        if pong is Pong.FOREIGN:
            # Allowed by RFC 6455 (unsolicited pongs), but of no use to us.
            self._saw_foreign_pong = True
            self._counters.increment("pongs_foreign")
            return
        self._peer.answered()
        self._is_proven = True
        if pong is Pong.MATCHES:
            self._cancel_pong_limit()
            self._counters.observe(
                "barrier_round_trip_seconds", self._reactor.seconds() - self._ping_sent_s
            )
        self._retire_up_to(self._barrier.acknowledged)
        if self._open:
            self.pump()

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake."""
        if self._open:
            self._protocol.close(code, reason)

    def closing(self) -> None:
        """A close frame was sent: stop sending, and don't wait for ever for the peer."""
        if not self._open:
            return
        self._open = False
        self._quiet()
        self._close_limit = self._reactor.callLater(
            self._settings.close_timeout_s,
            self._protocol.abort,
            "the platform did not end the connection after the closing handshake",
        )

    def ended(self) -> None:
        """The socket is gone: leave no timer behind."""
        self._open = False
        self._quiet()
        if self._close_limit is not None and self._close_limit.active():
            self._close_limit.cancel()
        self._close_limit = None

    # -- inside ------------------------------------------------------------------------------

    def _release_held(self) -> list[OutboxRow]:
        """Those of the held rows that may go now: all before the first suspect, or that alone."""
        released: list[OutboxRow] = []
        while self._held and not self._suspects.is_isolated(self._held[0].row_id):
            released.append(self._held.popleft())
        if self._held and not (released or self._in_flight or self._barrier.is_outstanding):
            self._suspect_is_out = True
            released.append(self._held.popleft())
        return released

    def _send_rows(self, rows: Sequence[OutboxRow]) -> bool:
        """Send and count them; False when there are none."""
        for row in rows:
            self._send(row.row_id, row.payload, row.is_text, row.message_class, row.datapoints)
            if row.attempts > 1:
                self._counters.increment("messages_resent", message_class=row.message_class.value)
        batch = [(row.message_class, row.datapoints) for row in rows]
        count_batch(self._counters, "messages_sent", "datapoints_sent", batch)
        return bool(rows)

    def _send(
        self,
        row_id: int,
        payload: bytes,
        is_text: bool,
        message_class: MessageClass,
        datapoints: int,
    ) -> None:
        self._barrier.sent += 1
        size = len(payload)
        self._in_flight.append((row_id, size, message_class, datapoints))
        self._in_flight_bytes += size
        self._unproven_bytes += size
        self._protocol.send_message(payload, is_text)

    def _consider_ping(self) -> None:
        if self._barrier.is_outstanding or not self._barrier.unproven:
            return
        if (
            self._barrier.unproven >= _PING_AFTER_MESSAGES
            or self._suspect_is_out
            or self._unproven_bytes >= _PING_AFTER_BYTES
        ):
            self._ping()
        elif self._ping_soon is None:
            self._ping_soon = self._later(_PING_AFTER_S, self._ping_is_due)

    def _ping_is_due(self) -> None:
        self._ping_soon = None
        if self._open and not self._barrier.is_outstanding:
            self._ping()

    def _keep_alive(self) -> None:
        if not self._barrier.is_outstanding:
            self._ping()

    def _ping(self) -> None:
        self._cancel_ping_soon()
        self._unproven_bytes = 0
        self._progress = self._saw_foreign_pong = False
        self._extensions = 0
        self._ping_sent_s = self._reactor.seconds()
        wait_s = self._settings.pong_timeout_s
        if self._peer.peer_class is not PeerClass.PONG:
            wait_s = min(wait_s, _UNPROVEN_WAIT_S)
        self._pong_limit = self._later(wait_s, self._pong_is_late)
        self._protocol.send_ping(self._barrier.ping())

    def _pong_is_late(self) -> None:
        self._pong_limit = None
        timeout_s = self._settings.pong_timeout_s
        if (
            self._progress
            and self._extensions < _EXTENSIONS
            and not self._saw_foreign_pong
            and self._peer.peer_class is PeerClass.PONG
        ):
            self._progress = False
            self._extensions += 1
            self._pong_limit = self._later(timeout_s, self._pong_is_late)
        elif self._peer.missed(self._saw_foreign_pong) is PeerClass.PONG:
            self._counters.increment("pong_timeouts")
            waited_s = timeout_s * (1 + self._extensions)
            self._protocol.abort(f"no pong within {waited_s:g} s: the connection is dead")
        elif self._writable:
            # This peer never gives usable pongs. The outbox keeps the rows for their linger time,
            # in case the connection breaks.
            self._barrier.abandon()
            self._retire_up_to(self._barrier.sent)
            self.pump()
        elif self._reactor.seconds() - self._ping_sent_s < timeout_s:
            self._pong_limit = self._later(_UNPROVEN_WAIT_S, self._pong_is_late)
        else:
            self._protocol.abort(
                f"the network has taken nothing for {timeout_s:g} s: the connection is dead"
            )

    def _retire_up_to(self, sent: int) -> None:
        rows: list[int] = []
        proven: list[tuple[MessageClass, int]] = []
        while self._retired < sent:
            row_id, size, message_class, datapoints = self._in_flight.popleft()
            self._in_flight_bytes -= size
            self._retired += 1
            if row_id >= 0:
                rows.append(row_id)
                proven.append((message_class, datapoints))
        if rows:
            count_batch(self._counters, "messages_acknowledged", "datapoints_acknowledged", proven)
            self._outbox.retire(rows)
            self._suspects.acknowledged(rows)
        if not self._in_flight:
            self._suspect_is_out = False
        if not self.has_unacknowledged and self.on_drained is not None:
            self.on_drained()

    def _quiet(self) -> None:
        if self._keepalive.running:
            self._keepalive.stop()
        self._cancel_ping_soon()
        self._cancel_pong_limit()

    def _later(self, delay_s: float, call: Callable[[], None]) -> Any:
        """A timer inside the error boundary of the connection."""
        return self._reactor.callLater(delay_s, self._protocol.guard, call)

    def _cancel_ping_soon(self) -> None:
        if self._ping_soon is not None:
            self._ping_soon.cancel()
            self._ping_soon = None

    def _cancel_pong_limit(self) -> None:
        if self._pong_limit is not None:
            self._pong_limit.cancel()
            self._pong_limit = None
