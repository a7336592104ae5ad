"""A network in memory: connections whose bytes move only when a test says so.

Unlike Twisted's ``iosim`` it never tells a producer to go on unless its buffer has emptied, so that
back-pressure and progress can be tested; and it can hold a direction, cut a connection in several
ways, and report the end of a connection as the real transports do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    NotConnectingError,
    TCPTimedOutError,
    UserError,
)
from twisted.internet.interfaces import (
    IConnector,
    IHostnameResolver,
    IHostResolution,
    ITCPTransport,
)
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

_log = Logger()

#: Above so many buffered bytes a transport pauses its producer, as Twisted's do.
HIGH_WATER_BYTES = 64 * 1024


def address_of(host: str, port: int) -> IPv4Address | IPv6Address:
    """The Twisted address of an IP literal."""
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, port)


class SlowPath:
    """One direction of a slow network: ``rate`` bytes a second, ``delay_s`` on the way, and at most
    ``queue_bytes`` in the queues in front of it."""

    def __init__(self, reactor: Any, rate: float, delay_s: float, queue_bytes: int = 16_384):
        self._reactor = reactor
        self.rate = rate
        self._delay_s = delay_s
        self._queue_bytes = queue_bytes
        self._queued = 0
        self._free_s = 0.0
        #: What has come through and is acknowledged, in bytes.
        self.acknowledged = 0

    def stall(self, seconds: float) -> None:
        """The network takes nothing more for so long."""
        self._free_s = max(self._free_s, self._reactor.seconds() + seconds)

    def room(self) -> int:
        """How much it takes now, in parts that need a twentieth of a second."""
        return min(max(100, int(self.rate / 20)), self._queue_bytes - self._queued)

    def carry(self, data: bytes, receive: Callable[[bytes], None]) -> None:
        """Bring ``data`` to the other side, in time."""
        now_s = self._reactor.seconds()
        self._queued += len(data)
        self._free_s = max(self._free_s, now_s) + len(data) / self.rate
        self._reactor.callLater(self._free_s - now_s, self._sent, data, receive)

    def _sent(self, data: bytes, receive: Callable[[bytes], None]) -> None:
        self._queued -= len(data)
        self._reactor.callLater(self._delay_s, self._arrived, data, receive)

    def _arrived(self, data: bytes, receive: Callable[[bytes], None]) -> None:
        self.acknowledged += len(data)
        receive(data)


@implementer(ITCPTransport)
class End:
    """One side's transport."""

    def __init__(self, reactor: Any, address: Any) -> None:
        self._reactor = reactor
        self._address = address
        self.far: End
        self.protocol: Any = None
        self.buffer = bytearray()
        self.is_held = False
        self.is_reading = True
        self.connected = True
        self.disconnecting = False
        self.aborting = False
        self.no_delay = False
        self.chunk: int | None = None
        self.path: SlowPath | None = None
        self.bytes_written = 0
        self.on_lost: Callable[[Failure], None] = lambda reason: None
        self._producer: Any = None
        self._streaming = False
        self._producer_is_paused = False

    # -- what protocols use ------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes), type(data)
        if not data or not self.connected or self.aborting:
            return
        self.buffer += data
        self.bytes_written += len(data)
        is_full = self._streaming and len(self.buffer) > HIGH_WATER_BYTES
        if is_full and self._producer is not None and not self._producer_is_paused:
            self._producer_is_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.disconnecting = True

    def loseWriteConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        if self.connected and not self.aborting:
            self.aborting = True
            self.buffer.clear()
            self._reactor.callLater(0, self._aborted)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if not self.connected:
            producer.stopProducing()
            return
        self._producer, self._streaming = producer, streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self._producer = None

    def pauseProducing(self) -> None:
        self.is_reading = False

    def resumeProducing(self) -> None:
        self.is_reading = True

    def getPeer(self) -> Any:
        return self._address

    def getHost(self) -> Any:
        return self.far._address

    def getTcpNoDelay(self) -> bool:
        return self.no_delay

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = bool(enabled)

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass

    # -- what the network does ---------------------------------------------------------------

    def deliver(self) -> bool:
        """Move what may be moved to the other side; True when something happened."""
        if self.is_held or not self.connected or self.aborting or not self.far.is_reading:
            return False
        if self.buffer:
            size = len(self.buffer) if self.chunk is None else self.chunk
            if self.path is not None:
                size = self.path.room()
                if size <= 0:
                    return False
            data = bytes(self.buffer[:size])
            del self.buffer[:size]
            if not self.buffer and self._producer is not None and self._producer_is_paused:
                self._producer_is_paused = False
                self._producer.resumeProducing()
            if self.path is not None:
                self.path.carry(data, self.far.receive)
            else:
                self.far.receive(data)
            return True
        if self.disconnecting:
            self.lost(ConnectionDone())
            self.far.lost(ConnectionDone())
            return True
        return False

    def receive(self, data: bytes) -> None:
        if not self.connected or self.aborting:
            return
        try:
            self.protocol.dataReceived(data)
        except Exception:
            # As the reactor: log it, and drop the connection.
            _log.failure("dataReceived raised")
            self.lost(ConnectionLost())

    def lost(self, error: Exception) -> None:
        """This side learns that the connection is over."""
        if self.connected:
            self.connected = False
            self.buffer.clear()
            reason = Failure(error)
            if self._producer is not None:
                self._producer.stopProducing()
                self._producer = None
            self.protocol.connectionLost(reason)
            self.on_lost(reason)

    def _aborted(self) -> None:
        self.lost(ConnectionAborted())
        if not self.is_held:
            self.far.lost(ConnectionLost())


