"""The platform asks faster than answers can be taken: reading stops, and no answer is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from twisted.internet.defer import Deferred

from oda.settings import OutboxSettings
from tests.wire.fakes import FakeDispatcher, echo
from tests.wire.world import World, connector_settings

MakeWorld = Callable[..., World]
KIB = 1024
SIZE = 100 * KIB
#: Reading stops at a quarter of it.
BOUND = 400 * KIB


def requests(count: int, size: int = SIZE) -> list[bytes]:
    """Requests that differ."""
    return [b"%04d" % number + b"x" * (size - 4) for number in range(count)]


def ask(world: World, payloads: list[bytes]) -> None:
    """The platform writes all of them in one go; they arrive as one chunk."""
    for payload in payloads:
        world.peer.sendMessage(payload, isBinary=True)


class Echo(FakeDispatcher):
    """Answers with the request; notes the most that waited in the outbox when one came."""

    def __init__(self, answer: Callable[[bytes], Any] = echo) -> None:
        super().__init__(answer)
        self.world: World | None = None
        self.most = 0

    def process(self, payload: bytes, content_type: Any) -> Deferred[bytes | None]:
        if self.world is not None:
            self.most = max(self.most, self.world.outbox.answer_bytes())
        return super().process(payload, content_type)

    @property
    def payloads(self) -> list[bytes]:
        return [payload for payload, _ in self.received]


def overload_world(
    make_world: MakeWorld,
    dispatcher: Echo | None = None,
    max_bytes: int = BOUND,
    window_messages: int = 256,
    **more: Any,
) -> World:
    """A small outbox; reading stops at a quarter of ``max_bytes``."""
    dispatcher = dispatcher or Echo()
    world = make_world(
        settings=connector_settings(max_message_size_bytes=128 * KIB, **more.pop("connector", {})),
        window=OutboxSettings(max_bytes=max_bytes, window_messages=window_messages),
        dispatcher=dispatcher,
        **more,
    )
    dispatcher.world = world
    world.start()
    world.pass_time(0.2)
    return world


def accept_deflate(offers: list[Any]) -> Any:
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(offer)
    return None


@pytest.mark.parametrize("compression", [False, True], ids=["plain", "deflate"])
def test_every_request_is_answered_once(make_world: MakeWorld, compression: bool) -> None:
    """Ten times more than the outbox holds, in one chunk, and many small ones behind it: all are
    answered once and in order, and no more than one beyond the bound ever waits."""
    dispatcher = Echo()
    world = overload_world(
        make_world,
        dispatcher,
        connector={"compression": compression},
        platform_options={"perMessageCompressionAccept": accept_deflate},
    )
    asked = requests(25) + requests(500, 50)
    ask(world, asked)
    world.settle()
    world.pass_time(1)
    assert world.platform.received == asked
    assert world.counters.total("answers_lost") == 0
    assert world.counters.total("messages_dropped") == 0
    assert dispatcher.most < BOUND // 4
    assert world.outbox.answer_bytes() == 0
    assert world.counters.total("messages_acknowledged") == len(asked)


def test_nothing_is_read_while_the_network_takes_no_answers(make_world: MakeWorld) -> None:
    """The transport is paused and the rest of the chunk stays unparsed, the pong among it; the pong
    is not late, because it was not read. With the network back everything goes on."""
    dispatcher = Echo()
    world = overload_world(make_world, dispatcher)
    world.wire.client.is_held = True
    world.uplink(b"telemetry")
    world.pass_time(0.2)
    assert world.service.status().ping_waits_s is not None
    asked = requests(10)
    ask(world, asked)
    world.pass_time(100)
    assert dispatcher.payloads == asked[:1]
    assert not world.wire.client.is_reading
    assert world.is_connected
    assert world.service.status().ping_waits_s is None
    world.wire.release()
    world.pass_time(1)
    assert world.platform.received == [b"telemetry", *asked]
    assert world.wire.client.is_reading
    assert world.counters.total("pong_timeouts") == 0
    assert len(world.platform.peers) == 1


def test_a_dead_peer_is_found_while_nothing_is_read(make_world: MakeWorld) -> None:
    """A network that takes nothing for four pong limits is dead; what was read is answered on the
    next connection."""
    dispatcher = Echo()
    world = overload_world(make_world, dispatcher)
    asked = requests(3)
    world.wire.client.is_held = True
    ask(world, asked)
    world.pass_time(119)
    assert len(world.platform.peers) == 1
    world.pass_time(120)
    assert world.log.has("connection lost", "the network has taken no answer for 120 s")
    assert len(world.platform.peers) == 2
    assert world.platform.received == dispatcher.payloads == asked[:1]


def test_a_dead_peer_is_found_after_it(make_world: MakeWorld) -> None:
    """Once reading goes on, the pong has its whole limit again, and no more."""
    dispatcher = Echo()
    world = overload_world(make_world, dispatcher)
    world.wire.client.is_held = True
    ask(world, requests(1))
    world.pass_time(60)
    world.platform.pong = lambda payload: None
    world.wire.release()
    world.settle()
    assert world.wire.client.is_reading
    world.pass_time(29.9)
    assert world.is_connected
    world.pass_time(0.2)
    assert world.log.has("no pong within 30 s")


def test_requests_that_are_answered_late_stop_reading(make_world: MakeWorld) -> None:
    """What is being worked on counts: no more than 256 KiB of it is read at once."""
    running: list[Deferred[bytes]] = []

    def later(payload: bytes) -> Deferred[bytes]:
        running.append(Deferred())
        return running[-1].addCallback(lambda _: payload)

    dispatcher = Echo(later)
    world = overload_world(make_world, dispatcher)
    asked = requests(8)
    ask(world, asked)
    world.pass_time(10)
    assert dispatcher.payloads == asked[:3]
    for number in range(8):
        running[number].callback(b"")
        world.settle()
        assert world.platform.received == asked[: number + 1]
    assert world.counters.total("answers_lost") == 0


def test_a_dispatcher_that_never_answers_does_not_stop_it_for_ever(make_world: MakeWorld) -> None:
    """After four pong limits the agent reads on, and says why."""
    dispatcher = Echo(lambda payload: Deferred() if payload < b"0003" else payload)
    world = overload_world(make_world, dispatcher)
    asked = requests(6)
    ask(world, asked)
    world.pass_time(119)
    assert dispatcher.payloads == asked[:3]
    world.pass_time(2)
    assert world.platform.received == asked[3:]
    assert world.log.has("requests are not answered")
    assert len(world.platform.peers) == 1


def test_a_close_frame_behind_what_waits(make_world: MakeWorld) -> None:
    """It is read when its turn comes: what stands before it is answered, here or on the next
    connection."""
    dispatcher = Echo()
    world = overload_world(make_world, dispatcher)
    asked = requests(5)
    world.wire.client.is_held = True
    ask(world, asked)
    world.peer.sendClose(1000, "bye")
    world.pass_time(10)
    assert world.is_connected
    world.wire.release()
    world.pass_time(130)
    assert dispatcher.payloads == asked
    assert set(world.platform.received) == set(asked)
    assert world.counters.total("answers_lost") == 0
    assert world.log.has("closed by the platform with code 1000 ('bye')")


def test_the_connection_is_lost_meanwhile(make_world: MakeWorld) -> None:
    """What was not read is not answered; what was read is, once, on the next connection."""
    dispatcher = Echo()
    world = overload_world(make_world, dispatcher)
    asked = requests(5)
    world.wire.client.is_held = True
    world.uplink(b"telemetry")
    world.pass_time(0.2)
    ask(world, asked)
    world.settle()
    world.wire.reset()
    world.pass_time(130)
    assert world.is_connected
    assert dispatcher.payloads == asked[:1]
    assert world.platform.received == [*asked[:1], b"telemetry"]
    ask(world, asked)
    world.pass_time(1)
    assert world.platform.received[2:] == asked
    assert world.counters.total("pong_timeouts") == 0  # the old connection has no timer any more


def test_stopping_meanwhile(make_world: MakeWorld) -> None:
    """The agent closes in good order although requests stand before the platform's close frame;
    these are not read any more, and no timer is left."""
    running: list[Deferred[bytes]] = []

    def never(payload: bytes) -> Deferred[bytes]:
        running.append(Deferred())
        return running[-1]

    dispatcher = Echo(never)
    world = overload_world(make_world, dispatcher)
    peer = world.peer
    ask(world, requests(8))
    world.settle()
    stopped = world.stop()
    world.pass_time(6)
    assert stopped.called
    assert peer.closed == (True, 1000, "the agent is stopping")
    assert len(dispatcher.payloads) == 3
    assert world.timers == []


@pytest.mark.parametrize("code", [1000, 1001])
def test_answers_let_go_are_repeated_until_they_are_proven(
    make_world: MakeWorld, code: int
) -> None:
    """Without a pong the agent goes on by letting go what it has written. A connection that ends
    then has proven nothing, whatever its close code: not even 1000, after which nothing that was
    acknowledged is kept."""
    world = overload_world(make_world, max_bytes=KIB * KIB)
    asked = requests(6)
    world.platform.pong = lambda payload: None
    ask(world, asked)
    world.settle()
    assert world.platform.received == asked
    assert world.counters.total("messages_acknowledged") == 0
    world.platform.pong = lambda payload: payload
    world.peer.sendCloseFrame(code)
    world.pass_time(130)
    assert world.platform.received == asked * 2
    world.peer.sendCloseFrame(code)
    world.pass_time(130)
    assert world.platform.received == asked * 2
    assert world.counters.total("messages_acknowledged") == len(asked)


def test_answers_let_go_take_no_room_in_the_window(make_world: MakeWorld) -> None:
    """Once they are let go, nobody waits for their pong: telemetry goes out although as many
    messages as ``ackWindow`` allows are not proven."""
    world = overload_world(make_world, max_bytes=KIB * KIB, window_messages=6)
    world.platform.pong = lambda payload: None
    ask(world, requests(6))
    world.settle()
    world.uplink(b"telemetry")
    world.pass_time(1)
    assert world.platform.received[-1] == b"telemetry"
    assert world.counters.total("messages_acknowledged") == 0
