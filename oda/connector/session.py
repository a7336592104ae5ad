"""One open connection: what the agent sends on it, and what of that has arrived.

While its protocol may send, the session takes rows from the outbox as far as the window and the
transport allow. It retires them when its ``Heartbeat`` has proven that the peer has read them;
until then they are in its ``Flight``. A proof is the number of messages of this connection that
have arrived; the order of sending says which messages these are.

A message that is suspected of ending connections (``redelivery.Suspects``) goes out alone. The
session holds back what it has taken behind that message until the message is acknowledged.

While reading is held (``backpressure.ReadingHold``), the session *lets go* of answers that the
network has taken: they no longer take room in the window, and the outbox may forget them when it
needs their room. The outbox repeats them if the connection ends before they are proven.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from oda.connector.acknowledgement import Heartbeat
from oda.connector.backpressure import Intake, ReadingHold
from oda.connector.current import CurrentSettings
from oda.connector.peer import Peer
from oda.connector.protocol import IConnectionListener, PlatformProtocol
from oda.connector.rate_limit import TokenBucket
from oda.connector.redelivery import Suspects
from oda.connector.window import SendWindow, Taken, Uplink, taken_bytes
from oda.errors import NotConnected
from oda.interfaces import ICounters, IOutbox
from oda.model import MessageClass, OutboxRow
from oda.settings import OutboxSettings

# -- counting ------------------------------------------------------------------------------------


def count_batch(
    counters: ICounters,
    messages_name: str,
    datapoints_name: str,
    batch: Sequence[tuple[MessageClass, int]],
) -> None:
    """Count messages by class, and the datapoints in them, once for a whole batch. ``batch`` holds
    the class and the number of datapoints of each message."""
    answers = datapoints = 0
    for message_class, points in batch:
        if message_class is MessageClass.RESPONSE:
            answers += 1
        datapoints += points
    if answers:
        counters.increment(messages_name, answers, message_class=MessageClass.RESPONSE.text)
    if len(batch) > answers:
        telemetry = MessageClass.TELEMETRY.text
        counters.increment(messages_name, len(batch) - answers, message_class=telemetry)
    if datapoints:
        counters.increment(datapoints_name, datapoints)


# -- messages in flight --------------------------------------------------------------------------


#: Row id (None: not a row), bytes, class and datapoints of a message.
Sent = tuple[int | None, int, MessageClass, int]


class Flight:
    """The messages of one connection. The sender of a message adds it to ``messages``, and its
    bytes to ``size_bytes``. Answers that were let go stay in ``messages``, but ``size_bytes`` no
    longer includes their bytes; ``let_go`` holds their rows."""

    def __init__(self) -> None:
        self.messages: deque[Sent] = deque()
        self.size_bytes = 0
        self.let_go: set[int] = set()
        #: The highest row of each class that was acknowledged on this connection.
        self.acknowledged: dict[MessageClass, int] = {}
        self._arrived = 0

    @property
    def row_ids(self) -> list[int | None]:
        """The unproven rows. None for a message that is not a row, and for an answer that was let
        go."""
        return [None if row_id in self.let_go else row_id for row_id, *_ in self.messages]

    def let_answers_go(self) -> list[int]:
        """Let all answers go; returns the rows that were not let go before."""
        rows: list[int] = []
        for row_id, size, message_class, _ in self.messages:
            if row_id is None or row_id in self.let_go:
                continue
            if message_class is MessageClass.RESPONSE:
                rows.append(row_id)
                self.size_bytes -= size
        self.let_go.update(rows)
        return rows

    def arrived(self, sent: int) -> tuple[list[int], list[tuple[MessageClass, int]]]:
        """The first ``sent`` messages of this connection have arrived. Returns the rows among them
        to retire, and class and datapoints of all that come from rows."""
        rows: list[int] = []
        proven: list[tuple[MessageClass, int]] = []
        while self._arrived < sent:
            row_id, size, message_class, datapoints = self.messages.popleft()
            self._arrived += 1
            if row_id is None:
                self.size_bytes -= size
                continue
            if row_id in self.let_go:
                self.let_go.remove(row_id)
            else:
                self.size_bytes -= size
                rows.append(row_id)
            self.acknowledged[message_class] = row_id
            proven.append((message_class, datapoints))
        return rows, proven


# -- the session ---------------------------------------------------------------------------------


#: How many rows the session asks of the outbox at once.
_TAKE = 64
#: Responses may exceed a full window by this many messages: a person waits for them.
_URGENT_EXTRA = 64
#: Shortest time for which the outbox retains answers that were let go, unless it needs the room, in
#: seconds.
_LET_GO_S = 60.0


@implementer(IConnectionListener)
class Session:
    """Drives one open ``PlatformProtocol``, and listens to it. ``on_message(payload, is_binary)``
    is called for every message that arrives."""

    def __init__(
        self,
        protocol: PlatformProtocol,
        outbox: IOutbox,
        reactor: IReactorTime,
        settings: CurrentSettings,
        window: OutboxSettings,
        counters: ICounters,
        peer: Peer,
        epoch: bytes,
        suspects: Suspects,
        intake: Intake,
        on_message: Callable[[bytes, bool], None],
        taken: Callable[[Any], Taken | None] = taken_bytes,
    ) -> None:
        self._protocol = protocol
        self._intake = intake
        self._on_message = on_message
        self._outbox = outbox
        self._reactor = reactor
        self._settings = settings
        self._window = window
        self._counters = counters
        self._suspects = suspects
        self._held: list[OutboxRow] = []  # taken, but a suspect has to go first, alone
        self._suspect_is_out = False
        #: What was sent and is not yet proven.
        self.flight = Flight()
        self._close_limit: IDelayedCall | None = None
        self._rate: TokenBucket | None = None
        if window.max_rate_per_s:
            self._rate = TokenBucket(window.max_rate_per_s, max(1.0, window.max_rate_per_s))
        self._rate_call: IDelayedCall | None = None
        transport = protocol.transport
        self._uplink = Uplink(lambda: taken(transport), reactor.seconds)
        self._send_window = SendWindow(window.window_bytes, settings)
        self._heartbeat = Heartbeat(
            protocol,
            reactor,
            settings,
            counters,
            peer,
            epoch,
            self._uplink,
            self._send_window,
            self._proven,
        )
        self._hold = ReadingHold(
            protocol,
            intake,
            reactor,
            settings,
            self._let_written_go,
            self._reading_held,
            self._uplink,
            self._needs_pong,
        )
        self.on_drained: Callable[[], None] | None = None

    @property
    def has_unacknowledged(self) -> bool:
        """True while messages are unproven, or are about to be sent."""
        return bool(self.flight.messages or self._held)

    @property
    def unacknowledged(self) -> int:
        """How many sent messages are unproven."""
        return len(self.flight.messages)

    @property
    def ping_waits_s(self) -> float | None:
        """How long the outstanding ping has waited for its pong, None when there is none."""
        return self._heartbeat.ping_waits_s

    @property
    def replay_bytes(self) -> int | None:
        """On a slow link: how many proven bytes may be sent again after its end. None for a link
        that keeps up."""
        if not (self._send_window.follows_link and self._heartbeat.gets_pongs):
            return None
        return self._send_window.size_bytes

    @property
    def silence_s(self) -> float:
        """How long nothing has been sent or received; see ``Heartbeat.silence_s``."""
        return self._heartbeat.silence_s

    @property
    def keep_alive_s(self) -> float:
        """How often a ping goes out on this connection while it is silent."""
        return self._heartbeat.keep_alive_s

    @property
    def sent(self) -> int:
        """How many messages were sent on this connection."""
        return self._heartbeat.sent

    @property
    def is_proven(self) -> bool:
        """True once a ping of this connection was answered, or if the peer gives no pongs."""
        return self._heartbeat.is_proven

    def start(self) -> None:
        """Probe the peer, start the keepalive and send what waits."""
        self._heartbeat.start()
        self.pump()

    def pump(self) -> None:
        """Send what waits, as far as the window and the transport allow."""
        flight, send_window = self.flight, self._send_window
        while self._takes and not self._suspect_is_out:
            if self._held:
                if not self._send_rows(self._release_held()):
                    break
                continue
            room = self._window.window_messages - len(flight.messages) + len(flight.let_go)
            room_bytes = send_window.size_bytes - flight.size_bytes
            allowed = min(room, _TAKE, self._allowance())
            if room <= 0 or room_bytes <= 0:
                send_window.filled()
            if allowed > 0 and room_bytes > 0:
                if send_window.is_narrow:
                    # Each step gets a ping of its own behind it.
                    self._heartbeat.consider_ping(at_once=False)
                    room_bytes = min(room_bytes, send_window.step_bytes)
                rows = self._outbox.take(allowed, room_bytes)
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
        if self._protocol.may_send:
            self._heartbeat.consider_ping(self._suspect_is_out)
        self._hold.consider()

    def send_now(self, payload: bytes, is_text: bool) -> None:
        """Write one message outside the outbox; the barrier counts it like the others.

        Raises ``NotConnected`` when the network takes nothing more, so that nothing can be sent.
        """
        if not self._takes:
            raise NotConnected("the connection to the platform is congested")
        self._send([(payload, is_text)], ())
        self._heartbeat.consider_ping(self._suspect_is_out)

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake."""
        if self._protocol.may_send:
            self._protocol.close(code, reason)

    # -- IConnectionListener -----------------------------------------------------------------

    def message_received(self, payload: bytes, is_binary: bool) -> None:
        self._on_message(payload, is_binary)
        if self._intake.is_full and self._protocol.may_send:
            # Read no more requests until there is room for their answers.
            self._hold.begin()

    def bytes_received(self) -> None:
        self._heartbeat.bytes_received()

    def writable_changed(self, writable: bool) -> None:
        self._heartbeat.writable_changed(writable)
        if writable:
            self.pump()

    def pong_received(self, payload: bytes) -> None:
        self._heartbeat.pong_received(payload)

    def sending_ends(self) -> None:
        """A close frame was sent: stop sending, and limit the wait for the peer."""
        if self._close_limit is not None:
            return
        self._hold.end()
        self._quiet()
        self._close_limit = self._reactor.callLater(
            self._settings.now.close_timeout_s,
            self._protocol.abort,
            "the platform did not end the connection after the closing handshake",
        )

    def ended(self) -> None:
        """The socket is gone: leave no timer behind, and no cycle for the garbage collector."""
        self._hold.end_for_good()
        self._quiet()
        self._heartbeat.end()
        if self._close_limit is not None and self._close_limit.active():
            self._close_limit.cancel()
        self._close_limit = None

    # -- inside ------------------------------------------------------------------------------

    @property
    def _takes(self) -> bool:
        """Whether messages can be written now."""
        return self._protocol.may_send and self._protocol.is_writable

    def _release_held(self) -> list[OutboxRow]:
        """The held rows that may go now: all before the first suspect, or the suspect alone."""
        released: list[OutboxRow] = []
        while self._held and not self._suspects.is_isolated(self._held[0].row_id):
            released.append(self._held.pop(0))
        if self._held and not (released or self.flight.messages or self._heartbeat.is_outstanding):
            self._suspect_is_out = True
            released.append(self._held.pop(0))
        return released

    def _let_written_go(self) -> bool:
        """Let the sent answers go; False when the network has not taken them."""
        if not self._takes:
            return False
        rows = self.flight.let_answers_go()
        if rows:
            self._outbox.retire(rows, max(_LET_GO_S, self._window.linger_s))
            self.pump()
        return True

    def _needs_pong(self) -> bool:
        """Whether a suspect is in flight, or waits to be sent alone."""
        return self._suspect_is_out or bool(self._held)

    def _reading_held(self, is_held: bool) -> None:
        self._send_window.interrupted()
        self._heartbeat.reading_held(is_held)

    def _quiet(self) -> None:
        self._heartbeat.stop()
        if self._rate_call is not None:
            self._rate_call.cancel()
            self._rate_call = None

    def _allowance(self) -> int:
        """How many messages the rate limit permits now; if none, a timer resumes the pump."""
        if self._rate is None:
            return _TAKE
        now_s = self._reactor.seconds()
        allowed = self._rate.available(now_s)
        if allowed < 1 and self._rate_call is None:
            self._rate_call = self._reactor.callLater(
                self._rate.wait_s(now_s), self._protocol.guard, self._rate_permits
            )
        return allowed

    def _rate_permits(self) -> None:
        self._rate_call = None
        self.pump()

    def _send_rows(self, rows: Sequence[OutboxRow]) -> bool:
        """Send and count them; False when there are none."""
        if not rows:
            return False
        self._send([(row.payload, row.is_text) for row in rows], rows)
        for row in rows:
            if row.attempts > 1:
                self._counters.increment("messages_resent", message_class=row.message_class.value)
        if self._rate is not None:
            self._rate.spend(sum(row.message_class is MessageClass.TELEMETRY for row in rows))
        batch = [(row.message_class, row.datapoints) for row in rows]
        count_batch(self._counters, "messages_sent", "datapoints_sent", batch)
        return True

    def _send(self, messages: Sequence[tuple[bytes, bool]], rows: Sequence[OutboxRow]) -> None:
        """Write ``messages`` at once; ``rows`` are their rows, if they come from the outbox."""
        sent: list[Sent] = [
            (row.row_id, len(row.payload), row.message_class, row.datapoints) for row in rows
        ] or [(None, len(payload), MessageClass.TELEMETRY, 0) for payload, _ in messages]
        size = sum(one[1] for one in sent)
        flight = self.flight
        if not flight.messages:
            self._send_window.begins(self._reactor.seconds())
        flight.messages.extend(sent)
        flight.size_bytes += size
        self._heartbeat.messages_sent(len(sent), size)
        self._protocol.send_messages(messages)

    def _proven(self, sent: int) -> None:
        """The first ``sent`` messages of this connection have arrived."""
        before = self.flight.size_bytes
        rows, proven = self.flight.arrived(sent)
        self._send_window.proven(self._reactor.seconds(), before - self.flight.size_bytes)
        if proven:
            count_batch(self._counters, "messages_acknowledged", "datapoints_acknowledged", proven)
        if rows:
            self._outbox.retire(rows)
            self._suspects.acknowledged(rows)
        if not self.flight.messages:
            self._suspect_is_out = False
        if not self.has_unacknowledged and self.on_drained is not None:
            self.on_drained()
        if self._protocol.may_send:
            self.pump()
