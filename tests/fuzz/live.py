"""The agent under fire: a whole ``oda.agent.Agent`` on a network in memory, with a platform at the
other end of the wire. The clock it sets is a list."""

from __future__ import annotations

import json
import time
from typing import Any

import cbor2
import msgpack
import txaio
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError, DNSLookupError
from twisted.internet.interfaces import IReactorUDP
from twisted.logger import LogLevel, globalLogPublisher
from zope.interface import implementer

from oda.agent import Agent
from oda.interfaces import IDatastreamGetter, IDatastreamSetter, IWallClock
from oda.settings import (
    AgentSettings,
    ConnectorSettings,
    DeviceInfoSettings,
    DispatcherSettings,
    OutboxKind,
    OutboxSettings,
    Secret,
)
from tests.fuzz.mutation import Frame
from tests.wire.network import Network
from tests.wire.platform import Platform
from tests.wire.world import HOST

DEVICE = "fuzz-1"
#: What the agent accepts and sends, in bytes: an answer is up to thirty times its request.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
_OPERATION_TIMEOUT_S = 40.0
#: An answer takes no longer on the fake clock, in seconds.
_PATIENCE_S = 60.0


class _UdpPort:
    """A socket whose datagrams reach nobody."""

    def connect(self, host: str, port: int) -> None:
        """Nothing to do."""

    def write(self, datagram: bytes, address: Any = None) -> None:
        """It is lost."""

    def stopListening(self) -> None:
        """Nothing to do."""


@implementer(IReactorUDP)
class FuzzNetwork(Network):
    """A network in which only the platform answers."""

    def listenUDP(
        self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192
    ) -> Any:
        """See ``IReactorUDP``."""
        transport = _UdpPort()
        protocol.makeConnection(transport)
        protocol.startProtocol()
        return transport

    def resolve(self, name: str, timeout: Any = None) -> Deferred[str]:
        """Names lead nowhere; addresses are themselves."""
        if name.replace(".", "").isdigit():
            return succeed(name)
        return fail(DNSLookupError(name))


@implementer(IDatastreamGetter, IDatastreamSetter)
class Value:
    """A datastream that remembers what it was set to."""

    def __init__(self, datastream_id: str, device: str = "") -> None:
        self.datastream_id = datastream_id
        self._device = device
        self.value: Any = 17
        self.times_set = 0

    def devices(self) -> tuple[str, ...]:
        """See ``IDatastreamGetter.devices``."""
        return (self._device,)

    def get(self, device_id: str) -> Any:
        """See ``IDatastreamGetter.get``."""
        from oda.model import Reading

        return Reading(self.value)

    def set(self, device_id: str, value: Any) -> None:
        """See ``IDatastreamSetter.set``."""
        self.times_set += 1
        if isinstance(value, int | float | bool) or (isinstance(value, str) and len(value) < 100):
            self.value = value


@implementer(IWallClock)
class StillClock:
    """A time of day that moves a millisecond whenever it is asked."""

    def __init__(self) -> None:
        self._now_ms = 1_800_000_000_000

    def now_ms(self) -> int:
        """See ``IWallClock.now_ms``."""
        self._now_ms += 1
        return self._now_ms


