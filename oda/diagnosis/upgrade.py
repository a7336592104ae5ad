"""The WebSocket itself. The probe opens it with the connector's own factory and protocol, as the
agent does, sends some pings with the payload of the acknowledgement barrier, and closes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.connector.acknowledgement import EPOCH_BYTES, AckBarrier, Pong
from oda.connector.address import Address
from oda.connector.current import CurrentSettings
from oda.connector.factory import PlatformClientFactory
from oda.connector.outcome import Outcome, describe_connect_failure
from oda.connector.protocol import IConnectionListener, IConnectionOwner, PlatformProtocol
from oda.connector.status import platform_certificate_ends_ms
from oda.settings import ConnectorSettings

#: How many pings the probe sends, one after the other.
PINGS = 3


class Upgrade(msgspec.Struct, frozen=True):
    """The result of the probe. ``opened_s`` is None if the WebSocket did not open; ``outcome`` is
    its end.

    ``round_trips_s`` has one number for each ping that was answered with its payload;
    ``foreign_pongs`` counts other pongs. ``messages`` arrived in the meantime and were not
    answered.
    """

    outcome: Outcome
    opened_s: float | None
    round_trips_s: tuple[float, ...]
    foreign_pongs: int
    messages: int
    certificate_ends_ms: int | None


@implementer(IConnectionOwner, IConnectionListener)
class UpgradeProbe:
    """One connection. ``run`` may be called once; its Deferred may be cancelled."""

    def __init__(
        self,
        address: Address,
        settings: ConnectorSettings,
        tls: Any,
        reactor: Any,
        random_bytes: Callable[[int], bytes],
        pong_timeout_s: float,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._pong_timeout_s = pong_timeout_s
        self._barrier = AckBarrier(random_bytes(EPOCH_BYTES))
        self._factory = PlatformClientFactory(
            address,
            CurrentSettings(settings),
            tls,
            self,
            lambda: None,
            lambda connect: None,
            reactor,
        )
        self._began_s = 0.0
        self._ping_sent_s = 0.0
        self._limit: Any = None
        self._protocol: PlatformProtocol | None = None
        self._connector: Any = None
        self._opened_s: float | None = None
        self._round_trips_s: list[float] = []
        self._foreign_pongs = 0
        self._messages = 0
        self._certificate_ends_ms: int | None = None
        self._done: Deferred[Upgrade] = Deferred(lambda _: self._drop("the check was cancelled"))

    def run(self, ip_address: str) -> Deferred[Upgrade]:
        """Connect to this address of the platform (or its proxy). Fires when the probe has ended;
        fails only if it is cancelled."""
        limit_s = self._settings.connection_timeout_s
        self._began_s = self._reactor.seconds()
        self._limit = self._reactor.callLater(limit_s, self._expire, limit_s)
        self._connector = self._factory.open_socket(ip_address, limit_s + 1.0)
        return self._done

    # -- IConnectionOwner --------------------------------------------------------------------

    def connect_failed(self, connector: Any, reason: Failure) -> None:
        self._finish(Outcome(reason=describe_connect_failure(reason)))

    def protocol_built(self, protocol: PlatformProtocol) -> None:
        self._protocol = protocol

    def opened(self, protocol: PlatformProtocol) -> None:
        self._opened_s = self._reactor.seconds() - self._began_s
        self._certificate_ends_ms = platform_certificate_ends_ms(protocol.transport)
        protocol.listener = self
        self._ping(protocol)

    def closing(self, protocol: PlatformProtocol) -> None:
        self._restart_limit(self._settings.close_timeout_s, self._drop)

    def closed(self, protocol: PlatformProtocol, outcome: Outcome) -> None:
        self._finish(outcome)

    # -- IConnectionListener -----------------------------------------------------------------

    def message_received(self, payload: bytes, is_binary: bool) -> None:
        self._messages += 1

    def pong_received(self, payload: bytes) -> None:
        if self._protocol is None:
            return
        if self._barrier.pong_received(payload) is not Pong.MATCHES:
            self._foreign_pongs += 1
            return
        self._round_trips_s.append(self._reactor.seconds() - self._ping_sent_s)
        if len(self._round_trips_s) < PINGS:
            self._ping(self._protocol)
        else:
            self._close(self._protocol)

    def bytes_received(self) -> None:
        """Of no interest here."""

    def writable_changed(self, writable: bool) -> None:
        """Too little is sent to fill the buffer."""

    def sending_ends(self) -> None:
        """See ``closing``."""

    # -- inside ------------------------------------------------------------------------------

    def _ping(self, protocol: PlatformProtocol) -> None:
        self._restart_limit(self._pong_timeout_s, lambda: protocol.guard(self._give_up_waiting))
        self._ping_sent_s = self._reactor.seconds()
        protocol.send_ping(self._barrier.ping())

    def _give_up_waiting(self) -> None:
        if self._protocol is not None:
            self._close(self._protocol)

    def _close(self, protocol: PlatformProtocol) -> None:
        protocol.close(1000, "the check has ended")

    def _expire(self, limit_s: float) -> None:
        self._drop(f"not open within {limit_s:g} s")

    def _drop(self, reason: str = "the platform did not end the connection") -> None:
        self._cancel_limit()
        if self._protocol is not None:
            self._protocol.abort(reason)
        elif self._connector is not None:
            self._connector.disconnect()

    def _finish(self, outcome: Outcome) -> None:
        self._cancel_limit()
        if self._done.called:
            return
        self._done.callback(
            Upgrade(
                outcome,
                self._opened_s,
                tuple(self._round_trips_s),
                self._foreign_pongs,
                self._messages,
                self._certificate_ends_ms,
            )
        )

    def _restart_limit(self, delay_s: float, call: Callable[[], None]) -> None:
        self._cancel_limit()
        self._limit = self._reactor.callLater(delay_s, call)

    def _cancel_limit(self) -> None:
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        self._limit = None
