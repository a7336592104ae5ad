"""The keepalive, the pong's time limit, and platforms that answer pings in their own way."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

import oda.connector
from tests.wire.world import World, connector_settings

MakeWorld = Callable[..., World]


def idle_world(make_world: MakeWorld, **settings: float) -> World:
    return make_world(settings=connector_settings(**settings)).start()


def test_pings_at_the_interval(make_world: MakeWorld) -> None:
    """Beside the probe at the opening, an idle connection sends one ping per
    ``keepAliveInterval``, at its multiples, whatever the answers take."""
    world = idle_world(make_world, keep_alive_interval_s=20.0)
    assert len(world.peer.pings) == 1
    for count in range(2, 7):
        world.pass_time(19.5)
        assert len(world.peer.pings) == count - 1
        world.pass_time(0.5)
        assert len(world.peer.pings) == count


def test_other_traffic_does_not_replace_the_ping(make_world: MakeWorld) -> None:
    """Messages from the platform prove nothing about the way up."""
    world = idle_world(make_world, keep_alive_interval_s=20.0)
    for _ in range(6):
        world.pass_time(10)
        world.peer.sendMessage(b"{}")
    assert len(world.peer.pings) == 4


def test_the_interval_can_change(make_world: MakeWorld) -> None:
    """A new interval holds from its change on, without a new connection."""
    world = idle_world(make_world, keep_alive_interval_s=100.0)
    world.service.reconfigure(connector_settings(keep_alive_interval_s=5.0), reconnect=False)
    world.pass_time(5.0)
    assert len(world.peer.pings) == 2
    assert len(world.platform.peers) == 1


def test_a_dead_connection_is_noticed(make_world: MakeWorld) -> None:
    """When nothing comes back any more the connection is given up one pong limit after the ping,
    without waiting for TCP."""
    world = idle_world(make_world, keep_alive_interval_s=20.0, pong_timeout_s=7.0)
    world.wire.hold()
    world.pass_time(26.9)
    assert world.is_connected
    world.pass_time(0.2)
    assert world.log.has("connection lost", "no pong within 7 s")
    assert world.counters.total("pong_timeouts") == 1
    world.pass_time(1)
    assert world.is_connected
    assert len(world.platform.peers) == 2


def test_progress_extends_the_limit_four_times_at_most(make_world: MakeWorld) -> None:
    """Bytes that keep arriving may delay the verdict, up to four times the limit."""
    world = idle_world(make_world, keep_alive_interval_s=20.0, pong_timeout_s=5.0)
    world.pass_time(19)
    world.wire.hold(down=False)  # the way up is dead, the way down is not
    seconds = 0
    while world.is_connected:
        world.peer.sendMessage(b"{}")
        world.pass_time(1)
        seconds += 1
    assert seconds == 21  # a ping after 1 s, then 4 x 5 s
    assert world.log.has("connection lost", "no pong within 20 s")


def test_no_extension_without_progress(make_world: MakeWorld) -> None:
    """Progress before one limit's end buys one extension, not more."""
    world = idle_world(make_world, keep_alive_interval_s=20.0, pong_timeout_s=5.0)
    world.pass_time(19)
    world.wire.hold(down=False)
    world.pass_time(2)
    world.peer.sendMessage(b"{}")
    world.settle()
    world.pass_time(8.9)  # 1 s to the ping, 10 s of limits
    assert world.is_connected
    world.pass_time(0.2)
    assert world.log.has("no pong within 10 s")


def test_an_emptying_buffer_is_progress(make_world: MakeWorld) -> None:
    """A slow way up on which the send buffer shrinks is not a dead one."""
    world = idle_world(make_world, keep_alive_interval_s=1000.0, pong_timeout_s=5.0)
    world.pass_time(1)
    world.wire.hold(down=False)
    world.uplink(b"x" * 300_000)
    world.pass_time(4)
    world.wire.client.is_held = False
    world.wire.server.is_held = True  # everything is read, no answer yet
    world.settle()
    world.pass_time(4)
    assert world.is_connected
    world.wire.release()
    world.settle()
    assert world.outbox.counts()["in_flight"] == 0


@pytest.mark.parametrize(
    ("pong", "behaviour"),
    [
        (lambda payload: b"", "another payload"),
        (lambda payload: b"pong", "another payload"),
        (lambda payload: payload[:-1], "another payload"),
        (lambda payload: payload + b"\0", "another payload"),
        (lambda payload: payload[::-1], "another payload"),
        (lambda payload: None, "never answers pings"),
    ],
    ids=["empty", "fixed", "cut", "longer", "reversed", "none"],
)
def test_platforms_without_usable_pongs(
    make_world: MakeWorld, pong: Callable[[bytes], bytes | None], behaviour: str
) -> None:
    """With a platform that never gives a usable pong messages still flow, are retired, and the
    connection is not dropped again and again; the log says once what can't be promised."""
    world = make_world()
    world.platform.pong = pong
    world.start()
    world.pass_time(100)
    assert world.is_connected
    connections = len(world.platform.peers)
    assert connections <= 2
    sent = [b'{"n":%d}' % number for number in range(1000)]
    for payload in sent:
        world.uplink(payload)
    world.pass_time(60)
    assert world.platform.received == sent
    assert world.outbox.counts()["in_flight"] == world.outbox.counts()["waiting"] == 0
    world.pass_time(2000)
    assert len(world.platform.peers) == connections
    assert world.log.count(behaviour) == 1