class LiveAgent:
    """An agent that is connected. ``failures`` are the exceptions it has logged."""

    def __init__(self) -> None:
        self._set_time, time.clock_settime_ns = time.clock_settime_ns, _forbidden
        self.network = FuzzNetwork()
        txaio.use_twisted()
        self._loop, txaio.config.loop = txaio.config.loop, self.network
        self.platform = Platform(self.network)
        self.network.default = ConnectionRefusedError()
        self.network.platforms[HOST] = self.platform
        self.clock = Value("device.clock")
        self.failures: list[str] = []
        self.reconnects = 0
        self._answers: list[Any] = []
        self.platform.on_message = self._received
        globalLogPublisher.addObserver(self._look)
        self.agent = Agent(
            _settings(),
            [
                self.clock,
                Value("fuzz.value"),
                Value("child.value", "child-1"),
                Value("device.software"),
            ],
            reactor=self.network,
            wall_clock=StillClock(),
            environ={},
        )
        registry = self.agent.parts.host.registry
        assert registry.setter("device.clock", "") is self.clock
        self.agent.startService()
        self.network.settle()
        assert self.agent.is_connected

    def close(self) -> None:
        """Stop the agent; nothing of it may be left."""
        stopped = self.agent.stopService()
        for _ in range(100):
            if stopped.called:
                break
            self.network.pass_time(1.0)
        assert stopped.called
        globalLogPublisher.removeObserver(self._look)
        txaio.config.loop = self._loop
        time.clock_settime_ns = self._set_time

    def exchange(self, frame: Frame, wants_answer: bool) -> list[Any]:
        """Send a frame and give the answers to it: at once, or as long as an operation may take
        when one is wanted."""
        self._answers.clear()
        peer = self.platform.peer
        for _ in range(frame.pings):
            peer.sendPing(b"x" * 125)
        peer.sendMessage(frame.payload, not frame.is_text, frame.fragment_bytes)
        self.network.settle()
        waited_s = 0.0
        while wants_answer and not self._answers and waited_s < _PATIENCE_S:
            self.network.pass_time(1.0)
            waited_s += 1.0
        self.forget()
        return list(self._answers)

    def let_time_pass(self, seconds: float) -> None:
        """Pings, acknowledgements and the end of lingering need it."""
        self.network.pass_time(seconds)
        self.forget()

    @property
    def is_alive(self) -> bool:
        """Whether it is connected."""
        return self.agent.is_connected and self.platform.peer.is_open_now

    def reconnect(self) -> bool:
        """Wait for the next connection, as long as the back-off may take."""
        self.reconnects += 1
        for _ in range(400):
            if self.is_alive:
                return True
            self.let_time_pass(1.0)
        return False

    def forget(self) -> None:
        """What the harness has recorded must not look like a leak of the agent."""
        platform, network = self.platform, self.network
        platform.received.clear()
        del platform.peers[:-1]
        for peer in platform.peers:
            peer.messages.clear()
            peer.pings.clear()
        del network.connectors[:-1]
        network.tcpClients.clear()
        network.nameResolver.asked.clear()

    def _received(self, peer: Any, payload: bytes) -> None:
        message = decode(payload)
        if "operation" in message:
            self._answers.append(message["operation"]["response"])

    def _look(self, event: dict[str, Any]) -> None:
        if "log_failure" in event or event.get("log_level") is LogLevel.critical:
            failure = event.get("log_failure")
            self.failures.append(
                str(event.get("log_format")) if failure is None else failure.getTraceback()
            )


def _settings() -> AgentSettings:
    return AgentSettings(
        connector=ConnectorSettings(
            host=HOST,
            port=9955,
            path="/south/v80/sessions",
            max_message_size_bytes=MAX_MESSAGE_BYTES,
            reconnect_max_delay_s=5.0,
        ),
        device_info=DeviceInfoSettings(device_id=DEVICE, api_key=Secret("fuzz-key")),
        # So few operations on record that the journal is full early: what grows then is a leak.
        outbox=OutboxSettings(kind=OutboxKind.MEMORY, linger_s=0.0, journal_max_entries=1000),
        dispatcher=DispatcherSettings(operation_timeout_s=_OPERATION_TIMEOUT_S),
    )


def decode(payload: bytes) -> Any:
    """A message of the agent, in whichever format it is."""
    if payload[:1] == b"{":
        return json.loads(payload)
    if 0xA0 <= payload[0] <= 0xBF:
        return cbor2.loads(payload)
    return msgpack.unpackb(payload)


def _forbidden(*_: Any) -> None:
    raise AssertionError("a test must not set the clock of this machine")
