"""The network between the agent and the platform: slow, cut at any byte, silent, or not there.

A ``Wire`` is one TCP connection with a ``Pipe`` for each direction. A pipe delivers what was
written to it after a latency, in pieces of any size. ``cut_after`` ends the connection after so
many more bytes of a direction; ``is_held`` makes it half open: nothing is delivered, and nobody is
told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from twisted.internet.address import IPv4Address
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    NotConnectingError,
    TCPTimedOutError,
    UserError,
)
from twisted.internet.interfaces import ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.simulation.history import History
from tests.simulation.scheduler import LifeReactor, Scheduler

_log = Logger()

#: Above so many buffered bytes a transport pauses its producer, as Twisted's do.
HIGH_WATER_BYTES = 64 * 1024


class FarEnd(Protocol):
    """The platform's side of a connection."""

    def received(self, data: bytes) -> None:
        """Bytes of the agent have arrived."""

    def lost(self) -> None:
        """The connection is over."""


@dataclass
class Weather:
    """How the network is now. ``answer`` is what an attempt to connect meets: "accept", "refuse"
    or "silence"."""

    latency_s: tuple[float, float] = (0.0005, 0.005)
    piece_bytes: int = 1 << 20
    answer: str = "accept"


class Pipe:
    """One direction of a wire: from ``write`` to ``deliver(data)``, which is False when the data
    can't be taken now."""

    def __init__(self, wire: Wire, deliver: Callable[[bytes], None], name: str) -> None:
        self._wire = wire
        self._deliver = deliver
        self._name = name
        self._is_scheduled = False
        self.buffer = bytearray()
        self.is_held = False
        self.is_paused = False
        #: The connection is cut after so many more bytes.
        self.cut_after: int | None = None
        self.on_drained: Callable[[], None] = lambda: None
        self.ends_when_empty = False

    def write(self, data: bytes) -> None:
        """Put bytes on their way."""
        self.buffer += data
        self.schedule()

    def schedule(self) -> None:
        """See to it that something is delivered soon."""
        if not self._is_scheduled and (self.buffer or self.ends_when_empty):
            self._is_scheduled = True
            wire = self._wire
            low, high = wire.weather.latency_s
            wire.scheduler.later(wire.random.uniform(low, high), self._due)

    def release(self) -> None:
        """Deliver again after ``is_held`` or ``is_paused``."""
        self.schedule()

    def _due(self) -> None:
        self._is_scheduled = False
        wire = self._wire
        if not wire.is_up or self.is_held or self.is_paused:
            return
        size = len(self.buffer)
        limit = wire.weather.piece_bytes
        if size > limit:
            size = wire.random.randint(1, limit)
        if self.cut_after is not None and size >= self.cut_after:
            data = bytes(self.buffer[: self.cut_after])
            del self.buffer[: self.cut_after]
            if data:
                self._deliver(data)
            if wire.is_up:
                wire.history.say("network", f"the connection is cut, {self._name}")
                wire.reset()
            return
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        if self.cut_after is not None:
            self.cut_after -= size
        if data:
            self._deliver(data)
        if not self.buffer:
            self.on_drained()
            if self.ends_when_empty and wire.is_up:
                wire.finish()
                return
        self.schedule()


@implementer(ITransport)
class Transport:
    """The agent's side of a wire, as its protocols use it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.protocol: Any = None
        self.connected = True
        self.disconnecting = False
        self.aborting = False
        self._producer: Any = None
        self._is_producer_paused = False

    def write(self, data: bytes) -> None:
        wire = self._wire
        if not data or not self.connected or self.aborting or not wire.reactor.effect():
            return
        wire.up.write(data)
        is_full = len(wire.up.buffer) > HIGH_WATER_BYTES
        if is_full and self._producer is not None and not self._is_producer_paused:
            self._is_producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def drained(self) -> None:
        """The network has taken everything."""
        if self._is_producer_paused and self._producer is not None and self._wire.reactor.enter():
            self._is_producer_paused = False
            self._producer.resumeProducing()

    def loseConnection(self) -> None:
        self.disconnecting = True
        self._wire.up.ends_when_empty = True
        self._wire.up.schedule()

    loseWriteConnection = loseConnection

    def abortConnection(self) -> None:
        if self.connected and not self.aborting:
            self.aborting = True
            self._wire.reactor.callLater(0, self._wire.aborted)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def pauseProducing(self) -> None:
        self._wire.down.is_paused = True

    def resumeProducing(self) -> None:
        self._wire.down.is_paused = False
        self._wire.down.release()

    def getPeer(self) -> Any:
        return IPv4Address("TCP", "192.0.2.1", 9955)

    def getHost(self) -> Any:
        return IPv4Address("TCP", "127.0.0.1", 40000)

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing waits for more bytes here."""

    def lost(self, error: Exception) -> None:
        """The agent learns that the connection is over."""
        if not self.connected:
            return
        self.connected = False
        if not self._wire.reactor.enter():
            return
        reason = Failure(error)
        if self._producer is not None:
            self._producer.stopProducing()
            self._producer = None
        try:
            self.protocol.connectionLost(reason)
        except Exception:
            _log.failure("connectionLost raised")
        self._wire.connector.ended(reason)


