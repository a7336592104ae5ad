"""The error boundary: a defect anywhere costs one message or one connection, never the agent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from tests.wire.fakes import FakeDispatcher
from tests.wire.world import World

MakeWorld = Callable[..., World]


class DefectError(Exception):
    """What the tests let other parts raise."""


def take_failures(world: World) -> list[type[BaseException]]:
    """The exceptions logged so far; they count as expected from now on."""
    kinds = [failure.type for failure in world.log.failures]
    world.log.events.clear()
    return kinds


def raises(payload: bytes) -> bytes:
    raise DefectError(payload)


@pytest.mark.parametrize(
    "answer",
    [raises, lambda payload: fail(DefectError(payload))],
    ids=["raises", "fails"],
)
def test_a_dispatcher_that_fails(make_world: MakeWorld, answer: Callable[[bytes], Any]) -> None:
    """One log entry per message, nothing answered, the connection stays, the next one is
    processed."""
    world = make_world(dispatcher=FakeDispatcher(answer)).start()
    world.peer.sendMessage(b'{"a":1}')
    world.settle()
    assert take_failures(world) == [DefectError]
    world.dispatcher.answer = lambda payload: payload
    world.peer.sendMessage(b'{"a":2}')
    world.settle()
    assert world.peer.payloads == [b'{"a":2}']
    assert world.counters.total("dispatcher_failures") == 1
    assert len(world.platform.peers) == 1


@pytest.mark.parametrize("answer", ["text", 17, ["list"]])
def test_a_dispatcher_that_answers_no_bytes(make_world: MakeWorld, answer: Any) -> None:
    """An answer that can't be sent is refused at once, instead of breaking every connection."""
    world = make_world(dispatcher=FakeDispatcher(lambda payload: answer)).start()
    world.peer.sendMessage(b"{}")
    world.settle()
    assert take_failures(world) == [TypeError]
    assert world.counters.total("answers_lost") == 1
    assert world.is_connected
    assert world.outbox.counts()["waiting"] == 0


def test_an_answer_that_comes_after_the_connection(make_world: MakeWorld) -> None:
    """An answer is sent on the connection there is when it comes."""
    later: list[Deferred[bytes]] = []

    def answer(payload: bytes) -> Deferred[bytes]:
        later.append(Deferred())
        return later[-1]

    world = make_world(dispatcher=FakeDispatcher(answer)).start()
    world.peer.sendMessage(b"{}")
    world.settle()
    world.wire.finish()
    later[0].callback(b'{"late":1}')
    world.pass_time(2)
    assert len(world.platform.peers) == 2
    assert world.peer.payloads == [b'{"late":1}']


def test_an_answer_that_the_outbox_refuses(world: World) -> None:
    """An answer that is not accepted is counted and logged in one line without a traceback."""
    world.start()
    world.dispatcher.answer = lambda payload: b"x" * (17 * 1024 * 1024)
    world.peer.sendMessage(b"{}")
    world.settle()
    assert world.log.has("an answer is lost", "maxMessageSize")
    assert world.counters.total("answers_lost") == 1


class BrokenOutbox:
    """Stands before the outbox and raises in the methods named."""

    def __init__(self, outbox: Any, broken: set[str]) -> None:
        self._outbox = outbox
        self.broken = broken

    def __getattr__(self, name: str) -> Any:
        if name in self.broken:
            raise DefectError(name)
        return getattr(self._outbox, name)


@pytest.mark.parametrize("broken", ["take", "retire", "rewind", "counts"])
def test_an_outbox_that_fails(make_world: MakeWorld, broken: str) -> None:
    """Whatever the outbox does, the agent keeps trying, and delivers when it works again."""
    world = make_world()
    outbox = BrokenOutbox(world.outbox, set())
    link = world.service._link
    link._outbox = outbox
    world.start()
    outbox.broken.add(broken)
    world.uplink(b'{"n":1}')
    world.pass_time(1)
    if world.network.wires:
        world.wire.finish()
    world.pass_time(100)
    if broken != "counts":
        assert DefectError in take_failures(world)
    outbox.broken.clear()
    world.pass_time(400)
    assert world.is_connected
    world.uplink(b'{"n":2}')
    world.pass_time(1)
    assert world.platform.received[-1] == b'{"n":2}'
    world.log.events.clear()


def test_stopping_with_an_outbox_that_fails(make_world: MakeWorld) -> None:
    """Stopping ends even then, and leaves nothing behind."""
    world = make_world()
    outbox = BrokenOutbox(world.outbox, set())
    world.service._link._outbox = outbox
    world.start()
    outbox.broken.update({"take", "counts", "rewind", "retire"})
    stopped = world.stop()
    world.pass_time(11)
    assert stopped.called
    assert world.timers == []
    assert set(take_failures(world)) == {DefectError}


class RaisingCounters:
    """Breaks the promise of ICounters in the counters named."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def increment(self, name: str, amount: int = 1, **labels: str) -> None:
        if name in self.names:
            raise DefectError(name)

    def observe(self, name: str, value: float, **labels: str) -> None:
        if name in self.names:
            raise DefectError(name)


@pytest.mark.parametrize(
    "name",
    ["connections_opened", "messages_sent", "messages_received", "barrier_round_trip_seconds"],
)
def test_a_defect_in_a_callback_drops_the_connection(make_world: MakeWorld, name: str) -> None:
    """A defect while opening, sending, receiving a message or a pong is logged, costs the
    connection, and the agent connects again."""
    world = make_world()
    world.service._link._counters = RaisingCounters([name])
    world.service._counters = world.service._link._counters
    world.start()
    if world.is_connected:
        world.uplink(b"{}")
        if world.is_connected:
            world.peer.sendMessage(b"{}")
            world.settle()
    assert not world.is_connected
    assert world.log.has("connection lost", "a defect in the agent (DefectError)")
    assert take_failures(world) == [DefectError]
    world.service._link._counters = RaisingCounters([])
    world.service._counters = world.service._link._counters
    world.pass_time(2)
    assert world.is_connected
    world.pass_time(59)
    assert world.is_connected


def test_a_reactor_that_refuses_sockets(world: World) -> None:
    """When opening a socket raises, the attempt is over and the next one is scheduled."""
    world.network.is_raising = DefectError("no more sockets")
    world.start()
    assert take_failures(world) == [DefectError]
    assert len(world.timers) == 1
    world.network.is_raising = None
    world.pass_time(1)
    assert world.is_connected


def test_an_api_key_that_fails(make_world: MakeWorld) -> None:
    """A provider that can't give the key is asked again."""
    world = make_world()
    world.device_info.key = DefectError("no key")
    world.start()
    assert take_failures(world) == [DefectError]
    world.device_info.key = "key"
    world.pass_time(30)
    assert world.is_connected


def test_an_answer_without_utf8_does_not_go_out_as_text(make_world: MakeWorld) -> None:
    """Text frames hold UTF-8: an answer to a text message that is none goes out binary."""
    world = make_world(dispatcher=FakeDispatcher(lambda payload: b"\xff\xfe")).start()
    world.peer.sendMessage(b"hello", isBinary=False)
    world.settle()
    assert world.peer.messages == [(b"\xff\xfe", True)]
