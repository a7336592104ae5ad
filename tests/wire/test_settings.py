"""From when on a changed setting holds: at once, or for the next connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.wire.world import World, connector_settings

MakeWorld = Callable[..., World]


def reload(world: World, **changes: Any) -> None:
    """Settings that need no new connection."""
    world.service.reconfigure(connector_settings(**changes), reconnect=False)


def test_the_limit_of_a_pong_holds_at_once(world: World) -> None:
    """Also for the ping that goes out on a connection that was open before."""
    world.start()
    world.pass_time(1)
    reload(world, keep_alive_interval_s=5.0, pong_timeout_s=3.0)
    world.wire.hold()
    world.pass_time(8.1)
    assert world.log.has("connection lost", "no pong within 3 s")


def test_the_limit_of_the_closing_handshake_holds_at_once(world: World) -> None:
    """A stop waits as long as the settings of that moment say."""
    world.start()
    world.pass_time(1)
    reload(world, close_timeout_s=2.0)
    world.wire.server.is_held = True
    stopped = world.stop()
    world.pass_time(1.9)
    assert not stopped.called
    world.pass_time(0.2)
    assert stopped.called


def test_a_change_of_something_else_does_not_begin_the_interval_anew(world: World) -> None:
    """Reloads that come again and again must not keep the pings from going out."""
    world.service.reconfigure(connector_settings(keep_alive_interval_s=20.0))
    world.start()
    for limit_s in (5.0, 6.0, 7.0):
        world.pass_time(6)
        reload(world, keep_alive_interval_s=20.0, pong_timeout_s=limit_s)
    world.pass_time(2)
    assert len(world.peer.pings) == 2


def test_a_keepalive_that_has_ended_is_not_begun_again(world: World) -> None:
    """A change that comes while the connection closes leaves no ping behind."""
    world.start()
    world.pass_time(1)
    world.wire.server.is_held = True
    stopped = world.stop()
    reload(world, keep_alive_interval_s=0.5)
    world.pass_time(2)
    assert len(world.peer.pings) == 1
    world.pass_time(3.1)
    assert stopped.called
    assert world.timers == []


def test_the_limit_of_a_message_holds_for_the_next_connection(world: World) -> None:
    """What an open connection may receive was set when it began. What the agent may send is
    limited at once: that is checked when it is accepted."""
    world.start()
    reload(world, max_message_size_bytes=1000)
    world.peer.sendMessage(b"x" * 2000, isBinary=True)
    world.settle()
    assert [len(payload) for payload, _ in world.dispatcher.received] == [2000]
    assert world.is_connected
    world.wire.finish()
    world.pass_time(2)
    assert world.is_connected
    world.peer.sendMessage(b"x" * 2000, isBinary=True)
    world.settle()
    assert len(world.dispatcher.received) == 1
    assert world.log.has("connection lost", "1009")


def test_compression_is_offered_from_the_next_connection_on(world: World) -> None:
    """The one that is open goes on as its handshake has agreed."""
    world.start()
    assert "sec-websocket-extensions" not in world.peer.request.headers
    reload(world, compression=True)
    world.pass_time(5)
    assert len(world.platform.peers) == 1
    world.wire.finish()
    world.pass_time(2)
    assert "permessage-deflate" in world.peer.request.headers["sec-websocket-extensions"]


def test_an_attempt_keeps_its_time_limit(world: World) -> None:
    """A change of ``connectionTimeout`` holds for the next attempt: the addresses of one that is
    under way may all take as long as its own limit, and Twisted's is longer than that."""
    world.network.nameResolver.names["two.example"] = ["192.0.2.1", "192.0.2.2"]
    world.network.default = None
    world.service.reconfigure(connector_settings(host="two.example", connection_timeout_s=20.0))
    world.start()
    reload(world, host="two.example", connection_timeout_s=1.0)
    world.pass_time(0.3)
    assert [timeout_s for _, _, _, timeout_s, _ in world.network.tcpClients] == [21.0, 21.0]
    world.network.platforms["192.0.2.2"] = world.platform
    world.pass_time(19.8)
    assert world.log.has("not open within 20 s")
