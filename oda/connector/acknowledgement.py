"""Pings and their pongs. They prove what the platform has read, and keep the connection alive.

*The barrier.* WebSocket keeps messages in order, and a pong repeats its ping's payload (RFC 6455,
sections 5.4 and 5.5.3). If the agent sends a ping after message n and gets its pong, the peer's
WebSocket layer has read the messages up to n. The payload holds a mark of this agent, a random
number of this connection, and n. So a pong of another connection, an unsolicited pong, or a mangled
one can't acknowledge anything. The payload is printable ASCII, because some servers take it for a
text. A peer may answer only the newest of several pings (section 5.5.3), so a pong also answers all
earlier pings.

*The heartbeat.* There is one kind of ping. The agent sends it when the connection opens (to learn
what kind of peer this is), after a number of messages or bytes or a short time, and at every
``keepAliveInterval``. On a slow link a few pings are in flight at once, so that the link never
waits for a pong (``window.SendWindow``).

While a ping waits for its pong, the connection is dead if the network takes nothing more for
``pongTimeout`` (``window.Uplink``). Once the network has taken the ping, later progress says
nothing: a proxy accepts bytes for a platform that hangs. A ping that took longer to get through
gets half that time again for the networks behind the first one, up to four times the limit. Where
the progress of the network is unknown, bytes that arrive or a send buffer that empties extend the
limit, but only to four times its length, because bytes that arrive prove nothing about the uplink.

If a peer is known to give no usable pongs, the heartbeat waits only briefly. What the network has
taken then counts as proven; where that is unknown, what was written to a transport that isn't
blocked counts.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall

from oda.connector.current import CurrentSettings
from oda.connector.peer import Peer, PeerClass
from oda.connector.protocol import PlatformProtocol
from oda.connector.rate_limit import TokenBucket
from oda.connector.window import PINGS, SendWindow, Uplink
from oda.interfaces import ICounters

# -- the barrier ---------------------------------------------------------------------------------


MAGIC = b"ODA1"
EPOCH_BYTES = 8


class _Ping(NamedTuple):
    payload: bytes
    mark: int
    sent_s: float


class Pong(Enum):
    """What a pong is worth."""

    MATCHES = "matches"
    LATE = "late"
    FOREIGN = "foreign"


class AckBarrier:
    """The barrier of one connection.

    ``sent`` counts the messages sent on it, ``acknowledged`` those that a pong has proven.
    Invariant: acknowledged <= mark of the newest ping <= sent.
    """

    def __init__(self, epoch: bytes) -> None:
        if len(epoch) != EPOCH_BYTES:
            raise ValueError(f"the epoch must be {EPOCH_BYTES} bytes")
        self._prefix = b"%b-%b-" % (MAGIC, urlsafe_b64encode(epoch).rstrip(b"="))
        self.sent = 0
        self.acknowledged = 0
        self.ping_sent_s = 0.0
        self._outstanding: list[_Ping] = []
        self._mark = 0
        self._abandoned: _Ping | None = None

    @property
    def outstanding(self) -> int:
        """How many pings have not been answered."""
        return len(self._outstanding)

    @property
    def is_outstanding(self) -> bool:
        """True while a ping has not been answered."""
        return bool(self._outstanding)

    @property
    def unproven(self) -> int:
        """How many of the sent messages no ping covers."""
        return self.sent - self._mark

    def ping(self, now_s: float = 0.0) -> bytes:
        """The payload of a new ping that covers everything sent so far.

        Raises ``RuntimeError`` while another ping that covers the same is outstanding: nothing
        could tell their pongs apart.
        """
        if self._outstanding and self._outstanding[-1].mark == self.sent:
            raise RuntimeError("a ping that covers the same messages is already outstanding")
        self._mark = self.sent
        payload = b"%b%d" % (self._prefix, self.sent)
        self._outstanding.append(_Ping(payload, self.sent, now_s))
        return payload

    def pong_received(self, payload: bytes) -> Pong:
        """Account for a pong. Afterwards ``acknowledged`` says what is proven; after a pong that
        matches, ``ping_sent_s`` says when its ping was sent."""
        for ping in reversed(self._outstanding):
            if payload == ping.payload:
                while self._outstanding.pop(0) is not ping:
                    pass
                self._abandoned = None
                self.acknowledged = ping.mark
                self.ping_sent_s = ping.sent_s
                return Pong.MATCHES
        late = self._abandoned
        if late is not None and payload == late.payload:
            self.acknowledged = late.mark
            self._abandoned = None
            return Pong.LATE
        return Pong.FOREIGN

    def abandon(self) -> None:
        """Give up waiting for outstanding pongs. If the pong of the newest ping still arrives
        before the next ping is given up, it is ``LATE`` and proves the same messages."""
        if self._outstanding:
            self._abandoned = self._outstanding[-1]
            self._outstanding.clear()


# -- the heartbeat -------------------------------------------------------------------------------


#: Number of unproven messages, or bytes, after which a ping is due ...
_PING_AFTER_MESSAGES = 64
_PING_AFTER_BYTES = 256 * 1024
#: ... and the longest time that the first of them waits for a ping, in seconds.
_PING_AFTER_S = 0.1
#: Pings a second, on average and in a burst, however much is sent: some servers count them.
#: Together with the window of messages this bounds the rate of a long drain.
_PINGS_PER_S = 1000.0
_PINGS_AT_ONCE = 200.0
#: How often the pong's time limit can be extended where the network's progress is unknown.
_EXTENSIONS = 3
#: Longest time limit after the last progress, as a multiple of ``pong_timeout_s``.
_MAX_LIMITS = 4
#: Number of looks at the progress in each time limit.
_LOOKS = 4
#: How long a peer without usable pongs is given before messages count as proven, in seconds.
_UNPROVEN_WAIT_S = 1.0


class Heartbeat:
    """Calls ``proven(count)`` when the first ``count`` messages of the connection have provably
    arrived, and drops the connection when it is dead. All its timers run inside the error boundary
    of ``protocol``."""

    def __init__(
        self,
        protocol: PlatformProtocol,
        reactor: IReactorTime,
        settings: CurrentSettings,
        counters: ICounters,
        peer: Peer,
        epoch: bytes,
        uplink: Uplink,
        window: SendWindow,
        proven: Callable[[int], None],
    ) -> None:
        self._uplink = uplink
        self._window = window
        self._protocol = protocol
        self._reactor = reactor
        self._settings = settings
        self._counters = counters
        self._peer = peer
        self._barrier = AckBarrier(epoch)
        self._proven = proven
        self._pings = TokenBucket(_PINGS_PER_S, _PINGS_AT_ONCE)
        self._unproven_bytes = 0
        self._progress = False
        self._extensions = 0
        self._saw_foreign_pong = False
        self._was_answered = False
        self._ping_soon: IDelayedCall | None = None
        self._pong_limit: IDelayedCall | None = None
        self._is_deaf = False
        self._waits_since_s = 0.0
        self._ping_taken_s: float | None = None
        self._is_stopped = False
        self._active_s = float(reactor.seconds())
        self._silence_before_ping_s = 0.0
        self._keepalive: LoopingCall | None = None

    @property
    def is_outstanding(self) -> bool:
        """True while a ping waits for its pong."""
        return self._barrier.is_outstanding

    @property
    def sent(self) -> int:
        """How many messages were sent on this connection."""
        return self._barrier.sent

    @property
    def ping_waits_s(self) -> float | None:
        """How long the outstanding ping has waited for its pong. None when no ping is outstanding,
        or while the agent reads nothing."""
        if not self._barrier.is_outstanding or self._is_deaf:
            return None
        return float(self._reactor.seconds() - self._waits_since_s)

    @property
    def is_proven(self) -> bool:
        """True once a ping of this connection was answered, or if the peer gives no pongs."""
        return self._was_answered or self._peer.peer_class is not PeerClass.PONG

    @property
    def gets_pongs(self) -> bool:
        """Whether pongs proved what is proven."""
        return self._was_answered and self._peer.peer_class is PeerClass.PONG

    def start(self) -> None:
        """Probe the peer and start the keepalive."""
        self._start_keepalive()
        self._ping()

    @property
    def keep_alive_s(self) -> float:
        """How often a ping goes out on a silent connection."""
        return self._peer.silence.interval_s(self._settings.now.keep_alive_interval_s)

    @property
    def silence_s(self) -> float:
        """How long nothing has been sent or received. While a ping is outstanding: how long nothing
        had been sent or received before that ping."""
        if self._barrier.is_outstanding:
            return self._silence_before_ping_s
        return float(self._reactor.seconds() - self._active_s)

    def stop(self) -> None:
        """Send no more pings and leave no timer behind; pongs may still arrive."""
        self._is_stopped = True
        self._stop_keepalive()
        self._cancel_ping_soon()
        self._cancel_pong_limit()

    def end(self) -> None:
        """Stop for good: the socket is gone. Drops the reference to the owner of ``proven``."""
        self.stop()
        self._proven = _ignore

    def messages_sent(self, messages: int, size: int) -> None:
        """The session is writing ``messages`` messages with ``size`` bytes together."""
        self._barrier.sent += messages
        self._active_s = self._reactor.seconds()
        self._unproven_bytes += size

    def consider_ping(self, at_once: bool) -> None:
        """Ping if enough was sent since the last ping, or soon. ``at_once``: for any message."""
        barrier = self._barrier
        if not barrier.unproven:
            return
        if barrier.is_outstanding:
            # More than one ping at a time only where each proves a part of a narrow window.
            if not self._window.is_narrow or barrier.outstanding >= PINGS:
                return
            is_large = self._unproven_bytes >= self._window.step_bytes
            if not is_large and barrier.unproven < _PING_AFTER_MESSAGES:
                return
        if (
            at_once
            or barrier.unproven >= _PING_AFTER_MESSAGES
            or self._unproven_bytes >= self._window.ping_after(_PING_AFTER_BYTES)
        ):
            wait_s = self._pings.wait_s(self._reactor.seconds())
            if wait_s <= 0:
                self._ping()
                return
        else:
            wait_s = _PING_AFTER_S
        if self._ping_soon is None:
            self._ping_soon = self._later(wait_s, self._ping_is_due)

    def bytes_received(self) -> None:
        """Something arrived: the downlink is alive."""
        self._progress = True
        self._active_s = self._reactor.seconds()

    def reading_held(self, is_held: bool) -> None:
        """The agent itself stops reading, or reads again. While it reads nothing no pong can
        arrive, and none is late."""
        self._is_deaf = is_held
        if self._peer.peer_class is not PeerClass.PONG:
            return  # this peer gives no pongs to wait for
        if is_held:
            self._cancel_pong_limit()
        elif self._barrier.is_outstanding and self._pong_limit is None:
            self._wait_for_pong()

    def writable_changed(self, writable: bool) -> None:
        """The transport's buffer has filled or emptied."""
        if writable:
            self._progress = True

    def pong_received(self, payload: bytes) -> None:
        """Account for a pong."""
        pong = self._barrier.pong_received(payload)
        if pong is Pong.FOREIGN:
            # RFC 6455 allows unsolicited pongs, but they prove nothing.
            self._saw_foreign_pong = True
            self._counters.increment("pongs_foreign")
            return
        self._peer.answered()
        self._was_answered = True
        if pong is Pong.MATCHES:
            self._cancel_pong_limit()
            seconds = self._reactor.seconds() - self._barrier.ping_sent_s
            self._counters.observe("barrier_round_trip_seconds", seconds)
            self._window.round_trip(seconds)
            if self._barrier.is_outstanding:
                self._wait_for_pong()
        self._proven(self._barrier.acknowledged)

    # -- inside ------------------------------------------------------------------------------

    def _start_keepalive(self) -> None:
        self._keepalive = LoopingCall(self._protocol.guard, self._keep_alive)
        self._keepalive.clock = self._reactor
        self._keepalive.start(self.keep_alive_s, now=False)
        self._settings.watch(self._settings_changed)

    def _stop_keepalive(self) -> None:
        self._settings.unwatch(self._settings_changed)
        if self._keepalive is not None:
            self._keepalive.stop()
            self._keepalive = None

    def _settings_changed(self, reconnect: bool) -> None:
        self._protocol.guard(self._follow_interval)

    def _follow_interval(self) -> None:
        if self._keepalive is not None and self._keepalive.interval != self.keep_alive_s:
            self._stop_keepalive()
            self._start_keepalive()

    def _ping_is_due(self) -> None:
        self._ping_soon = None
        self.consider_ping(at_once=True)

    def _keep_alive(self) -> None:
        if not self._barrier.is_outstanding:
            self._ping()

    def _ping(self) -> None:
        self._cancel_ping_soon()
        now_s = self._reactor.seconds()
        self._unproven_bytes = 0
        self._pings.available(now_s)
        self._pings.spend(1)
        is_first = not self._barrier.is_outstanding
        payload = self._barrier.ping(now_s)
        if is_first:
            self._silence_before_ping_s = now_s - self._active_s
            self._saw_foreign_pong = False
            self._wait_for_pong()
        self._active_s = now_s
        self._protocol.send_ping(payload)

    def _wait_for_pong(self) -> None:
        """Start the time limit of the oldest unanswered ping."""
        if self._is_stopped:
            return  # the closing handshake has a limit of its own
        self._progress = False
        self._extensions = 0
        self._waits_since_s = self._reactor.seconds()
        self._ping_taken_s = None
        self._uplink.progress_s()
        timeout_s = self._settings.now.pong_timeout_s
        expects_pong = self._peer.peer_class is PeerClass.PONG
        wait_s = timeout_s / _LOOKS if expects_pong else min(timeout_s, _UNPROVEN_WAIT_S)
        if not (expects_pong and self._is_deaf):
            self._pong_limit = self._later(wait_s, self._look_for_pong)

    def _look_for_pong(self) -> None:
        self._pong_limit = None
        timeout_s = self._settings.now.pong_timeout_s
        expects_pong = self._peer.peer_class is PeerClass.PONG
        left_s = self._left_s()
        if expects_pong and left_s > 0:
            self._pong_limit = self._later(min(left_s, timeout_s / _LOOKS), self._look_for_pong)
        elif self._peer.missed(self._saw_foreign_pong, self._uplink.is_waiting) is PeerClass.PONG:
            self._counters.increment("pong_timeouts")
            waited_s = self._reactor.seconds() - self._waits_since_s
            self._protocol.abort(f"no pong within {waited_s:.3g} s: the connection is dead")
        elif self._protocol.is_writable and not self._uplink.is_waiting:
            # This peer never gives usable pongs. The outbox retains the rows for their linger time,
            # in case the connection breaks.
            self._barrier.abandon()
            self._proven(self._barrier.sent)
        elif left_s > 0:
            self._pong_limit = self._later(_UNPROVEN_WAIT_S, self._look_for_pong)
        else:
            self._protocol.abort(
                f"the network has taken nothing for {timeout_s:g} s: the connection is dead"
            )

    def _left_s(self) -> float:
        """How much longer the pong may take."""
        now_s: float = self._reactor.seconds()
        timeout_s = self._settings.now.pong_timeout_s
        progress_s = self._uplink.progress_s()
        if progress_s is not None and progress_s > self._waits_since_s:
            if self._ping_taken_s is None and self._uplink.is_all_taken:
                self._ping_taken_s = progress_s
            if self._ping_taken_s is not None:
                # What the first network has taken may still wait in front of the next one.
                getting_through_s = self._ping_taken_s - self._waits_since_s
                timeout_s = min(max(timeout_s, getting_through_s / 2), _MAX_LIMITS * timeout_s)
                return self._ping_taken_s + timeout_s - now_s
            return progress_s + timeout_s - now_s
        left_s = self._waits_since_s + (1 + self._extensions) * timeout_s - now_s
        if (
            left_s <= 0
            and self._progress
            and self._extensions < _EXTENSIONS
            and not self._saw_foreign_pong
        ):
            self._progress = False
            self._extensions += 1
            left_s += timeout_s
        return left_s

    def _later(self, delay_s: float, call: Callable[[], None]) -> IDelayedCall:
        return self._reactor.callLater(delay_s, self._protocol.guard, call)

    def _cancel_ping_soon(self) -> None:
        if self._ping_soon is not None:
            self._ping_soon.cancel()
            self._ping_soon = None

    def _cancel_pong_limit(self) -> None:
        if self._pong_limit is not None:
            self._pong_limit.cancel()
            self._pong_limit = None


def _ignore(count: int) -> None:
    """Nobody needs to know what is proven any more."""
