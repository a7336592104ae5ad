"""What the network has taken, and what that says: about the connection, and about its messages."""

from __future__ import annotations

from collections.abc import Callable

from tests.wire.test_slow_links import SlowWorld
from tests.wire.world import World, connector_settings

MakeWorld = Callable[..., World]


def _no_pong(_payload: bytes) -> bytes | None:
    return None


def _steadily(slow: SlowWorld, count: int, pause_s: float) -> list[bytes]:
    """Hand telemetry over, one message after the other; gives the messages."""
    payloads = [b'{"steady":%d,"x":"%s"}' % (n, b"x" * 280) for n in range(count)]
    for one in payloads:
        slow.world.uplink(one)
        slow.world.pass_time(pause_s)
    return payloads


def test_a_platform_that_hangs_behind_a_proxy_is_noticed(make_world: MakeWorld) -> None:
    """Once the network has taken the ping, what it takes after that does not keep the connection
    alive: a proxy takes what is sent to a platform that hangs."""
    slow = SlowWorld(make_world(settings=connector_settings(pong_timeout_s=10.0)), 1e6, 0.1)
    slow.world.start()
    slow.world.pass_time(5.0)
    slow.world.platform.pong = _no_pong
    _steadily(slow, 14, 1.0)
    assert slow.world.log.has("connection lost", "no pong within")


def test_what_waits_for_the_network_is_no_progress(make_world: MakeWorld) -> None:
    """A ping that was written, and that the network does not take, is no progress: the connection
    is given up one limit after it."""
    settings = connector_settings(pong_timeout_s=8.0, keep_alive_interval_s=20.0)
    slow = SlowWorld(make_world(settings=settings), 1e6, 0.1)
    slow.world.start()
    slow.world.pass_time(19.0)
    slow.paths[-1].stall(1e6)
    slow.world.pass_time(1.0 + 8.0 + 0.5)
    assert slow.world.log.has("connection lost", "no pong within 8 s")


def test_a_dead_network_proves_nothing_without_pongs(make_world: MakeWorld) -> None:
    """With a platform that never answers pings, a message counts as delivered once the network has
    taken it. What a dead network has not taken is sent again."""
    slow = SlowWorld(make_world(settings=connector_settings(pong_timeout_s=10.0)), 1e6, 0.1)
    world = slow.world
    world.platform.pong = _no_pong
    world.start()
    world.pass_time(60.0)
    assert world.is_connected
    connections = len(world.platform.peers)
    slow.paths[-1].stall(1e6)
    payloads = _steadily(slow, 200, 1.0)
    assert world.log.has("connection lost", "the network has taken nothing for 10 s")
    assert len(world.platform.peers) == connections + 1
    world.pass_time(30.0)
    assert set(payloads) <= set(world.platform.received)
    assert world.outbox.counts()["in_flight"] == 0


def test_a_burst_on_a_quick_link_does_not_make_it_slow(make_world: MakeWorld) -> None:
    """A window that is still growing says nothing about the link: when the platform hangs, all that
    lingers is sent again."""
    slow = SlowWorld(make_world(settings=connector_settings(pong_timeout_s=10.0)), 1e6, 0.2)
    world = slow.world
    world.start()
    payloads = _steadily(slow, 200, 0.1)
    burst = [b'{"burst":%d,"x":"%s"}' % (n, b"y" * 280) for n in range(100)]
    world.uplink_at_once(burst)
    first = len(world.peer.pings) + 1
    hanging = world.peer
    world.platform.pong = lambda ping: None if ping in hanging.pings[first:] else ping
    world.pass_time(40.0)
    assert len(world.platform.peers) == 2
    # The platform has lost what it had read.
    assert set(payloads + burst) <= set(world.peer.payloads)


def test_a_breach_on_a_slow_link_repeats_all_that_lingers(make_world: MakeWorld) -> None:
    """A proxy that says on an open connection that the platform is gone ends it, although it is the
    agent who closes: all that lingers is sent again."""
    slow = SlowWorld(make_world(), 4000.0, 0.2)
    world = slow.world
    payloads = slow.fill(400)
    world.start()
    world.pass_time(20.0)
    assert world.outbox.counts()["lingering"] > 100
    world.wire.server.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
    world.pass_time(80.0)
    assert len(world.platform.peers) == 2
    assert set(payloads) <= set(world.peer.payloads)


def test_no_limit_of_a_pong_runs_while_the_connection_closes(make_world: MakeWorld) -> None:
    """The closing handshake has its own limit. A pong that comes meanwhile, with other pings
    outstanding, begins no other one."""
    settings = connector_settings(pong_timeout_s=5.0, close_timeout_s=60.0)
    slow = SlowWorld(make_world(settings=settings), 2000.0, 3.0)
    world = slow.world
    slow.fill(400)
    world.start()
    world.pass_time(20.0)
    world.service.reconfigure(settings)
    seconds = 0.0
    while len(world.platform.peers) == 1:
        assert not any("_look_for_pong" in str(call) for call in world.timers), seconds
        world.pass_time(0.1)
        seconds += 0.1
    assert seconds > 1.0  # pongs came meanwhile
