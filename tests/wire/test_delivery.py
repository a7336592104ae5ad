"""What was accepted arrives, in its order, across ends of the connection and full windows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from oda.errors import MessageTooLarge, NotConnected
from oda.model import ContentType
from oda.settings import FrameType, OutboxSettings
from tests.wire.world import World, connector_settings

MakeWorld = Callable[..., World]


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b'{"n":%d}' % number for number in range(start, start + count)]


def test_messages_wait_for_the_connection(world: World) -> None:
    """What is handed over before the connection is open goes out when it opens, in order."""
    for payload in numbered(300):
        world.uplink(payload)
    world.start()
    world.pass_time(2)
    assert world.platform.received == numbered(300)


@pytest.mark.parametrize("end", ["reset", "finish"])
def test_unacknowledged_messages_are_sent_again(world: World, end: str) -> None:
    """What no pong has proven when the connection breaks is sent again, first and in order."""
    world.start()
    world.pass_time(1)
    world.wire.hold(down=False)
    for payload in numbered(10):
        world.uplink(payload)
    getattr(world.wire, end)()
    for payload in numbered(10, start=10):
        world.uplink(payload)
    world.pass_time(2)
    assert world.platform.received == numbered(20)
    assert world.counters.total("messages_resent") == 10


@pytest.mark.parametrize("code", [1006, 1011, 1012, 1013, 1000, 1001, 1005, 4001])
def test_what_an_abnormal_close_replays(world: World, code: int) -> None:
    """Messages that were acknowledged within the linger time are sent again after every end but an
    orderly one: the platform has finished (1000) or goes away (1001), and says so."""
    world.start()
    world.uplink(b'{"n":1}')
    world.pass_time(1)
    assert world.outbox.counts()["lingering"] == 1
    if code == 1006:
        world.wire.finish()
    else:
        world.peer.sendCloseFrame(None if code == 1005 else code)
    world.pass_time(70)
    expected = 1 if code in (1000, 1001) else 2
    assert world.platform.received == [b'{"n":1}'] * expected


def _a_reserved_opcode(world: World) -> None:
    world.peer.sendFrame(opcode=11)


def _the_answer_of_a_proxy(world: World) -> None:
    """The server behind it has died, and it says so in HTTP, in the middle of the stream."""
    world.peer.sendData(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
    world.wire.server.loseConnection()


@pytest.mark.parametrize("breach", [_a_reserved_opcode, _the_answer_of_a_proxy])
def test_a_broken_protocol_is_no_orderly_end(breach: Callable[[World], None], world: World) -> None:
    """Who breaks the protocol may have lost what it had read."""
    world.start()
    world.uplink(b'{"n":1}')
    world.pass_time(1)
    breach(world)
    world.pass_time(20)
    assert len(world.platform.peers) == 2
    assert world.platform.received == [b'{"n":1}'] * 2


def test_nothing_is_replayed_after_the_linger_time(world: World) -> None:
    """A message acknowledged longer ago than the linger time is done."""
    world.start()
    world.uplink(b'{"n":1}')
    world.pass_time(62)
    world.wire.finish()
    world.pass_time(5)
    assert world.platform.received == [b'{"n":1}']


def test_a_pong_retires_only_what_went_before(world: World) -> None:
    """Messages sent behind the ping stay in flight until the next one is answered; while one is
    outstanding there is no second."""
    world.start()
    world.wire.server.is_held = True
    world.uplink(b'{"n":1}')
    world.pass_time(0.1)
    assert len(world.peer.pings) == 2  # the probe, and the one behind the first message
    world.uplink(b'{"n":2}')
    world.pass_time(1)
    assert len(world.peer.pings) == 2
    world.wire.release()
    world.settle()
    assert world.outbox.counts()["lingering"] == 1
    assert world.outbox.counts()["in_flight"] == 1
    world.pass_time(0.2)
    assert world.outbox.counts()["in_flight"] == 0
    assert len(world.peer.pings) == 3


def test_the_window_bounds_what_is_unproven(make_world: MakeWorld) -> None:
    """Without pongs no more than the window's messages are sent, nor more than its bytes."""
    for window in (
        OutboxSettings(window_messages=8),
        OutboxSettings(window_bytes=8 * len(numbered(1)[0])),
    ):
        world = make_world(window=window).start()
        world.wire.server.is_held = True
        for payload in numbered(20):
            world.uplink(payload)
        assert world.platform.received == numbered(8)
        world.wire.release()
        world.pass_time(5)
        assert world.platform.received == numbered(20)


def test_responses_overtake_telemetry(make_world: MakeWorld) -> None:
    """An answer goes out before telemetry that waits, even when the window is full of it."""
    world = make_world(window=OutboxSettings(window_messages=4)).start()
    world.wire.server.is_held = True
    for payload in numbered(10):
        world.uplink(payload)
    assert world.platform.received == numbered(4)
    world.respond(b'{"answer":1}')
    assert world.platform.received == [*numbered(4), b'{"answer":1}']
    world.wire.release()
    world.pass_time(5)
    assert world.platform.received[5:] == numbered(6, start=4)


