"""The life of the connection: who we are, connect, stay connected, begin again.

States: *stopped* -> *identifying* (asking who the device is) -> *connecting* -> *open* -> *waiting*
(back-off) -> *connecting* ... In every state but *stopped* there is a socket, a timer or a pending
answer that leads on; ``stop`` ends all of them. The ``dialer`` makes the connections; here is the
one that is open, and what is done when it ends: connect again, begin anew, or stop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.connector.aftermath import Aftermath
from oda.connector.dialer import Dialer
from oda.connector.drain import Drain
from oda.connector.intake import Intake
from oda.connector.outcome import NO_CLOSE_FRAME, Outcome
from oda.connector.peer import Peer, Peers
from oda.connector.protocol import IProtocolListener, PlatformProtocol
from oda.connector.reconnection import Reconnection
from oda.connector.record import ConnectionRecord
from oda.connector.session import Session
from oda.connector.uplink import Taken, taken_bytes
from oda.interfaces import ICounters, IDeviceInfoProvider, IOutbox
from oda.model import ConnectionStatus, LinkState
from oda.settings import ConnectorSettings, OutboxSettings

_log = Logger()


@implementer(IProtocolListener)
class PlatformLink:
    """Keeps one WebSocket open between ``start`` and ``stop``.

    ``on_message(payload, is_binary)`` is called for every message that arrives. ``random`` gives
    floats in [0, 1), ``random_bytes(n)`` n random bytes. ``taken(transport)`` is as
    ``uplink.taken_bytes``.
    """

    def __init__(
        self,
        settings: ConnectorSettings,
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
    ) -> None:
        self._taken = taken
        self._settings = settings
        self._window = window
        self._outbox = outbox
        self._counters = counters
        self._reactor = reactor
        self._random_bytes = random_bytes
        self._on_message = on_message
        self._intake = intake
        self._reconnection = Reconnection(
            reactor,
            counters,
            settings.reconnect_max_delay_s,
            random,
            settings.reconnect_spread_s,
        )
        self._record = ConnectionRecord(reactor)
        self._dialer = Dialer(
            settings, device_info, reactor, self._reconnection, self._record, self, self._ended
        )
        self._peers = Peers()
        self._peer = Peer()
        self._aftermath = Aftermath()
        self._running = False
        self._stopping: Deferred[None] | None = None
        self._restarting = False
        self._protocol: PlatformProtocol | None = None
        self._session: Session | None = None
        self._drain: Drain | None = None
        outbox.subscribe(self._rows_are_pending)

    @property
    def session(self) -> Session | None:
        """The open session, None while there is none."""
        return self._session if self._session is not None and self._session.is_open else None

    def status(self) -> ConnectionStatus:
        """See ``IConnectionObservable.status``."""
        return self._record.status(
            self._state(), self._dialer.display, self._peer.peer_class, self.session, self._settings
        )

    def _state(self) -> LinkState:
        if self.session is not None:
            return LinkState.OPEN
        if self._session is not None:
            return LinkState.CLOSING
        if self._dialer.is_attempting or self._protocol is not None:
            return LinkState.CONNECTING
        if not self._running:
            return LinkState.STOPPED
        if self._record.is_waiting:
            return LinkState.WAITING
        return LinkState.IDENTIFYING

    def start(self) -> None:
        """Find out who the device is and connect; returns at once. While an earlier ``stop`` is
        still closing its connection, this begins when that is done."""
        if not self._running:
            self._running = True
            if self._stopping is None:
                self._dialer.start()

    def stop(self) -> Deferred[None]:
        """Deliver what can be delivered within ``DRAIN_S``, close with code 1000, and end.

        The Deferred fires with None when the socket is gone and no timer is left; it never fails.
        """
        self._running = False
        if self._stopping is not None:
            return _also(self._stopping)
        self._stopping = Deferred()
        stopped = _also(self._stopping)
        self._dialer.stop()
        self._restarting = False
        session, protocol = self.session, self._protocol
        if protocol is None:
            self._finish_stopping()
        elif session is None:
            protocol.abort("the agent is stopping")
        else:
            self._drain = Drain(session, self._outbox, self._reactor, self._close_after_draining)
            protocol.guard(self._drain.start)
        return stopped

    def reconfigure(self, settings: ConnectorSettings, reconnect: bool = True) -> None:
        """Use other settings; with ``reconnect`` (another address or identity) the present
        connection is closed and a new one made, otherwise it stays."""
        self._settings = settings
        self._reconnection.configure(settings.reconnect_max_delay_s, settings.reconnect_spread_s)
        self._dialer.configure(settings, is_elsewhere=reconnect)
        if not reconnect:
            if self._session is not None:
                self._session.reconfigure(settings)
            return
        self._reconnection.begin_anew()
        self._peers, self._peer = Peers(), Peer()  # it may be another platform now
        if self._running and self._stopping is None:
            self._restart()

    # -- IProtocolListener -------------------------------------------------------------------

    def opened(self, protocol: PlatformProtocol) -> None:
        self._dialer.opened()
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
            self._taken,
        )
        self._reconnection.opened()
        self._session.start()

    def message_received(self, protocol: PlatformProtocol, payload: bytes, is_binary: bool) -> None:
        self._on_message(payload, is_binary)
        if self._intake.is_full and self._session is not None:
            self._session.hold_reading()

    def pong_received(self, protocol: PlatformProtocol, payload: bytes) -> None:
        if self._session is not None:
            self._session.pong_received(payload)

    def bytes_received(self, protocol: PlatformProtocol, count: int) -> None:
        if self._session is not None:
            self._session.bytes_received()

    def writable_changed(self, protocol: PlatformProtocol, writable: bool) -> None:
        if self._session is not None:
            self._session.writable_changed(writable)

    def closing(self, protocol: PlatformProtocol) -> None:
        if self._session is not None:
            self._session.closing()

    def closed(self, protocol: PlatformProtocol, outcome: Outcome) -> None:
        self._protocol = None
        self._dialer.closed()
        session, self._session = self._session, None
        try:
            if session is not None:
                silence_s = session.silence_s if outcome.close_code == NO_CLOSE_FRAME else None
                self._peer.silence.ended(silence_s, self._settings.keep_alive_interval_s)
                session.ended()
                self._reconnection.lost()
                self._aftermath.connection_ended(self._outbox, session, outcome)
        finally:
            self._ended(outcome)  # whatever the outbox does: the agent connects again

    def connect_failed(self, connector: Any, reason: Failure) -> None:
        self._dialer.connect_failed(connector, reason)

    def protocol_built(self, protocol: PlatformProtocol) -> None:
        self._protocol = protocol
        self._dialer.connected(protocol)

    def _rows_are_pending(self) -> None:
        if self._session is not None and self._protocol is not None:
            self._protocol.guard(self._session.pump)

    # -- beginning again ---------------------------------------------------------------------

    def _ended(self, outcome: Outcome) -> None:
        """One attempt or connection is over: log it, and either finish stopping or go on."""
        self._counters.increment("disconnects", reason=outcome.label)
        if self._stopping is not None:
            if outcome.was_open:
                _log.info("disconnected from {url}", url=self._dialer.display)
            self._finish_stopping()
        elif self._restarting:
            self._restarting = False
            self._dialer.start()
        else:
            self._dialer.retry(outcome)

    def _restart(self) -> None:
        """Drop whatever there is and begin again with the present settings."""
        self._dialer.stop()
        self._restarting = False
        if self._protocol is None:
            self._dialer.start()
            return
        self._restarting = True  # ``_ended`` goes on from here
        session = self.session
        if session is not None:
            session.close(1000, "the configuration has changed")
        else:
            self._protocol.abort("the configuration has changed")

    # -- stopping ----------------------------------------------------------------------------

    def _close_after_draining(self) -> None:
        self._drain = None
        if self._session is not None:
            self._session.close(1000, "the agent is stopping")

    def _finish_stopping(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
            self._drain = None
        stopping, self._stopping = self._stopping, None
        if stopping is not None:
            stopping.callback(None)
        if self._running:
            self._dialer.start()


def _also(deferred: Deferred[None]) -> Deferred[None]:
    """A Deferred of one's own that fires when ``deferred`` does."""
    own: Deferred[None] = Deferred()

    def passed(result: None) -> None:
        own.callback(None)

    deferred.addCallback(passed)
    return own