class Wire:
    """A TCP connection: ``client`` and ``server`` are its two transports."""

    def __init__(self, reactor: Any, client_address: Any, server_address: Any) -> None:
        self.client = End(reactor, server_address)
        self.server = End(reactor, client_address)
        self.client.far, self.server.far = self.server, self.client

    @property
    def is_up(self) -> bool:
        return self.client.connected

    def deliver(self) -> bool:
        """Move bytes in both directions once; True when something happened."""
        up = self.client.deliver()
        return self.server.deliver() or up

    def hold(self, *, up: bool = True, down: bool = True) -> None:
        """Deliver nothing any more, in the directions named (a black hole)."""
        self.client.is_held = self.client.is_held or up
        self.server.is_held = self.server.is_held or down

    def release(self) -> None:
        """Deliver again."""
        self.client.is_held = self.server.is_held = False

    def finish(self) -> None:
        """FIN from the platform, without a close frame."""
        self.server.lost(ConnectionDone())
        self.client.lost(ConnectionDone())

    def reset(self) -> None:
        """RST from the platform."""
        self.server.lost(ConnectionDone())
        self.client.lost(ConnectionLost())


@implementer(IConnector)
class Connector:
    """What ``connectTCP`` returns; ends like Twisted's own, synchronously where that does."""

    def __init__(self, network: Network, host: str, port: int, factory: Any, timeout: float):
        self._network = network
        self._limit = network.reactor.callLater(timeout, self.fail, TCPTimedOutError())
        self.host, self.port, self.factory = host, port, factory
        self.state = "connecting"
        self.wire: Wire | None = None

    def stopConnecting(self) -> None:
        if self.state != "connecting":
            raise NotConnectingError("we're not trying to connect")
        self.fail(UserError())

    def disconnect(self) -> None:
        if self.state == "connecting":
            self.stopConnecting()
        elif self.wire is not None and self.state == "connected":
            self.wire.client.loseConnection()

    def connect(self) -> None:
        raise AssertionError("the agent makes a new attempt instead")

    def getDestination(self) -> Any:
        return address_of(self.host, self.port)

    def fail(self, error: Exception) -> None:
        """The attempt ends with ``error``."""
        if self.state == "connecting":
            self.state = "disconnected"
            if self._limit.active():
                self._limit.cancel()
            self.factory.clientConnectionFailed(self, Failure(error))

    def accept(self, server_factory: Any) -> Wire:
        """The attempt succeeds: make both protocols and let them begin."""
        assert self.state == "connecting"
        self._limit.cancel()
        self.state = "connected"
        here, there = address_of("127.0.0.1", 40000), address_of(self.host, self.port)
        wire = self.wire = Wire(self._network.reactor, here, there)
        self._network.wires.append(wire)
        client = self.factory.buildProtocol(there)
        server = server_factory.buildProtocol(here)
        wire.client.protocol, wire.server.protocol = client, server
        wire.client.on_lost = self._lost
        self._network.on_wire(wire)
        client.makeConnection(wire.client)
        server.makeConnection(wire.server)
        return wire

    def _lost(self, reason: Failure) -> None:
        self.state = "disconnected"
        self.factory.clientConnectionLost(self, reason)