def test_back_pressure(make_world: MakeWorld) -> None:
    """When the network takes no more the connector stops handing over, and goes on when it does."""
    world = make_world(window=OutboxSettings(window_messages=10_000, window_bytes=10**9)).start()
    world.pass_time(1)
    world.wire.hold(down=False)
    payloads = [number.to_bytes(4, "big") * 5_000 for number in range(100)]
    for payload in payloads:
        world.uplink(payload, ContentType.MESSAGE_PACK)
    # 64 KiB fill the transport's buffer; what one turn took out of the outbox is written behind it
    assert len(world.wire.client.buffer) < 64 * 1024 + 64 * 20_100
    waiting = world.outbox.counts()["waiting"]
    assert waiting >= 90
    world.pass_time(1)
    assert world.outbox.counts()["waiting"] == waiting
    world.wire.release()
    world.pass_time(1)
    assert world.platform.received == payloads
    assert world.outbox.counts()["waiting"] == world.outbox.counts()["in_flight"] == 0


def test_json_frames_follow_the_setting(make_world: MakeWorld) -> None:
    """JSON goes out binary by default and as text where configured; the other formats are always
    binary (OpenGate protocol, "Connection")."""
    for frame_type, json_is_binary in ((FrameType.BINARY, True), (FrameType.TEXT, False)):
        world = make_world(settings=connector_settings(frame_type=frame_type)).start()
        world.uplink(b"{}", ContentType.JSON)
        world.uplink(b"\x80", ContentType.MESSAGE_PACK)
        world.uplink(b"\xa0", ContentType.CBOR)
        world.service.uplink_no_qos(b"{}", ContentType.JSON)
        world.settle()
        assert world.peer.messages == [
            (b"{}", json_is_binary),
            (b"\x80", True),
            (b"\xa0", True),
            (b"{}", json_is_binary),
        ]


def test_sending_without_guarantee(world: World) -> None:
    """A message without delivery guarantee goes out at once or not at all, and is never sent
    again."""
    with pytest.raises(NotConnected):
        world.service.uplink_no_qos(b'{"n":0}', ContentType.JSON)
    world.start()
    world.service.uplink_no_qos(b'{"n":1}', ContentType.JSON)
    world.settle()
    world.wire.finish()
    world.pass_time(2)
    assert world.platform.received == [b'{"n":1}']


def test_sending_without_guarantee_into_a_full_network(world: World) -> None:
    """ "Not at all" includes a network that takes nothing: no memory is filled."""
    world.start()
    world.wire.hold(down=False)
    world.service.uplink_no_qos(b"x" * 100_000, ContentType.JSON)
    with pytest.raises(NotConnected, match="congested"):
        world.service.uplink_no_qos(b"{}", ContentType.JSON)


def test_too_large_messages_are_refused(make_world: MakeWorld) -> None:
    """What exceeds maxMessageSize is refused when it is handed over."""
    world = make_world(settings=connector_settings(max_message_size_bytes=100))
    refused: list[BaseException] = []
    world.service.uplink(b"x" * 101, ContentType.JSON).addErrback(
        lambda failure: refused.append(failure.value)
    )
    assert isinstance(refused[0], MessageTooLarge)
    world.uplink(b"x" * 100)


def test_the_reduced_form_goes_out_only_fresh(world: World) -> None:
    """The form without a time is sent at once or not at all: later, and again, the complete one."""
    world.start()
    world.service.uplink(b'{"full":1}', ContentType.JSON, fresh_payload=b'{"r":1}')
    world.settle()
    world.wire.finish()
    world.service.uplink(b'{"full":2}', ContentType.JSON, fresh_payload=b'{"r":2}')
    world.pass_time(5)
    assert world.platform.received == [b'{"r":1}', b'{"full":1}', b'{"r":2}']
    world.network.default = None
    world.wire.finish()
    world.service.uplink(b'{"full":3}', ContentType.JSON, fresh_payload=b'{"r":3}')
    world.pass_time(20)
    world.network.default = world.platform
    world.pass_time(60)
    assert world.platform.received[-1] == b'{"full":3}'


def test_pings_are_few(world: World) -> None:
    """A stream of messages costs one ping per 64 of them, not one each."""
    world.start()
    world.uplink_at_once(numbered(6400))
    world.pass_time(5)
    assert world.platform.received == numbered(6400)
    assert len(world.peer.pings) <= 6400 / 64 + 5


def test_pings_keep_their_rate_however_much_is_sent(world: World) -> None:
    """Some servers count pings: 200 at once and 1,000 a second are the most; the messages between
    them are acknowledged all the same, only later."""
    world.start()
    count = 64 * 500
    world.uplink_at_once(numbered(count))
    assert len(world.peer.pings) <= 200
    for _ in range(20):
        world.pass_time(0.01)
    assert len(world.peer.pings) <= 200 + 1000 * 0.2 + 1 < count / 64
    world.pass_time(60)
    assert world.platform.received == numbered(count)
    assert world.outbox.counts()["in_flight"] == 0


def test_the_rate_of_telemetry_can_be_limited(make_world: MakeWorld) -> None:
    """outboxMaxRate: so many messages a second and no more, in order; an answer is not held up,
    and no timer is left after the end."""
    world = make_world(window=OutboxSettings(max_rate_per_s=10)).start()
    for payload in numbered(40):
        world.uplink(payload)
    assert world.platform.received == numbered(10)
    world.respond(b'{"answer":1}')
    assert world.platform.received == [*numbered(10), b'{"answer":1}']
    for _ in range(10):
        world.pass_time(0.1)
    assert len(world.platform.received) in (20, 21)
    for _ in range(25):
        world.pass_time(0.1)
    assert world.platform.received == [*numbered(10), b'{"answer":1}', *numbered(30, start=10)]
    world.stop()
    world.pass_time(30)
    assert world.timers == []
