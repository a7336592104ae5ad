"""A connector in a world of its own: network, clock, platform, outbox, log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import txaio
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent, globalLogPublisher

from oda.codecs import default_registry
from oda.connector.service import ConnectorService
from oda.connector.window import Taken
from oda.model import ContentType
from oda.settings import ConnectorSettings, OutboxSettings
from tests.wire.fakes import (
    FakeCounters,
    FakeDeviceInfo,
    FakeDispatcher,
    OutboxTime,
    memory_outbox,
)
from tests.wire.network import Network, Wire
from tests.wire.platform import Peer, Platform

HOST = "192.0.2.1"


def connector_settings(**changes: Any) -> ConnectorSettings:
    """Settings that lead to the platform of a ``World``. One device has nobody to spread with:
    tests of ``reconnectSpread`` set it."""
    usual = {"host": HOST, "port": 9955, "path": "/south/v80/sessions", "reconnect_spread_s": 0.0}
    return ConnectorSettings(**{**usual, **changes})


class Log:
    """What was logged, as text and as events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def __call__(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    @property
    def lines(self) -> list[str]:
        return [formatEvent(event) for event in self.events]

    @property
    def failures(self) -> list[Any]:
        """The exceptions that were logged, unhandled ones in Deferreds included."""
        return [event["log_failure"] for event in self.events if "log_failure" in event]

    def has(self, *words: str) -> bool:
        """True when one line holds all of ``words``."""
        return any(all(word in line for word in words) for line in self.lines)

    def count(self, word: str) -> int:
        return sum(word in line for line in self.lines)


def _taken(transport: Any) -> Taken | None:
    """What Linux tells of a connection; known for slow paths only."""
    if transport.path is None:
        return None
    acknowledged = transport.path.acknowledged
    return Taken(acknowledged, acknowledged == transport.bytes_written)


class World:
    """Everything around one ``ConnectorService``; ``close()`` gives the globals back."""

    def __init__(
        self,
        settings: ConnectorSettings | None = None,
        window: OutboxSettings = OutboxSettings(),  # noqa: B008 - immutable
        dispatcher: FakeDispatcher | None = None,
        device_info: FakeDeviceInfo | None = None,
        random: Callable[[], float] = lambda: 0.5,
        platform_options: dict[str, Any] | None = None,
    ) -> None:
        self.network = Network()
        txaio.use_twisted()
        self._loop, txaio.config.loop = txaio.config.loop, self.network
        self.log = Log()
        globalLogPublisher.addObserver(self.log)
        self.settings = settings or connector_settings()
        self.platform = Platform(self.network, **(platform_options or {}))
        self.network.default = self.platform
        self.counters = FakeCounters()
        self.dispatcher = dispatcher or FakeDispatcher()
        self.device_info = device_info or FakeDeviceInfo()
        self._outbox_time = OutboxTime(self.network)
        self.outbox = memory_outbox(window, self._outbox_time, self.counters)
        self._epochs = 0
        self.service = ConnectorService(
            self.settings,
            window,
            self.outbox,
            self.device_info,
            self.dispatcher,
            default_registry(),
            self.counters,
            self.network,
            random,
            self._random_bytes,
            taken=_taken,
        )

    def _random_bytes(self, count: int) -> bytes:
        self._epochs += 1
        return self._epochs.to_bytes(count, "big")

    def close(self) -> None:
        """Close the outbox, as the agent does after the connector; it leaves no timer either."""
        closed = self.outbox.close()
        left = self._outbox_time.getDelayedCalls()
        txaio.config.loop = self._loop
        globalLogPublisher.removeObserver(self.log)
        assert closed.called
        assert left == []

    # -- what tests do -----------------------------------------------------------------------

    def start(self) -> World:
        """Start the service and let it connect as far as it can without time passing."""
        self.service.startService()
        self.network.settle()
        return self

    def stop(self) -> Deferred[None]:
        """Begin to stop; time has to pass where it has to."""
        stopped = self.service.stopService()
        self.network.settle()
        return stopped

    def settle(self) -> None:
        self.network.settle()

    def pass_time(self, seconds: float) -> None:
        self.network.pass_time(seconds)

    def uplink(self, payload: bytes, content_type: ContentType = ContentType.JSON) -> None:
        """Hand telemetry over; it is accepted at the end of the reactor's turn, without time
        passing."""
        self._assert_accepted([self.service.uplink(payload, content_type)])

    def respond(self, payload: bytes) -> None:
        """Hand an answer over; it is accepted as telemetry is."""
        self._assert_accepted([self.service.uplink_response(payload, ContentType.JSON)])

    def uplink_at_once(self, payloads: Sequence[bytes]) -> None:
        """Hand telemetry over in one turn of the reactor; all of it is accepted at its end."""
        self._assert_accepted([self.service.uplink(one, ContentType.JSON) for one in payloads])

    def _assert_accepted(self, deferreds: Sequence[Deferred[int]]) -> None:
        """The end of this turn of the reactor fires them all, and nothing fails."""
        outcomes: list[Any] = []
        for accepted in deferreds:
            accepted.addBoth(outcomes.append)
        self.network.settle()
        assert len(outcomes) == len(deferreds)
        assert all(isinstance(outcome, int) for outcome in outcomes), outcomes

    @property
    def timers(self) -> list[Any]:
        """The delayed calls, but for those of the outbox, which has one as long as it is open."""
        of_the_outbox = self._outbox_time.getDelayedCalls()
        return [call for call in self.network.getDelayedCalls() if call not in of_the_outbox]

    @property
    def peer(self) -> Peer:
        """The platform's side of the newest connection."""
        return self.platform.peer

    @property
    def wire(self) -> Wire:
        """The newest connection."""
        wire = self.network.connectors[-1].wire
        assert wire is not None
        return wire

    @property
    def is_connected(self) -> bool:
        return bool(self.service.is_connected)
