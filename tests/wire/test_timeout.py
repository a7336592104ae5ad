"""``connectionTimeout`` is one limit over name, TCP and upgrade."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.wire.platform import RawPeer, RawPlatform, say
from tests.wire.world import HOST, World, connector_settings

MakeWorld = Callable[..., World]


def start_against(make_world: MakeWorld, platform: Any, **settings: Any) -> World:
    world = make_world(settings=connector_settings(connection_timeout_s=10.0, **settings))
    world.network.platforms = {HOST: platform}
    return world.start()


def assert_given_up_after(world: World, seconds: float, stage: str) -> None:
    """The attempt goes on until just before ``seconds``, and is over just after, with a retry."""
    world.pass_time(seconds - 0.01)
    assert not world.log.has("no connection")
    world.pass_time(0.02)
    assert world.log.has("no connection", "within 10 s", stage)
    assert len(world.timers) == 1  # the wait before the next attempt


def test_a_name_that_is_never_resolved(make_world: MakeWorld) -> None:
    """A resolver that doesn't answer costs one time limit; its late answer changes nothing."""
    world = make_world(settings=connector_settings(host="slow.example", connection_timeout_s=10.0))
    world.network.nameResolver.names["slow.example"] = None
    world.start()
    assert_given_up_after(world, 10, "looking up the name")
    world.network.nameResolver.waiting[0].resolutionComplete()
    assert world.network.connectors == []


def test_a_connection_that_is_never_made(make_world: MakeWorld) -> None:
    """A host that doesn't answer at all costs one time limit, and the TCP attempt is stopped."""
    world = start_against(make_world, None)
    assert_given_up_after(world, 10, "opening the TCP connection")
    assert world.network.connectors[0].state == "disconnected"


def test_an_upgrade_that_is_never_answered(make_world: MakeWorld) -> None:
    """A platform that accepts TCP and stays silent is left after the limit."""
    silent = RawPlatform()
    world = start_against(make_world, silent)
    assert_given_up_after(world, 10, "answer to the upgrade")
    assert silent.peers[0].reason is not None


def test_an_upgrade_that_drips(make_world: MakeWorld) -> None:
    """Progress within the upgrade doesn't extend the limit."""
    world = start_against(make_world, RawPlatform(say(b"HTTP/1.1 101 Switch", and_close=False)))
    for _ in range(9):
        world.pass_time(1)
        world.wire.server.write(b"x")
    assert world.log.count("no connection") == 0
    world.pass_time(1.01)
    assert world.log.has("no connection", "within 10 s")


def test_the_stages_share_one_limit(make_world: MakeWorld) -> None:
    """A slow name, a slow connection and a slow upgrade together get no more than one limit."""
    world = make_world(settings=connector_settings(host="slow.example", connection_timeout_s=10.0))
    world.network.nameResolver.names["slow.example"] = None
    world.network.platforms = {HOST: None}
    world.start()
    world.pass_time(4)
    receiver = world.network.nameResolver.waiting[0]
    world.network.nameResolver.names["slow.example"] = [HOST]
    world.network.nameResolver.resolveHostName(receiver, "slow.example", 9955)
    world.pass_time(4)
    assert world.network.connectors[0].state == "connecting"
    world.network.connectors[0].accept(RawPlatform())
    world.pass_time(1.9)
    assert not world.log.has("no connection")
    world.pass_time(0.2)
    assert world.log.has("no connection", "answer to the upgrade")


@pytest.mark.parametrize("head", [b"HTTP/1.1 101 Switching Protocols\r\n", b""])
def test_an_endless_answer(make_world: MakeWorld, head: bytes) -> None:
    """An answer to the upgrade without an end is cut off before it fills the memory."""

    def flood(peer: RawPeer) -> None:
        assert peer.transport is not None
        peer.transport.write(head)
        for _ in range(100):
            peer.transport.write(b"X-Filler: " + b"x" * 10_000 + b"\r\n")

    platform = RawPlatform(flood)
    world = make_world()
    world.network.default = None
    world.start()
    world.network.connectors[0].accept(platform).server.chunk = 8192
    world.settle()
    assert world.log.has("no connection", "endless")
    assert len(world.network.connectors) == 1


def test_an_open_connection_has_no_limit(make_world: MakeWorld) -> None:
    """Once open, the limit is over."""
    world = make_world(settings=connector_settings(connection_timeout_s=10.0)).start()
    world.pass_time(1000)
    assert world.is_connected
    assert len(world.network.connectors) == 1
