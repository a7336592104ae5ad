"""The platform killed after its pong, and before it kept what the pong acknowledged."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

from oda.platform.faults import Fault, PongMode
from tests.chaos.report import Report
from tests.chaos.world import DEVICE, World

#: The application never gets what the WebSocket layer has read and acknowledged meanwhile.
_READS_NOTHING = Fault(pong=PongMode.EARLY, pong_delay_s=3600)


def run(seed: int, count: int, directory: Path) -> Report:
    """With linger nothing may be lost, ``count`` times; without it something must be: otherwise
    this proves nothing."""
    report = Report("pongs", seed, count)
    lost, _ = lose_tails(seed, count, directory / "linger", linger_s=10.0, report=report)
    report.problems += lost
    lost, arrived = lose_tails(seed, 1, directory / "no-linger", linger_s=0.0)
    report.figures["lost without linger"] = len(lost)
    report.require(bool(lost), "without linger nothing was lost: this run proves nothing")
    report.require(arrived > 0, "without linger nothing arrived")
    return report


def lose_tails(
    seed: int, count: int, directory: Path, linger_s: float, report: Report | None = None
) -> tuple[list[str], int]:
    """Kill the platform ``count`` times while it has acknowledged what it has not read; what is
    missing in the end, and how much arrived."""
    random = Random(seed)
    world = World(directory, {"ackLinger": linger_s})
    try:
        with world.start_agent() as agent:
            world.load.start()
            for _ in range(count):
                world.platform.wait_for_device(DEVICE, 30)
                time.sleep(random.random())
                world.platform.set_fault(_READS_NOTHING)
                _wait_for_acknowledgements(world, 50)
                world.read_record()
                world.platform.kill()
                time.sleep(random.random() * 0.5)
                world.platform.start()
            world.platform.wait_for_device(DEVICE, 30)
            world.load.stop()
            if report is not None:
                world.conclude(report, linger_s)
                missing: list[str] = []
            else:
                _wait_until_empty(world)
                missing = world.wait_for_delivery(timeout_s=1)
            agent.stop()
            return missing, world.ledger.datapoints
    finally:
        world.close()


def _wait_for_acknowledgements(world: World, count: int, timeout_s: float = 30.0) -> None:
    """Until so many more messages are acknowledged."""
    goal = world.status()["messages"]["acknowledged"] + count
    deadline_s = time.monotonic() + timeout_s
    while world.status()["messages"]["acknowledged"] < goal:
        assert time.monotonic() < deadline_s, "the platform acknowledges nothing"
        time.sleep(0.02)


def _wait_until_empty(world: World, timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while any(world.status()["outbox"][state] for state in ("waiting", "in_flight")):
        assert time.monotonic() < deadline_s, "the outbox is not emptied"
        time.sleep(0.05)
