"""Links of a few hundred bytes a second: progress, no needless cut, and answers in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.wire.network import SlowPath
from tests.wire.world import World, connector_settings

MakeWorld = Callable[..., World]

MESSAGE_BYTES = 300
MINUTES = 10


class SlowWorld:
    """A world whose network is slow from its beginning, with what it has carried."""

    def __init__(self, world: World, rate: float, round_trip_s: float) -> None:
        self.world = world
        self.rate = rate
        self.delay_s = round_trip_s / 2
        self.paths: list[SlowPath] = []
        world.network.on_wire = self._slow_down
        self.arrived_s: dict[bytes, float] = {}
        self.copies = 0
        world.platform.on_message = self._arrived

    def _slow_down(self, wire: Any) -> None:
        path = SlowPath(self.world.network, self.rate, self.delay_s)
        self.paths.append(path)
        wire.client.path = path
        wire.server.path = SlowPath(self.world.network, 1e6, self.delay_s)

    def _arrived(self, _peer: Any, payload: bytes) -> None:
        if payload in self.arrived_s:
            self.copies += 1
        else:
            self.arrived_s[payload] = self.world.network.seconds()

    def fill(self, count: int, size: int = MESSAGE_BYTES) -> list[bytes]:
        """Telemetry that waits before there is a connection."""
        payloads = [b'{"n":%d,"x":"%s"}' % (n, b"x" * (size - 16)) for n in range(count)]
        self.world.uplink_at_once(payloads)
        return payloads

    def run(self, payloads: list[bytes], limit_s: float) -> float:
        """Let time pass until all have arrived; gives how long that took."""
        started_s = self.world.network.seconds()
        while not all(one in self.arrived_s for one in payloads):
            self.world.pass_time(1.0)
            assert self.world.network.seconds() - started_s < limit_s, "too slow"
        return max(self.arrived_s[one] for one in payloads) - started_s


@pytest.mark.parametrize("round_trip_s", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("bits_per_s", [2400, 9600, 16_000, 32_000, 64_000])
def test_a_backlog_on_a_slow_link(
    bits_per_s: int, round_trip_s: float, make_world: MakeWorld
) -> None:
    """A backlog of ten minutes uses at least 80 % of the link, on one connection, without a copy;
    an operation that comes meanwhile is answered within 10 s."""
    rate = bits_per_s / 8
    slow = SlowWorld(make_world(), rate, round_trip_s)
    world = slow.world
    world.dispatcher.answer = lambda payload: b'{"answer":%s}' % payload
    message_bytes = max(200, int(rate / 8))
    payloads = slow.fill(int(rate * 60 * MINUTES / message_bytes), message_bytes)
    world.start()
    asked: dict[bytes, float] = {}
    for _ in range(5):
        world.pass_time(60.0)
        asked[b"%d" % len(asked)] = world.network.seconds()
        world.peer.sendMessage(b"%d" % (len(asked) - 1))
    took_s = 300.0 + slow.run(payloads, 60 * MINUTES * 1.3)
    size = sum(map(len, payloads))
    assert size / (took_s * rate) >= 0.8
    assert len(world.platform.peers) == 1
    assert slow.copies == 0
    answered_s = [slow.arrived_s[b'{"answer":%s}' % one] - at for one, at in asked.items()]
    assert max(answered_s) <= 10.0, answered_s


@pytest.mark.parametrize("round_trip_s", [0.1, 5.0])
@pytest.mark.parametrize("bits_per_s", [2400, 16_000, 64_000])
def test_stalls_shorter_than_the_limit(
    bits_per_s: int, round_trip_s: float, make_world: MakeWorld
) -> None:
    """Where the network carries nothing for 20 s of every 60, the rest is used."""
    rate = bits_per_s / 8
    slow = SlowWorld(make_world(), rate, round_trip_s)
    payloads = slow.fill(int(rate * 300 / MESSAGE_BYTES))
    slow.world.start()
    for _ in range(6):
        slow.world.pass_time(40.0)
        slow.paths[-1].stall(20.0)
        slow.world.pass_time(20.0)
    took_s = 360.0 + slow.run(payloads, 600.0)
    assert len(slow.world.platform.peers) == 1
    assert slow.copies == 0
    assert took_s - 120.0 <= 300.0 / 0.8


def test_a_cut_repeats_one_window_at_most(make_world: MakeWorld) -> None:
    """A link that is dead for longer than the limit: what was proven before stays proven, and what
    is sent twice is no more than the link carries in a few seconds."""
    world = make_world(settings=connector_settings(reconnect_spread_s=0.0))
    slow = SlowWorld(world, 2000.0, 0.1)
    payloads = slow.fill(2000)
    slow.world.start()
    for cut in range(1, 4):
        slow.world.pass_time(50.0)
        slow.paths[-1].stall(1000.0)
        slow.world.pass_time(50.0)
        assert len(slow.world.platform.peers) == cut + 1
        assert slow.world.log.count("connection lost: no pong within") == cut
    slow.run(payloads, 400.0)
    assert slow.copies * MESSAGE_BYTES <= 3 * 2 * 2000.0 * (1.4 * 0.1 + 3.0)


@pytest.mark.parametrize("size", [100_000, 1_500_000])
def test_one_message_that_takes_minutes(size: int, make_world: MakeWorld) -> None:
    """While the network takes bytes of it, it is not cut off, and what is behind it follows."""
    slow = SlowWorld(make_world(), 2000.0, 1.0)
    slow.world.start()
    payloads = slow.fill(1, size) + slow.fill(3)
    slow.run(payloads, size / 2000.0 * 1.25 + 10)
    assert len(slow.world.platform.peers) == 1
    assert slow.copies == 0


def test_a_dead_link_in_the_middle_of_a_message_is_noticed(make_world: MakeWorld) -> None:
    """Dead means: the network has taken nothing for ``pongTimeout``."""
    world = make_world(settings=connector_settings(pong_timeout_s=8.0))
    slow = SlowWorld(world, 2000.0, 0.1)
    world.start()
    slow.fill(1, 1_500_000)
    world.pass_time(100.0)
    assert len(world.platform.peers) == 1
    slow.paths[-1].stall(10_000.0)
    world.pass_time(8.0)  # what was in the queue
    assert world.is_connected
    world.pass_time(11.0)
    assert world.log.has("connection lost", "no pong within")


def test_a_fast_link_is_filled_after_a_slow_time(make_world: MakeWorld) -> None:
    """The window grows with the link: what took seconds takes none any more."""
    slow = SlowWorld(make_world(), 2000.0, 0.2)
    payloads = slow.fill(40)
    slow.world.start()
    slow.run(payloads, 20.0)
    slow.paths[-1].rate = 1e6
    payloads = [b'{"more":%d,"x":"%s"}' % (n, b"y" * 280) for n in range(5000)]
    slow.world.uplink_at_once(payloads)
    # 256 messages for each round trip, and some doublings before.
    assert slow.run(payloads, 30.0) < 0.2 * (5000 / 256 + 12)


def test_pongs_that_come_together_don_t_make_the_link_quick(make_world: MakeWorld) -> None:
    """Where the way down stands still again and again, pongs come several at once. The window
    follows the way up all the same: an operation is answered within 10 s."""
    slow = SlowWorld(make_world(), 1200.0, 0.2)
    world = slow.world
    world.dispatcher.answer = lambda payload: b'{"answer":%s}' % payload
    slow.fill(3000)
    world.start()
    answered_s = []
    for number in range(20):
        way_down = world.wire.server.path
        assert way_down is not None
        way_down.stall(8.0)
        world.pass_time(8.5)
        world.peer.sendMessage(b"%d" % number)
        answered_s.append(slow.run([b'{"answer":%d}' % number], 600.0))
    assert max(answered_s) <= 10.0, answered_s
    assert len(world.platform.peers) == 1