def test_a_busy_platform_without_pongs(make_world: MakeWorld) -> None:
    """Traffic from a platform that never pongs doesn't delay what counts as sent."""
    world = make_world()
    world.platform.pong = lambda payload: None
    world.start()
    world.pass_time(100)
    world.uplink(b'{"n":1}')
    for _ in range(20):
        world.peer.sendMessage(b"{}")
        world.pass_time(0.1)
    assert world.outbox.counts()["in_flight"] == 0


def test_a_platform_that_pongs_after_all(make_world: MakeWorld) -> None:
    """A usable pong makes the proofs count again, and its later silence a dead connection."""
    world = make_world()
    world.platform.pong = lambda payload: b""
    world.start()
    world.pass_time(70)
    world.platform.pong = lambda payload: payload
    world.pass_time(200)
    assert world.log.has("answers pings", "acknowledged again")
    world.wire.hold()
    world.pass_time(230)
    assert world.log.has("connection lost", "no pong within 30 s")


def test_a_platform_that_pongs_slowly(make_world: MakeWorld) -> None:
    """A platform taken for silent that answers two seconds late is believed when it does."""
    world = make_world()
    world.platform.pong = lambda payload: None
    world.start()
    world.pass_time(62)
    assert world.log.has("never answers pings")
    peer = world.peer

    def answer_late(payload: bytes) -> None:
        world.network.callLater(2.0, peer.sendPong, payload)

    world.platform.pong = answer_late
    world.uplink(b'{"n":1}')
    world.pass_time(10)
    assert world.log.has("acknowledged again")
    world.pass_time(1000)
    assert world.peer is peer


def test_a_blocked_connection_to_a_platform_without_pongs(make_world: MakeWorld) -> None:
    """Without pongs a network that takes nothing for the length of a pong limit is given up; what
    was not proven goes out again."""
    world = make_world(settings=connector_settings(pong_timeout_s=10.0))
    world.platform.pong = lambda payload: b""
    world.start()
    world.pass_time(40)
    world.wire.hold()
    big = b"x" * 100_000
    world.uplink(big)
    world.pass_time(9)
    assert world.is_connected
    assert world.outbox.counts()["in_flight"] == 1
    world.pass_time(3)
    assert world.log.has("connection lost", "taken nothing for 10 s")
    assert world.platform.received == [big]


def test_unsolicited_pongs_hide_nothing(make_world: MakeWorld) -> None:
    """A platform whose heartbeat is unsolicited pongs is still noticed when the way up dies."""
    world = idle_world(make_world, keep_alive_interval_s=20.0, pong_timeout_s=5.0)
    world.peer.sendPong(b"heartbeat")
    world.pass_time(1)
    world.wire.hold(down=False)
    for _ in range(45):
        world.peer.sendPong(b"heartbeat")
        world.pass_time(1)
        if not world.is_connected:
            break
    assert world.log.has("connection lost", "no pong within")
    assert not world.log.has("another payload")


def test_a_proven_platform_is_held_to_its_pongs(make_world: MakeWorld) -> None:
    """The front of a platform may go on to send unsolicited pongs while what is behind it hangs:
    nothing is taken for delivered that no ping of ours has proven."""
    world = idle_world(
        make_world, keep_alive_interval_s=20.0, pong_timeout_s=5.0, reconnect_spread_s=0.0
    )
    world.pass_time(100)
    world.wire.finish()
    world.pass_time(2)
    assert world.is_connected
    world.platform.pong = lambda payload: None
    sent = [b'{"n":%d}' % number for number in range(100)]
    for payload in sent:
        world.uplink(payload)
        if world.is_connected:
            world.peer.sendPong(b"heartbeat")
        world.pass_time(1.5)
    assert not world.log.has("can't acknowledge deliveries")
    assert world.counters.total("messages_delivered") == 0
    counts = world.outbox.counts()
    assert counts["waiting"] + counts["in_flight"] == 100


@pytest.mark.parametrize("has_word", [True, False])
def test_a_load_balancer_that_ends_silent_connections(
    has_word: bool, make_world: MakeWorld
) -> None:
    """The agent learns to ping before it does, whether it says so with FIN or not at all."""
    world = idle_world(make_world, keep_alive_interval_s=180.0)

    def end_the_silent() -> None:
        for wire in world.network.wires:
            silent_s = world.network.seconds() - activity.get(wire, world.network.seconds())
            written = wire.client.bytes_written + wire.server.bytes_written
            if written != written_before.get(wire):
                written_before[wire] = written
                activity[wire] = world.network.seconds()
            elif silent_s >= 60.0:
                (wire.finish if has_word else wire.hold)()

    activity: dict[object, float] = {}
    written_before: dict[object, int] = {}
    for _ in range(1800):
        end_the_silent()
        world.pass_time(1.0)
    connections = len(world.platform.peers)
    assert world.service.status().keep_alive_s < 60.0
    for _ in range(3600):
        end_the_silent()
        world.pass_time(1.0)
    assert len(world.platform.peers) == connections
    assert world.log.count("the agent pings every") == (1 if has_word else 2)


def test_no_module_of_the_connection_looks_at_the_wall_clock() -> None:
    """Keepalive, limits and back-off run on the reactor's clock alone: nothing in the connection
    knows the time of day, so setting it by an hour can't be noticed."""
    package = Path(next(iter(oda.connector.__path__)))
    known: set[str] = set()
    for module in package.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Import):
                known.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                known.add(node.module.partition(".")[0])
    assert known
    assert not known & {"time", "datetime", "calendar"}