@implementer(IHostResolution)
class Resolution:
    """A look-up; it can't be cancelled, like the ones of Twisted's thread pool."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        raise NotImplementedError


@implementer(IHostnameResolver)
class Resolver:
    """Answers IP literals as they are, names from ``names``; others are held for ever (None) or
    not found (absent)."""

    def __init__(self) -> None:
        self.names: dict[str, list[str] | None] = {"localhost": ["127.0.0.1"]}
        self.asked: list[str] = []
        self.waiting: list[Any] = []

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Resolution:
        self.asked.append(hostName)
        resolution = Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        literal = ":" in hostName or hostName.replace(".", "").isdigit()
        found = [hostName] if literal else self.names.get(hostName, [])
        if found is None:
            self.waiting.append(resolutionReceiver)
        else:
            for host in found:
                resolutionReceiver.addressResolved(address_of(host, portNumber))
            resolutionReceiver.resolutionComplete()
        return resolution


class Network(MemoryReactorClock):
    """A reactor whose outgoing connections meet ``platforms``.

    ``platforms`` maps a host (an IP literal) to what is there: a server factory, an exception to
    fail with, or None for a host that never answers. ``default`` stands for the others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reactor = self
        self.nameResolver = Resolver()
        self.platforms: dict[str, Any] = {}
        self.default: Any = ConnectionRefusedError()
        self.connectors: list[Connector] = []
        self.wires: list[Wire] = []
        self.is_raising: Exception | None = None
        #: Is called with each new connection, before anything is sent on it.
        self.on_wire: Callable[[Wire], None] = lambda wire: None

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Connector:
        if self.is_raising is not None:
            raise self.is_raising
        self.tcpClients.append((host, port, factory, timeout, bindAddress))
        connector = Connector(self, host, port, factory, timeout)
        factory.startedConnecting(connector)
        self.connectors.append(connector)
        self.callLater(0, self._answer, connector)
        return connector

    def _answer(self, connector: Connector) -> None:
        if connector.state != "connecting":
            return
        platform = self.platforms.get(connector.host, self.default)
        if isinstance(platform, Exception):
            connector.fail(platform)
        elif platform is not None:
            connector.accept(platform)

    def settle(self) -> None:
        """Deliver bytes and make the calls that are due, until nothing happens any more."""
        for _ in range(100_000):
            moved = [wire.deliver() for wire in list(self.wires)]
            due = any(call.getTime() <= self.seconds() for call in self.getDelayedCalls())
            if due:
                self.advance(0)
            elif not any(moved):
                self.wires = [wire for wire in self.wires if wire.is_up or wire.server.connected]
                return
        raise AssertionError("the world doesn't come to rest")

    def pass_time(self, seconds: float) -> None:
        """Let ``seconds`` pass, every delayed call at its own time."""
        end = self.seconds() + seconds
        self.settle()
        while True:
            times = [call.getTime() for call in self.getDelayedCalls()]
            if not times or min(times) > end:
                break
            self.advance(max(0.0, min(times) - self.seconds()))
            self.settle()
        self.advance(max(0.0, end - self.seconds()))
        self.settle()
