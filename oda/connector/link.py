"""The life of the connection: who we are, connect, stay connected, begin again.

States: *stopped* -> *identifying* (asking who the device is) -> *connecting* -> *open* -> *waiting*
(back-off) -> *connecting* ... In every state but *stopped* there is a socket, a timer or a pending
answer that leads on; ``stop`` ends all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.connector.address import Address, build_address
from oda.connector.attempt import ConnectionAttempt
from oda.connector.backoff import Backoff
from oda.connector.factory import PlatformClientFactory
from oda.connector.outcome import Outcome
from oda.connector.peer import Peer
from oda.connector.protocol import IProtocolListener, PlatformProtocol
from oda.connector.session import Session
from oda.connector.tls import build_tls_options
from oda.errors import ConnectorError, DatastreamError
from oda.interfaces import ICounters, IDeviceInfoProvider, IOutbox
from oda.settings import ConnectorSettings, OutboxSettings, Secret

_log = Logger()

#: How long closing waits for acknowledgements, in seconds.
DRAIN_S = 5.0
#: When the device's id can't be read, it is asked for again after this many seconds.
IDENTIFY_AGAIN_S = 30.0


@implementer(IProtocolListener)
class PlatformLink:
    """Keeps one WebSocket open between ``start`` and ``stop``.

    ``on_message(payload, is_binary)`` is called for every message that arrives. ``random`` gives
    floats in [0, 1), ``random_bytes(n)`` n random bytes.
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
    ) -> None:
        self._settings = settings
        self._window = window
        self._outbox = outbox
        self._device_info = device_info
        self._counters = counters
        self._reactor = reactor
        self._random_bytes = random_bytes
        self._on_message = on_message
        self._backoff = Backoff(settings.reconnect_max_delay_s, random)
        self._peer = Peer()
        self._running = False
        self._factory: PlatformClientFactory | None = None
        self._address: Address | None = None
        self._attempt: ConnectionAttempt | None = None
        self._attempts = 0
        self._protocol: PlatformProtocol | None = None
        self._session: Session | None = None
        self._stable: Any = None
        self._identify_again: Any = None
        self._connecting_since_s = 0.0
        self._generation = 0
        self._stopping: Deferred[None] | None = None
        self._restarting = False
        self._drain_interrupted: Callable[[], None] | None = None
        self._last_outcome = Outcome(reason="not connected yet")
        outbox.subscribe(self._rows_are_pending)

    @property
    def session(self) -> Session | None:
        """The open session, None while there is none."""
        return self._session if self._session is not None and self._session.is_open else None

    def start(self) -> None:
        """Find out who the device is and connect; returns at once."""
        self._running = True
        self._stopping = None
        self._generation += 1
        self._identify()

    def stop(self) -> Deferred[None]:
        """Deliver what can be delivered within ``DRAIN_S``, close with code 1000, and end.

        The Deferred fires with None when the socket is gone and no timer is left; it never fails.
        """
        if self._stopping is not None:
            return _also(self._stopping)
        self._running = False
        self._generation += 1
        done: Deferred[None] = Deferred()
        self._stopping = done
        also = _also(done)
        self._cancel_timer("_identify_again")
        if self._factory is not None:
            self._factory.stopTrying()
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None
        if self.session is not None:
            self._drain().addCallback(lambda _: self._close_session("the agent is stopping"))
        elif self._protocol is not None:
            self._protocol.abort("the agent is stopping")
        if self._protocol is None:
            self._finish_stopping()
        return also

    def reconfigure(self, settings: ConnectorSettings, reconnect: bool = True) -> None:
        """Use other settings; with ``reconnect`` (another address or identity) the present
        connection is closed and a new one made, otherwise it stays."""
        self._settings = settings
        self._backoff.max_delay_s = settings.reconnect_max_delay_s
        if not reconnect:
            if self._factory is not None:
                self._factory.configure(settings)
            if self._session is not None:
                self._session.reconfigure(settings)
            return
        self._backoff.connection_stable()
        if self._running:
            self._generation += 1
            self._restart()

    # -- IProtocolListener -------------------------------------------------------------------

    def opened(self, protocol: PlatformProtocol) -> None:
        if self._attempt is not None:
            self._attempt.opened()
            self._attempt = None
        elapsed_s = self._reactor.seconds() - self._connecting_since_s
        _log.info(
            "connected to {url} in {elapsed:.2f} s",
            url=self._display(),
            elapsed=elapsed_s,
        )
        self._counters.increment("connections_opened")
        self._stable = self._reactor.callLater(Backoff.stable_s, self._became_stable)
        self._session = Session(
            protocol,
            self._outbox,
            self._reactor,
            self._settings,
            self._window,
            self._counters,
            self._peer,
            self._random_bytes(8),
        )
        self._session.start()

    def message_received(self, protocol: PlatformProtocol, payload: bytes, is_binary: bool) -> None:
        self._on_message(payload, is_binary)

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
        if self._attempt is not None:
            self._attempt.lost()
            self._attempt = None
        if self._session is not None:
            self._session.ended()
            self._session = None
            self._cancel_timer("_stable")
            self._outbox.rewind(outcome.replay)
        self._ended(outcome)

    def connect_failed(self, connector: Any, reason: Failure) -> None:
        """Twisted could not make a TCP connection to the address of the current attempt."""
        if self._attempt is not None:
            self._attempt.connect_failed(reason)

    def protocol_built(self, protocol: PlatformProtocol) -> None:
        """The factory made the protocol of the current attempt: TCP is up."""
        self._protocol = protocol
        if self._attempt is not None:
            self._attempt.connected(protocol)

    # -- connecting --------------------------------------------------------------------------

    def _identify(self) -> None:
        generation = self._generation
        self._identify_again = None
        identity = maybeDeferred(self._device_info.device_id)
        identity.addCallback(self._identified, generation)
        identity.addErrback(self._not_identified, generation)

    def _identified(self, device_id: str, generation: int) -> None:
        if generation != self._generation:
            return
        self._address = build_address(
            self._settings, device_id, Secret(self._device_info.api_key())
        )
        self._factory = PlatformClientFactory(
            self._address,
            self._settings,
            self,
            self._connect,
            self._schedule_retry,
            self._reactor,
        )
        if self._address.secure:
            self._factory.contextFactory = build_tls_options(self._settings)
        self._connect()

    def _not_identified(self, failure: Failure, generation: int) -> None:
        if generation != self._generation:
            return
        if failure.check(DatastreamError, ConnectorError):
            _log.error(
                "can't connect: {reason}; trying again in {delay:g} s",
                reason=failure.getErrorMessage(),
                delay=IDENTIFY_AGAIN_S,
            )
        else:
            _log.failure("can't connect: a defect in the device info", failure)
        self._factory = None
        self._identify_again = self._reactor.callLater(IDENTIFY_AGAIN_S, self._identify)

    def _connect(self) -> None:
        settings = self._settings
        self._connecting_since_s = self._reactor.seconds()
        _log.info("connecting to {url}", url=self._display())
        self._attempt = ConnectionAttempt(
            self._reactor,
            settings.proxy_host or settings.host,
            settings.proxy_port if settings.proxy_host else settings.port,
            settings.connection_timeout_s,
            self._attempts,
            self._open_socket,
            self._attempt_failed,
        )
        self._attempts += 1
        self._attempt.start()

    def _open_socket(self, address: str) -> Any:
        settings, factory = self._settings, self._factory
        # The attempt's own limit covers this; Twisted's must only not be shorter.
        timeout = settings.connection_timeout_s + 1.0
        if settings.proxy_host:
            return self._reactor.connectTCP(address, settings.proxy_port, factory, timeout)
        if settings.secure:
            assert factory is not None
            return self._reactor.connectSSL(
                address, settings.port, factory, factory.contextFactory, timeout
            )
        return self._reactor.connectTCP(address, settings.port, factory, timeout)

    def _attempt_failed(self, outcome: Outcome) -> None:
        self._attempt = None
        self._ended(outcome)

    def _ended(self, outcome: Outcome) -> None:
        """One attempt or connection is over: log it, and either finish stopping or go on."""
        self._counters.increment("disconnects", reason=outcome.label)
        if self._stopping is not None:
            if outcome.was_open:
                _log.info("disconnected from {url}", url=self._display())
            self._finish_stopping()
            return
        if self._restarting:
            self._restarting = False
            self._identify()
            return
        self._last_outcome = outcome
        if self._factory is not None:
            self._factory.retry()

    def _schedule_retry(self, connect: Callable[[], None]) -> Any:
        outcome = self._last_outcome
        delay_s = self._backoff.next_delay_s(outcome)
        self._counters.observe("reconnect_delay_seconds", delay_s)
        hint = _HINTS.get(outcome.http_status or 0, "")
        _log.warn(
            "{state}: {reason}{hint}; connecting again in {delay:.1f} s",
            state="connection lost" if outcome.was_open else "no connection",
            reason=outcome.reason,
            hint=hint,
            delay=delay_s,
        )
        return self._reactor.callLater(delay_s, connect)

    def _became_stable(self) -> None:
        self._stable = None
        self._backoff.connection_stable()

    def _restart(self) -> None:
        """Drop whatever there is and begin again with the present settings."""
        if self._factory is not None:
            self._factory.stopTrying()
            self._factory = None
        self._cancel_timer("_identify_again")
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None
        if self._protocol is None:
            self._identify()
            return
        self._restarting = True  # ``_ended`` goes on from here
        if self._session is not None and self._session.is_open:
            self._close_session("the configuration has changed")
        else:
            self._protocol.abort("the configuration has changed")

    # -- stopping ----------------------------------------------------------------------------

    def _drain(self) -> Deferred[None]:
        """Fires when everything accepted is acknowledged, the connection is lost, or it took
        longer than ``DRAIN_S``."""
        drained: Deferred[None] = Deferred()
        session = self._session
        if session is None or not self._has_undelivered(session):
            return succeed(None)

        def finish() -> None:
            if limit.active():
                limit.cancel()
            if not drained.called:
                drained.callback(None)

        def check() -> None:
            if not self._has_undelivered(session):
                finish()

        limit = self._reactor.callLater(DRAIN_S, finish)
        session.on_drained = check
        self._drain_interrupted = finish
        session.pump()
        return drained

    def _has_undelivered(self, session: Session) -> bool:
        return session.has_unacknowledged or self._outbox.counts()["pending"] > 0

    def _close_session(self, reason: str) -> None:
        if self._session is not None:
            self._session.close(1000, reason)

    def _finish_stopping(self) -> None:
        interrupted, self._drain_interrupted = self._drain_interrupted, None
        if interrupted is not None:
            interrupted()
        done = self._stopping
        if done is not None and not done.called:
            done.callback(None)

    def _rows_are_pending(self) -> None:
        if self._session is not None:
            self._session.pump()

    def _display(self) -> str:
        return self._address.display if self._address is not None else self._settings.host

    def _cancel_timer(self, name: str) -> None:
        call = getattr(self, name)
        setattr(self, name, None)
        if call is not None and call.active():
            call.cancel()


#: What an operator should look at, by the status the upgrade was refused with.
_HINTS = {
    401: " (is the API key right?)",
    403: " (may this device connect with this API key?)",
    404: " (is 'path' right, and the device known?)",
}


def _also(deferred: Deferred[None]) -> Deferred[None]:
    """A Deferred of one's own that fires when ``deferred`` does."""
    own: Deferred[None] = Deferred()

    def passed(result: None) -> None:
        own.callback(None)

    deferred.addCallback(passed)
    return own
