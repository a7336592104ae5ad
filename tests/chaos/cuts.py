"""Cuts of the network, of every kind, under load."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from tests.chaos.proxy import Cut, Proxy
from tests.chaos.report import Report
from tests.chaos.world import DEVICE, LONG_LIFE_S, World

#: Beside the proxy's kinds: the platform is killed and started again.
PLATFORM_KILLED = "platform killed"
KINDS: tuple[Cut | str, ...] = (*Cut, PLATFORM_KILLED)

#: The agent's time limit for a pong, so that a silent network is noticed soon.
_PONG_TIMEOUT_S = 1
#: A stall is sometimes shorter than that limit, sometimes longer.
_LONGEST_STALL_S = 3.0
#: One in so many connections is longer, so that much has lingered long enough when it is cut.
_LONG_EVERY = 10


def run(seed: int, count: int, directory: Path, fdatasync_ms: float = 0.0) -> Report:
    """Cut ``count`` times, each kind as often as the others, in a random order."""
    report = Report("cuts", seed, count)
    random = Random(seed)
    kinds = [KINDS[number % len(KINDS)] for number in range(count)]
    random.shuffle(kinds)
    world = World(directory, {"pongTimeout": _PONG_TIMEOUT_S}, fdatasync_ms=fdatasync_ms)
    try:
        with Proxy(urlsplit(world.platform.device_url).port or 0) as proxy:
            world.configure(proxy.port)
            with world.start_agent() as agent:
                world.load.start()
                world.platform.wait_for_device(DEVICE, 30)
                for number, kind in enumerate(kinds):
                    is_long = number % _LONG_EVERY == 5
                    time.sleep(LONG_LIFE_S if is_long else random.random())
                    stall_s = random.random() * _LONGEST_STALL_S
                    before = _connections(world)
                    if isinstance(kind, Cut):
                        proxy.cut(kind, stall_s)
                    else:
                        world.platform.kill()
                        world.platform.start()
                    if kind is Cut.STALL:
                        time.sleep(stall_s)
                    else:
                        _wait_for_another(world, before)
                    world.read_record()
                world.load.stop()
                world.conclude(report)
                agent.stop()
    finally:
        world.close()
    return report


def _connections(world: World) -> int:
    opened: int = world.status()["connection"]["opened"]
    return opened


def _wait_for_another(world: World, before: int, timeout_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while _connections(world) <= before or not world.status()["ready"]:
        assert time.monotonic() < deadline_s, "the agent does not connect again"
        time.sleep(0.05)
