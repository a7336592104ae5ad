"""Makes connections, one after the other: finds out who the device is, then tries until one opens.

*Identifying* (asking who the device is) -> *attempting* -> *waiting* (back-off) -> *attempting* ...
A socket, a timer or a pending answer leads on in each of them; ``stop`` ends all of them. What
happens on a connection once it is open, and when it is given up, is for the ``link`` to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from oda.connector.address import Address, build_address
from oda.connector.addresses import KnownAddresses
from oda.connector.attempt import ConnectionAttempt
from oda.connector.backoff import Backoff
from oda.connector.factory import PlatformClientFactory
from oda.connector.identification import Identification
from oda.connector.outcome import Outcome
from oda.connector.protocol import IProtocolListener, PlatformProtocol
from oda.connector.reconnection import Reconnection
from oda.connector.record import ConnectionRecord
from oda.connector.tls import build_tls_options
from oda.interfaces import IDeviceInfoProvider
from oda.settings import ConnectorSettings, Secret

_log = Logger(namespace="oda.connector.link")  # the connection is one thing to who reads the log


class Dialer:
    """``listener`` is told what happens to the connections; it passes on here what concerns the
    attempt. ``failed(outcome)`` is called when an attempt ends without any socket to tell of it.
    """

    def __init__(
        self,
        settings: ConnectorSettings,
        device_info: IDeviceInfoProvider,
        reactor: Any,
        reconnection: Reconnection,
        record: ConnectionRecord,
        listener: IProtocolListener,
        failed: Callable[[Outcome], None],
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._reconnection = reconnection
        self._record = record
        self._listener = listener
        self._failed = failed
        self._identification = Identification(device_info, reactor, self._identified)
        self._factory: PlatformClientFactory | None = None
        self._address: Address | None = None
        self._attempt: ConnectionAttempt | None = None
        self._known = KnownAddresses()
        #: Where the open connection leads, and since when.
        self._open_at: tuple[str, float] | None = None
        self._connecting_since_s = 0.0
        self._last_outcome = Outcome(reason="not connected yet")

    @property
    def is_attempting(self) -> bool:
        """True from the begin of an attempt until its WebSocket is open or it has failed."""
        return self._attempt is not None

    @property
    def display(self) -> str:
        """Where connections go, without the key."""
        return self._address.display if self._address is not None else self._settings.host

    def start(self) -> None:
        """Find out who the device is, and connect."""
        self._identification.start()

    def stop(self) -> None:
        """End everything that would lead to a connection."""
        self._identification.cancel()
        self._open_at = None
        if self._factory is not None:
            self._factory.stopTrying()
            self._factory = None
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None

    def retry(self, outcome: Outcome) -> None:
        """An attempt or connection has ended so: connect again after a pause, unless stopped."""
        self._last_outcome = outcome
        self._judge_address(outcome)
        if self._factory is not None:
            self._factory.retry()

    def configure(self, settings: ConnectorSettings, is_elsewhere: bool) -> None:
        """Use other settings from now on. Where they name another address or identity, they hold
        after ``stop`` and ``start``."""
        self._settings = settings
        if is_elsewhere:
            self._known = KnownAddresses()
        elif self._factory is not None:
            self._factory.configure(settings)

    # -- what happens to the attempt ---------------------------------------------------------

    def connected(self, protocol: PlatformProtocol) -> None:
        """TCP is up."""
        if self._attempt is not None:
            self._attempt.connected(protocol)

    def connect_failed(self, connector: Any, reason: Failure) -> None:
        """The TCP connection that ``connector`` stands for could not be made."""
        if self._attempt is not None:
            self._attempt.connect_failed(connector, reason)

    def opened(self) -> None:
        """The WebSocket is open."""
        if self._attempt is not None:
            self._attempt.opened()
            if self._attempt.address is not None:
                self._known.opened(self._attempt.address)
                self._open_at = (self._attempt.address, self._reactor.seconds())
            self._attempt = None
        _log.info(
            "connected to {url} in {elapsed:.2f} s",
            url=self.display,
            elapsed=self._reactor.seconds() - self._connecting_since_s,
        )

    def closed(self) -> None:
        """The socket is gone, whether the WebSocket was open or not."""
        if self._attempt is not None:
            self._attempt.lost()
            if self._attempt.address is not None:
                self._known.disappointed(self._attempt.address)
            self._attempt = None

    # -- inside ------------------------------------------------------------------------------

    def _identified(self, device_id: str, api_key: Secret) -> None:
        settings = self._settings
        self._address = build_address(settings, device_id, api_key)
        tls = build_tls_options(settings) if settings.secure else None
        self._record.identified(settings)
        self._factory = PlatformClientFactory(
            self._address,
            settings,
            tls,
            self._listener,
            self._connect,
            self._schedule_retry,
            self._reactor,
        )
        self._connect()

    def _connect(self) -> None:
        settings = self._settings
        self._connecting_since_s = self._reactor.seconds()
        _log.info("connecting to {url}", url=self.display)
        self._attempt = ConnectionAttempt(
            self._reactor,
            settings.proxy_host or settings.host,
            settings.proxy_port if settings.proxy_host else settings.port,
            settings.connection_timeout_s,
            self._known.order,
            self._open_socket,
            self._attempt_failed,
        )
        self._attempt.start()

    def _open_socket(self, address: str) -> Any:
        assert self._factory is not None
        # The attempt's own limit covers this; Twisted's must only not be shorter.
        return self._factory.open_socket(address, self._settings.connection_timeout_s + 1.0)

    def _attempt_failed(self, outcome: Outcome) -> None:
        self._attempt = None
        self._failed(outcome)

    def _judge_address(self, outcome: Outcome) -> None:
        """An open connection is over. An address where it has not lasted, or where the agent had to
        give it up, is not the first to be tried again: another one may serve better."""
        if self._open_at is None:
            return
        (address, since_s), self._open_at = self._open_at, None
        has_lasted = self._reactor.seconds() - since_s >= Backoff.stable_s
        if outcome.by_us or not has_lasted:
            self._known.disappointed(address)

    def _schedule_retry(self, connect: Callable[[], None]) -> Any:
        retry = self._reconnection.schedule(self._last_outcome, connect)
        self._record.ended(self._last_outcome.reason, retry)
        return retry
