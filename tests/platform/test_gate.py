"""How fast a connection is read, on a clock."""

from __future__ import annotations

from twisted.internet.task import Clock

from oda.platform.gate import HELPING_EVERY_S, ReadingGate


class Pipe:
    def __init__(self) -> None:
        self.clock = Clock()
        self.read = b""
        self.is_flowing = True
        self.gate = ReadingGate(self.clock, self.feed, self.pause, self.resume)

    def feed(self, data: bytes) -> None:
        self.read += data

    def pause(self) -> None:
        self.is_flowing = False

    def resume(self) -> None:
        self.is_flowing = True


def test_open_passes_at_once() -> None:
    """Without a limit nothing is held back and no timer runs."""
    pipe = Pipe()
    pipe.gate.received(b"abc")
    assert pipe.read == b"abc"
    assert pipe.clock.getDelayedCalls() == []


def test_frozen_passes_nothing_and_stops_the_transport() -> None:
    """Bytes that come all the same wait; after the thaw they come in order."""
    pipe = Pipe()
    pipe.gate.set(True, None)
    pipe.gate.received(b"abc")
    pipe.clock.advance(1000)
    assert (pipe.read, pipe.is_flowing) == (b"", False)
    pipe.gate.set(False, None)
    assert pipe.read == b""
    pipe.gate.received(b"def")
    pipe.clock.advance(0)
    assert (pipe.read, pipe.is_flowing) == (b"abcdef", True)


def test_the_thaw_wakes_a_protocol_that_holds_bytes_itself() -> None:
    """Even with nothing held back here the protocol is fed, to go on with what it has."""
    fed: list[bytes] = []
    clock = Clock()
    gate = ReadingGate(clock, fed.append, lambda: None, lambda: None)
    gate.set(True, None)
    gate.set(False, None)
    clock.advance(0)
    assert fed == [b""]


def test_slow_gives_the_bytes_per_second() -> None:
    """The pace holds over time, whatever the chunks; the transport rests meanwhile."""
    pipe = Pipe()
    pipe.gate.set(False, 100)
    pipe.gate.received(bytes(1000))
    assert not pipe.is_flowing
    for second in range(1, 10):
        pipe.clock.pump([HELPING_EVERY_S] * round(1 / HELPING_EVERY_S))
        assert abs(len(pipe.read) - 100 * second) <= 5
    pipe.clock.pump([HELPING_EVERY_S] * 100)
    assert len(pipe.read) == 1000
    assert pipe.is_flowing
    assert pipe.clock.getDelayedCalls() == []


def test_less_than_a_byte_per_helping_still_arrives() -> None:
    """Fractions add up."""
    pipe = Pipe()
    pipe.gate.set(False, 1)
    pipe.gate.received(b"ab")
    pipe.clock.pump([HELPING_EVERY_S] * 41)
    assert pipe.read == b"ab"


def test_a_new_speed_holds_for_what_was_held_back() -> None:
    """Lifting the limit lets everything through."""
    pipe = Pipe()
    pipe.gate.set(False, 1)
    pipe.gate.received(bytes(1000))
    pipe.gate.set(False, None)
    pipe.clock.advance(0)
    assert len(pipe.read) == 1000


def test_bytes_that_freeze_the_gate() -> None:
    """When what is fed freezes the gate, the rest waits and the transport stays stopped."""
    clock = Clock()
    read: list[bytes] = []
    flow: list[str] = []

    def feed(data: bytes) -> None:
        read.append(data)
        gate.set(True, None)

    gate = ReadingGate(clock, feed, lambda: flow.append("pause"), lambda: flow.append("resume"))
    gate.set(False, 1000)
    gate.received(bytes(100))
    clock.pump([HELPING_EVERY_S] * 10)
    assert sum(map(len, read)) == 50
    assert flow == ["pause"]


def test_closed_leaves_no_timer() -> None:
    """After the connection is gone nothing is fed."""
    pipe = Pipe()
    pipe.gate.set(False, 1)
    pipe.gate.received(b"ab")
    pipe.gate.close()
    pipe.gate.received(b"c")
    assert pipe.clock.getDelayedCalls() == []
    assert pipe.read == b""
