"""A device sends the stand-in platform frames that cost more than they are worth.

The stand-in runs in memory; what counts is what Python has allocated. The rule is the agent's own,
and so is the code (``oda/peer_bounds.py``); ``test_frames.py`` attacks the agent.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from oda.codecs import default_registry
from oda.platform.database import Database
from oda.platform.faults import Fault, PongMode, Refusal
from oda.platform.pongs import MAX_LATE, PongPolicy
from oda.platform.recording import Recording
from oda.platform.service import Platform
from oda.platform.sessions import MAX_HELD_BYTES, MAX_HELD_MESSAGES, Session
from oda.platform.tape.client import Target
from oda.platform.tape.proxy import DeviceSide, RecordingProxy
from oda.platform.tape.recorder import SessionRecorder
from tests.platform.fakes import FixedClock, RecordingPipe
from tests.wire.frames import BINARY, CONTINUATION, PING, TEXT
from tests.wire.frames import frame as any_frame
from tests.wire.network import HIGH_WATER_BYTES, Wire, address_of

KIB = 1 << 10
#: What an attack may leave, in bytes; each one writes enough to leave ten times as much.
MARGIN = 400 * KIB
UPGRADE = (
    b"GET /south/v80/sessions/dev-1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Version: 13\r\nX-ApiKey: k\r\n"
)


def frame(opcode: int, payload: bytes = b"", fin: bool = True) -> bytes:
    """A frame as a client sends it; its mask changes nothing."""
    return any_frame(opcode, payload, fin=fin, mask=b"\0\0\0\0")


class Attacker:
    """A device that writes bytes to a stand-in in memory, and reads only what it wants to."""

    def __init__(self) -> None:
        self.reactor = MemoryReactorClock()
        self.platform = Platform(self.reactor, port=9955, http_port=None)
        self.platform.startService()
        self.protocol = self.reactor.tcpServers[0][1].buildProtocol(address_of("127.0.0.1", 1))
        self.wire = _connect(self.reactor, self.protocol)
        self.answers = self.wire.server.buffer

    def send(self, data: bytes, times: int = 1) -> None:
        """Write bytes, reading nothing."""
        for _ in range(times):
            self.wire.server.receive(data)

    def read(self) -> bytes:
        """All that the stand-in has written."""
        self.wire.client.protocol = _Reader()
        while self.wire.server.deliver():
            pass
        return bytes(self.wire.client.protocol.data)

    def upgrade(self) -> None:
        """Become a WebSocket."""
        self.send(UPGRADE + b"\r\n")
        assert self.answers.startswith(b"HTTP/1.1 101 ")
        self.answers.clear()

    def close(self) -> None:
        """End everything."""
        self.wire.reset()
        stopping = self.platform.stopService()
        while not stopping.called:
            self.reactor.advance(1)


class _Reader:
    def __init__(self) -> None:
        self.data = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any) -> None:
        """That is all."""


def _connect(reactor: Any, protocol: Any) -> Wire:
    wire = Wire(reactor, address_of("127.0.0.1", 1), address_of("127.0.0.1", 9955))
    wire.client.protocol, wire.server.protocol = _Reader(), protocol
    protocol.makeConnection(wire.server)
    return wire


@pytest.fixture
def attacker() -> Iterator[Attacker]:
    one = Attacker()
    yield one
    one.close()


def left_by(attack: Callable[[], None]) -> int:
    """How much more is allocated behind the attack than before it, in bytes."""
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        attack()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_pings_while_nothing_is_read(attacker: Attacker) -> None:
    """Pongs that the device does not read are not kept; when it reads, the newest ping is
    answered."""
    attacker.upgrade()
    for number in range(400):
        attacker.send(frame(PING, b"%0125d" % number) * 100)
    assert len(attacker.answers) < HIGH_WATER_BYTES + KIB
    assert attacker.read().endswith(b"%0125d" % 399)


def test_empty_fragments_without_end(attacker: Attacker) -> None:
    """A fragment that holds nothing costs nothing."""
    attacker.upgrade()
    attacker.send(frame(TEXT, b"", fin=False))
    many = frame(CONTINUATION, b"", fin=False) * 1000
    attacker.send(many)
    assert left_by(lambda: attacker.send(many, times=20)) < MARGIN // 10


def test_a_message_in_fragments_of_two_bytes(attacker: Attacker) -> None:
    """A message costs what it holds, whatever the size of its fragments."""
    attacker.upgrade()
    attacker.send(frame(BINARY, b"{", fin=False))
    many = frame(CONTINUATION, b"  ", fin=False) * 1000
    attacker.send(many)
    assert left_by(lambda: attacker.send(many, times=20)) < 40_000 + MARGIN // 10
    attacker.send(frame(CONTINUATION, b"}"))
    assert len(attacker.platform.messages("dev-1")[0].payload) == 42_002


def test_an_upgrade_without_an_end(attacker: Attacker) -> None:
    """A request of more than 64 KiB is given up, not collected."""
    attacker.send(UPGRADE + b"X-Long: ")
    assert left_by(lambda: attacker.send(b"x" * 65_000, times=100)) < MARGIN
    assert attacker.wire.server.aborting


def test_bytes_while_the_upgrade_waits_for_ever(attacker: Attacker) -> None:
    """A stand-in that answers no upgrade (a fault) does not collect what follows, either."""
    attacker.platform.faults.set(None, Fault(refuse=Refusal.SILENCE))
    attacker.send(UPGRADE + b"\r\n")
    assert left_by(lambda: attacker.send(b"x" * 65_000, times=100)) < MARGIN


def test_bytes_behind_the_end(attacker: Attacker) -> None:
    """Behind a refusal that the device does not read, nothing is collected."""
    attacker.send(UPGRADE.replace(b"dev-1", b"dev-1/x/y") + b"\r\n")
    assert attacker.answers.startswith(b"HTTP/1.1 404 ")
    assert left_by(lambda: attacker.send(b"x" * 65_000, times=100)) < MARGIN


class TwistedTransport(FileDescriptor):
    """How Twisted itself writes, and ends what was written; nobody reads until ``drain``."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.connected = True
        self.has_ended = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """It makes no difference."""

    def writeSomeData(self, data: bytes) -> int:
        return len(data)

    def getPeer(self) -> Any:
        return address_of("127.0.0.1", 2)

    def startReading(self) -> None:
        """The test says when bytes come."""

    def stopReading(self) -> None:
        """The test says when bytes come."""

    def startWriting(self) -> None:
        self.is_writing = True

    def stopWriting(self) -> None:
        self.is_writing = False

    def drain(self) -> None:
        """The other side reads everything."""
        while self.is_writing and not self.has_ended:
            self.has_ended = self.doWrite() is not None