class Wire:
    """A TCP connection of the agent with the platform."""

    def __init__(
        self,
        scheduler: Scheduler,
        reactor: LifeReactor,
        weather: Weather,
        history: History,
        random: Random,
        connector: Connector,
    ) -> None:
        self.scheduler = scheduler
        self.reactor = reactor
        self.weather = weather
        self.history = history
        self.random = random
        self.connector = connector
        self.client = Transport(self)
        self.far: FarEnd
        self.up = Pipe(self, self._arrived_up, "on its way up")
        self.down = Pipe(self, self._arrived_down, "on its way down")
        self.up.on_drained = self.client.drained
        self.is_up = True

    def _arrived_up(self, data: bytes) -> None:
        self.far.received(data)

    def _arrived_down(self, data: bytes) -> None:
        client = self.client
        if not client.connected or client.aborting or not self.reactor.enter():
            return
        try:
            client.protocol.dataReceived(data)
        except Exception:
            _log.failure("dataReceived raised")
            self.reset()

    def finish(self) -> None:
        """FIN: both sides see an end in good order, as far as TCP goes."""
        self._end(ConnectionDone())

    def reset(self) -> None:
        """RST: whatever is on its way is gone."""
        self._end(ConnectionLost())

    def aborted(self) -> None:
        """The agent has dropped the connection."""
        self._end(ConnectionAborted())

    def killed(self) -> None:
        """The agent's process is gone: the system sends what it had been given, or a part."""
        if not self.is_up:
            return
        size = self.random.randint(0, len(self.up.buffer))
        data = bytes(self.up.buffer[:size])
        if data and not self.up.is_held:
            del self.up.buffer[:size]
            self.far.received(data)
        self.is_up = self.client.connected = False
        self.far.lost()

    def _end(self, error: Exception) -> None:
        if self.is_up:
            self.is_up = False
            self.far.lost()
            self.client.lost(error)


class Connector:
    """What ``connectTCP`` returns."""

    def __init__(
        self, network: Network, reactor: LifeReactor, factory: Any, timeout_s: float
    ) -> None:
        self._network = network
        self._reactor = reactor
        self._factory = factory
        self._state = "connecting"
        self._limit = reactor.callLater(timeout_s, self.fail, TCPTimedOutError())
        self.transport: Any = None
        self.wire: Wire | None = None

    def stopConnecting(self) -> None:
        if self._state != "connecting":
            raise NotConnectingError("we're not trying to connect")
        self.fail(UserError())

    def disconnect(self) -> None:
        if self._state == "connecting":
            self.stopConnecting()
        elif self.wire is not None:
            self.wire.client.loseConnection()

    def fail(self, error: Exception) -> None:
        """The attempt has failed."""
        if self._state == "connecting":
            self._state = "disconnected"
            if self._limit.active():
                self._limit.cancel()
            self._factory.clientConnectionFailed(self, Failure(error))

    def answer(self) -> None:
        """Whatever is at the other end answers now, or does not."""
        if self._state != "connecting" or not self._reactor.enter():
            return
        kind = self._network.weather.answer
        if kind == "refuse":
            self.fail(ConnectionRefusedError())
        elif kind == "accept":
            self._limit.cancel()
            self._state = "connected"
            wire = self.wire = self._network.make_wire(self._reactor, self)
            protocol = wire.client.protocol = self._factory.buildProtocol(wire.client.getPeer())
            protocol.makeConnection(wire.client)

    def ended(self, reason: Failure) -> None:
        """The connection is over."""
        self._state = "disconnected"
        self._factory.clientConnectionLost(self, reason)


class Network:
    """Makes the wires. ``accept(wire)`` makes the platform's end of one."""

    def __init__(self, scheduler: Scheduler, history: History, seed: str) -> None:
        self._scheduler = scheduler
        self._history = history
        self._seed = seed
        self._wires = 0
        self.weather = Weather()
        self.accept: Callable[[Wire], FarEnd]
        #: The newest wire.
        self.wire: Wire | None = None

    def connect(
        self, reactor: LifeReactor, host: str, port: int, factory: Any, timeout_s: float
    ) -> Connector:
        """What a reactor's ``connectTCP`` does."""
        connector = Connector(self, reactor, factory, timeout_s)
        if reactor.effect():
            self._scheduler.later(self.weather.latency_s[1], connector.answer)
        return connector

    def make_wire(self, reactor: LifeReactor, connector: Connector) -> Wire:
        """A new connection; the platform's end of it is there."""
        self._wires += 1
        random = Random(f"{self._seed}/wire/{self._wires}")
        wire = self.wire = Wire(
            self._scheduler, reactor, self.weather, self._history, random, connector
        )
        wire.far = self.accept(wire)
        return wire
