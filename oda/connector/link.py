"""The life of the connection: identify the device, connect, stay connected, start again.

::

                 +----------- configured anew ------------+
                 v                                        |
    STOPPED -> IDENTIFYING -> CONNECTING -> OPEN -> CLOSING
       ^                        |    ^        |        |
       |                        v    |        |        |
       |                       WAITING <------+--------+
       +---- stop: from each state, from OPEN and CLOSING when the socket is gone

=============  ======================================  =========================================
State          What leads on                           Where to
=============  ======================================  =========================================
STOPPED        ``start``                               IDENTIFYING
IDENTIFYING    id and key are known                    CONNECTING
CONNECTING     the WebSocket is open                   OPEN
CONNECTING     the attempt has failed                  WAITING
OPEN           a close frame was sent                  CLOSING
CONNECTING,    the agent drops the socket (``_drop``)  CLOSING
OPEN
OPEN, CLOSING  the socket is gone                      WAITING
WAITING        the pause has ended                     CONNECTING
any            ``stop``                                STOPPED: at once without a socket,
                                                       otherwise when the socket is gone
any            settings that need a reconnection       IDENTIFYING: likewise
=============  ======================================  =========================================

In every state but STOPPED, a socket, a timer or a pending answer leads on. ``_state`` says where
the link is. ``_then`` says where it goes when the present attempt or connection has ended: to
WAITING, unless it was stopped or configured anew in the meantime. OPEN also covers the drain of a
stop.

A question for id and key, a message, and the end of a stop run foreign code, which may call
``start``, ``stop`` and ``hurry``, or change the settings. So the link settles its own state before
each such call, and an earlier request counts after the call only if it is still wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.connector.address import Address, build_address
from oda.connector.backpressure import Intake
from oda.connector.connecting import ConnectionAttempt, Identification, KnownAddresses
from oda.connector.current import CurrentSettings
from oda.connector.factory import PlatformClientFactory
from oda.connector.outcome import NO_CLOSE_FRAME, Outcome
from oda.connector.peer import Peer, Peers
from oda.connector.protocol import IConnectionOwner, PlatformProtocol
from oda.connector.reconnect import Backoff, Reconnection
from oda.connector.redelivery import Aftermath
from oda.connector.session import Session
from oda.connector.status import ConnectionRecord
from oda.connector.tls import build_tls_options
from oda.connector.window import Taken, taken_bytes
from oda.interfaces import ICounters, IDeviceInfoProvider, IOutbox
from oda.log import Logger
from oda.model import ConnectionStatus, LinkState
from oda.settings import OutboxSettings, Secret
from oda.troubles import Troubles

_log = Logger()

STOPPED, IDENTIFYING, CONNECTING = LinkState.STOPPED, LinkState.IDENTIFYING, LinkState.CONNECTING
OPEN, CLOSING, WAITING = LinkState.OPEN, LinkState.CLOSING, LinkState.WAITING

#: The states that may follow each state: the table above.
FOLLOWS = {
    STOPPED: {IDENTIFYING},
    IDENTIFYING: {IDENTIFYING, CONNECTING, STOPPED},
    CONNECTING: {OPEN, WAITING, CLOSING, IDENTIFYING, STOPPED},
    OPEN: {CLOSING, WAITING, IDENTIFYING, STOPPED},
    CLOSING: {WAITING, IDENTIFYING, STOPPED},
    WAITING: {CONNECTING, IDENTIFYING, STOPPED},
}

#: How long a stop waits for acknowledgements before it closes, in seconds.
DRAIN_S = 5.0


@implementer(IConnectionOwner)
class PlatformLink:
    """Keeps one WebSocket open between ``start`` and ``stop``.

    ``on_message(payload, is_binary)`` is called for every message that arrives. ``random`` gives
    floats in [0, 1), ``random_bytes(n)`` n random bytes. ``taken(transport)`` is as
    ``window.taken_bytes``.
    """

    # One dict more for each agent otherwise: Python shares the names of 30 attributes at most.
    __slots__ = (
        "_address",
        "_aftermath",
        "_attempt",
        "_connecting_since_s",
        "_counters",
        "_drain",
        "_factory",
        "_hurries",
        "_identification",
        "_intake",
        "_known",
        "_last_outcome",
        "_on_message",
        "_open_at",
        "_outbox",
        "_peer",
        "_peers",
        "_protocol",
        "_random_bytes",
        "_reactor",
        "_reconnection",
        "_record",
        "_retry",
        "_session",
        "_settings",
        "_starts_again",
        "_state",
        "_stopping",
        "_taken",
        "_then",
        "_window",
    )

    def __init__(
        self,
        settings: CurrentSettings,
        window: OutboxSettings,
        outbox: IOutbox,
        device_info: IDeviceInfoProvider,
        counters: ICounters,
        reactor: Any,
        random: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        on_message: Callable[[bytes, bool], None],
        intake: Intake,
        taken: Callable[[Any], Taken | None] = taken_bytes,
        troubles: Troubles | None = None,
    ) -> None:
        self._settings = settings
        self._window = window
        self._outbox = outbox
        self._counters = counters
        self._reactor = reactor
        self._random_bytes = random_bytes
        self._on_message = on_message
        self._intake = intake
        self._taken = taken
        self._identification = Identification(device_info, reactor, self._identified, troubles)
        self._reconnection = Reconnection(reactor, counters, settings, random)
        self._record = ConnectionRecord(reactor)
        self._known = KnownAddresses()
        self._peers = Peers()
        self._peer = Peer()
        self._aftermath = Aftermath()
        self._state = STOPPED
        self._then = WAITING
        #: Fires when ``stop`` is done.
        self._stopping: Deferred[None] | None = None
        #: True if ``start`` was called again during that stop.
        self._starts_again = False
        self._hurries = False
        # Set from CONNECTING on ...
        self._address: Address | None = None
        self._factory: PlatformClientFactory | None = None
        self._attempt: ConnectionAttempt | None = None
        self._connecting_since_s = 0.0
        # ... from the moment that TCP is up ...
        self._protocol: PlatformProtocol | None = None
        # ... and once the WebSocket is open: its address, and since when.
        self._session: Session | None = None
        self._open_at: tuple[str, float] | None = None
        self._drain: _Drain | None = None
        #: The delayed call that ends the pause, in WAITING.
        self._retry: IDelayedCall | None = None
        self._last_outcome = Outcome(reason="not connected yet")
        outbox.subscribe(self._rows_are_pending)
        settings.watch(self._settings_changed)

    @property
    def session(self) -> Session | None:
        """The open session, None while there is none."""
        return self._session if self._state is OPEN else None

    @property
    def display(self) -> str:
        """Where connections go, without the key."""
        return self._address.display if self._address is not None else self._settings.now.host

    def status(self) -> ConnectionStatus:
        """See ``IConnectionObservable.status``."""
        return self._record.status(
            self._state, self.display, self._peer.peer_class, self.session, self._settings.now
        )

    def _enter(self, state: LinkState) -> None:
        if state not in FOLLOWS[self._state]:
            # The link continues all the same: one that stands still would be worse.
            _log.error(
                "a defect: the link goes from {before} to {after}",
                before=self._state.value,
                after=state.value,
            )
        self._state = state

    # -- what the agent wants ----------------------------------------------------------------

    def start(self) -> None:
        """Find out who the device is, and connect; returns at once. If an earlier ``stop`` is
        still closing its connection, this starts when that is done."""
        if self._stopping is not None:
            self._starts_again = True
        elif self._state is STOPPED:
            self._hurries = False
            self._identify()

    def stop(self) -> Deferred[None]:
        """Deliver what can be delivered within ``DRAIN_S``, close with code 1000, and end.

        The Deferred fires with None when the socket is gone and no timer is left; it never fails.
        """
        self._starts_again = False
        if self._stopping is not None:
            return _also(self._stopping)
        self._stopping = Deferred()
        stopped = _also(self._stopping)
        self._then = STOPPED
        self._lead_nowhere()
        session, protocol = self.session, self._protocol
        if protocol is None:
            self._go_on()
        elif session is None or self._hurries:
            self._drop(protocol, "the agent is stopping")
        else:
            self._drain = _Drain(session, protocol, self._outbox, self._reactor, self._drained)
            protocol.guard(self._drain.start)
        return stopped

    def hurry(self) -> None:
        """Let the stop in progress, or the next one, wait neither for acknowledgements nor for a
        close frame. What was not delivered stays in the outbox."""
        self._hurries = True
        if self._stopping is not None and self._protocol is not None:
            self._drop(self._protocol, "the agent is stopping")

    def connect_now(self) -> bool:
        """End the pause before the next attempt, or before the next question for the id. Returns
        whether there was a pause. Later pauses are as long as if this one had not been cut short.
        """
        if self._state is IDENTIFYING:
            return self._identification.hurry()
        retry = self._retry
        if self._state is not WAITING or retry is None or not retry.active():
            return False
        retry.reset(0)
        return True

    def _settings_changed(self, reconnect: bool) -> None:
        if not reconnect:
            return
        self._reconnection.begin_anew()
        # The settings may lead to another platform.
        self._known, self._peers, self._peer = KnownAddresses(), Peers(), Peer()
        if self._state is not STOPPED and self._stopping is None:
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._then = IDENTIFYING
        self._lead_nowhere()
        if self._protocol is None:
            self._go_on()
        elif self.session is not None:
            self.session.close(1000, "the configuration has changed")
        else:
            self._drop(self._protocol, "the configuration has changed")

    def _lead_nowhere(self) -> None:
        """Cancel everything that would lead to a connection."""
        self._identification.cancel()
        self._open_at = None
        if self._factory is not None:
            self._factory.stopTrying()
            self._factory = None
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None

    def _drop(self, protocol: PlatformProtocol, reason: str) -> None:
        """End a connection of no further use; ``closed`` follows."""
        if self._state is not CLOSING:
            self._enter(CLOSING)
        protocol.abort(reason)

    # -- towards a connection ----------------------------------------------------------------

    def _identify(self) -> None:
        self._enter(IDENTIFYING)
        self._then = WAITING
        self._identification.start()

    def _identified(self, device_id: str, api_key: Secret) -> None:
        settings = self._settings.now
        self._address = build_address(settings, device_id, api_key)
        tls = build_tls_options(settings) if settings.secure else None
        self._record.identified(settings)
        self._factory = PlatformClientFactory(
            self._address,
            self._settings,
            tls,
            self,
            self._connect,
            self._schedule_retry,
            self._reactor,
        )
        self._connect()

    def _connect(self) -> None:
        assert self._factory is not None
        self._enter(CONNECTING)
        settings = self._settings.now
        self._connecting_since_s = self._reactor.seconds()
        _log.info("connecting to {url}", url=self.display)
        self._attempt = ConnectionAttempt(
            self._reactor,
            settings.proxy_host or settings.host,
            settings.proxy_port if settings.proxy_host else settings.port,
            settings.connection_timeout_s,
            self._known.order,
            self._factory.open_socket,
            self._attempt_failed,
        )
        self._attempt.start()

    def _attempt_failed(self, outcome: Outcome) -> None:
        """The attempt has ended, and there is no socket that would report it."""
        self._attempt = None
        self._ended(outcome)

    def _schedule_retry(self, connect: Callable[[], None]) -> IDelayedCall:
        retry = self._retry = self._reconnection.schedule(self._last_outcome, connect)
        self._record.ended(self._last_outcome.reason, retry)
        return retry

    # -- IConnectionOwner --------------------------------------------------------------------

    def connect_failed(self, connector: Any, reason: Failure) -> None:
        if self._attempt is not None:
            self._attempt.connect_failed(connector, reason)

    def protocol_built(self, protocol: PlatformProtocol) -> None:
        self._protocol = protocol
        if self._attempt is not None:
            self._attempt.connected(protocol)

    def opened(self, protocol: PlatformProtocol) -> None:
        self._enter(OPEN)
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.opened()
            if attempt.address is not None:
                self._known.opened(attempt.address)
                self._open_at = (attempt.address, self._reactor.seconds())
        _log.info(
            "connected to {url} in {elapsed:.2f} s",
            url=self.display,
            elapsed=self._reactor.seconds() - self._connecting_since_s,
        )
        self._counters.increment("connections_opened")
        self._record.opened(protocol.transport)
        self._peer = self._peers.at(getattr(protocol.transport.getPeer(), "host", None))
        self._session = Session(
            protocol,
            self._outbox,
            self._reactor,
            self._settings,
            self._window,
            self._counters,
            self._peer,
            self._random_bytes(8),
            self._aftermath.suspects,
            self._intake,
            self._on_message,
            self._taken,
        )
        self._reconnection.opened()
        protocol.listener = self._session
        self._session.start()

    def closing(self, protocol: PlatformProtocol) -> None:
        if self._state is OPEN:
            self._enter(CLOSING)

    def closed(self, protocol: PlatformProtocol, outcome: Outcome) -> None:
        self._protocol = None
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.lost()
            if attempt.address is not None:
                self._known.disappointed(attempt.address)
        session, self._session = self._session, None
        try:
            if session is not None:
                silence_s = session.silence_s if outcome.close_code == NO_CLOSE_FRAME else None
                configured_s = self._settings.now.keep_alive_interval_s
                self._peer.silence.ended(silence_s, configured_s)
                session.ended()
                self._reconnection.lost()
                self._aftermath.connection_ended(self._outbox, session, outcome)
        finally:
            self._ended(outcome)  # the agent connects again, whatever the outbox does

    def _rows_are_pending(self) -> None:
        if self._session is not None and self._protocol is not None:
            self._protocol.guard(self._session.pump)

    # -- after its end -----------------------------------------------------------------------

    def _ended(self, outcome: Outcome) -> None:
        """One attempt or connection has ended."""
        self._counters.increment("disconnects", reason=outcome.label)
        if self._then is STOPPED and outcome.was_open:
            _log.info("disconnected from {url}", url=self.display)
        self._last_outcome = outcome
        self._go_on()

    def _go_on(self) -> None:
        """There is no socket: go where ``_then`` leads."""
        if self._then is STOPPED:
            self._finish_stopping()
        elif self._then is IDENTIFYING:
            self._identify()
        else:
            self._wait()

    def _wait(self) -> None:
        self._enter(WAITING)
        self._judge_address()
        if self._factory is not None:
            self._factory.retry()

    def _judge_address(self) -> None:
        """An open connection has ended. If it did not last, or the agent had to give it up, its
        address is not the first to be tried again: another one may serve better."""
        if self._open_at is None:
            return
        (address, since_s), self._open_at = self._open_at, None
        has_lasted = self._reactor.seconds() - since_s >= Backoff.stable_s
        if self._last_outcome.by_us or not has_lasted:
            self._known.disappointed(address)

    def _drained(self) -> None:
        self._drain = None
        if self._session is not None:
            self._session.close(1000, "the agent is stopping")

    def _finish_stopping(self) -> None:
        if self._state is not STOPPED:
            self._enter(STOPPED)
        if self._drain is not None:
            self._drain.cancel()
            self._drain = None
        stopping, self._stopping = self._stopping, None
        starts_again, self._starts_again = self._starts_again, False
        # Start again before the Deferreds fire: their callbacks may start or stop.
        if starts_again:
            self.start()
        if stopping is not None:
            stopping.callback(None)


class _Drain:
    """The last moments of a connection: delivers what was accepted, within ``DRAIN_S``.

    Calls ``done()`` once: when everything is acknowledged, or ``DRAIN_S`` have passed. After
    ``cancel()`` it makes no call: the connection is lost, and there is nothing to wait for.
    """

    def __init__(
        self,
        session: Session,
        protocol: PlatformProtocol,
        outbox: IOutbox,
        reactor: IReactorTime,
        done: Callable[[], None],
    ) -> None:
        self._session = session
        self._protocol = protocol
        self._outbox = outbox
        self._reactor = reactor
        self._done = done
        self._limit: IDelayedCall | None = None

    def start(self) -> None:
        """Start; the session keeps sending what waits."""
        self._limit = self._reactor.callLater(DRAIN_S, self._protocol.guard, self._finish)
        self._session.on_drained = self._check
        self._check()

    def cancel(self) -> None:
        """Leave no timer behind."""
        self._session.on_drained = None
        if self._limit is not None and self._limit.active():
            self._limit.cancel()

    def _check(self) -> None:
        if not self._session.has_unacknowledged and not self._outbox.counts()["waiting"]:
            self._finish()

    def _finish(self) -> None:
        self.cancel()
        self._done()


def _also(deferred: Deferred[None]) -> Deferred[None]:
    """A separate Deferred that fires when ``deferred`` does."""
    own: Deferred[None] = Deferred()

    def passed(result: None) -> None:
        own.callback(None)

    deferred.addCallback(passed)
    return own