def test_a_connection_ends_while_the_device_reads_nothing(attacker: Attacker) -> None:
    """What holds back the pongs does not hold the connection: Twisted leaves one open for as long
    as somebody may have more to write."""
    protocol = attacker.reactor.tcpServers[0][1].buildProtocol(address_of("127.0.0.1", 2))
    transport = TwistedTransport(attacker.reactor)
    protocol.makeConnection(transport)
    protocol.dataReceived(UPGRADE + b"\r\n")
    while not transport.producerPaused:  # and so no pong waits
        protocol.dataReceived(frame(PING, b"x" * 125))
    protocol.dropConnection(abort=False)
    transport.drain()
    assert transport.has_ended
    protocol.connectionLost(Failure(ConnectionDone()))


def test_late_pongs() -> None:
    """While pongs are late (a fault), a bounded number of them waits, and the newest ping is
    answered."""
    clock, sent = Clock(), []
    pongs = PongPolicy(clock, sent.append, lambda: None)
    for number in range(5 * MAX_LATE):
        pongs.ping_received(b"%d" % number, Fault(pong=PongMode.LATE, pong_delay_s=5.0))
    assert len(clock.getDelayedCalls()) <= MAX_LATE
    clock.advance(5.0)
    assert len(sent) == MAX_LATE
    assert sent[-1] == b"%d" % (5 * MAX_LATE - 1)


@pytest.mark.parametrize(
    ("size", "held"), [(1, MAX_HELD_MESSAGES), (100 * KIB, MAX_HELD_BYTES // (100 * KIB))]
)
def test_messages_that_are_read_late(size: int, held: int) -> None:
    """While pongs go before reading (a fault), messages wait within a bound by number and by
    bytes; none is lost."""
    session = new_session(inbox := ReadMessages())
    session.open(Fault(pong=PongMode.EARLY, pong_delay_s=5.0))
    for _ in range(held + 50):
        session.message_received(b"x" * size, True)
    assert len(inbox.payloads) == 50
    session.apply(Fault())
    assert len(inbox.payloads) == held + 50


class ReadMessages:
    """An ``Inbox`` that remembers the payloads."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def session_opened(self, session: Session) -> None:
        """Nothing to do."""

    def message_read(self, session: Session, number: int, payload: bytes, content: Any) -> None:
        self.payloads.append(payload)

    def session_closed(self, session: Session, code: int | None) -> None:
        """Nothing to do."""


def new_session(inbox: ReadMessages) -> Session:
    """A session of a device, nothing below it."""
    recording = Recording(Database(), FixedClock(), 100, 100 * KIB)
    return Session(
        Clock(), "dev-1", "peer", RecordingPipe(), recording, default_registry(), inbox, 1 << 20
    )


def test_the_recording_proxy_collects_no_fragments() -> None:
    """The proxy of ``oda record`` is bounded in the same way while it waits for the platform."""
    reactor = MemoryReactorClock()
    recorder = SessionRecorder(BytesIO(), reactor.seconds, 0)
    proxy = RecordingProxy(reactor, Target(False, "127.0.0.1", 1, ""), recorder, lambda error: None)
    proxy.listen(9955, "127.0.0.1")
    device: DeviceSide = reactor.tcpServers[0][1].buildProtocol(address_of("127.0.0.1", 1))
    wire = _connect(reactor, device)
    wire.server.receive(UPGRADE + b"\r\n")

    def attack() -> None:
        for _ in range(100):
            wire.server.receive(b"x" * 65_000)

    assert left_by(attack) < MARGIN
