"""Platforms that behave badly for as long as they live."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

from oda.commands.running_agent import connect_to_agent
from oda.control.wire import Publish
from oda.model import Event
from oda.platform.faults import Fault, PongMode
from tests.chaos.report import Report
from tests.chaos.world import DEVICE, World

#: How each of them behaves.
PLATFORMS = {
    "answers only the newest ping": Fault(pong=PongMode.COALESCE, pong_delay_s=0.3),
    "empty pong": Fault(pong=PongMode.EMPTY),
    "another pong": Fault(pong=PongMode.WRONG),
    "no pong": Fault(pong=PongMode.DROP),
    "terminates after 60 pings": Fault(terminate_after_pings=60),
    "pongs before reading": Fault(pong=PongMode.EARLY, pong_delay_s=0.3),
    "pongs late": Fault(pong=PongMode.LATE, pong_delay_s=0.7),
    "pongs too late": Fault(pong=PongMode.LATE, pong_delay_s=2.5),
    "closes 1009 on some messages": Fault(close_above_bytes=100_000),
    "closes after every 100 messages": Fault(close=1000, after_messages=100),
    "closes after every 100 messages with 1011": Fault(close=1011, after_messages=100),
    "resets after every 1000 messages": Fault(reset=True, after_messages=1000),
    "reads slowly": Fault(slow_bytes_per_s=20_000),
}
#: The only one that refuses messages: those are set aside, all others arrive.
_REFUSES = "closes 1009 on some messages"
_REFUSED = 2


def run(seed: int, count: int, directory: Path) -> Report:
    """Each platform for ``count`` seconds of load, and until everything is delivered or, where that
    can't be, until it behaves again."""
    report = Report("misbehaviour", seed, count)
    for number, name in enumerate(PLATFORMS):
        one = run_one(name, seed + number, count, directory / str(number))
        report.figures[name] = one.figures["connections"]
        report.problems += [f"{name}: {problem}" for problem in one.problems]
    return report


def run_one(name: str, seed: int, load_s: float, directory: Path) -> Report:
    """One platform, with connections lost now and then besides."""
    report = Report(name, seed, 1)
    random = Random(seed)
    fault = PLATFORMS[name]
    world = World(directory, {"pongTimeout": 1, "ackLinger": 2})
    try:
        with world.start_agent() as agent:
            world.platform.wait_for_device(DEVICE, 30)
            world.platform.set_fault(fault)
            begun_s = time.monotonic()
            world.load.start()
            refused = 0
            while time.monotonic() - begun_s < load_s:
                time.sleep(random.random())
                if name == _REFUSES and refused < _REFUSED:
                    refused += 1
                    _send_too_much(world)
                world.read_record()
            world.load.stop()
            missing = world.wait_for_delivery(timeout_s=4)
            report.figures["missing before it behaved again"] = len(missing)
            elapsed_s = time.monotonic() - begun_s
            connections = len(world.platform.connections(DEVICE))
            dead = world.status()["outbox"]["dead"]
            report.require(dead == refused, f"{dead} dead letters, {refused} were refused")
            world.platform.clear_fault()
            world.wait_until_ready()
            world.conclude(report, linger_s=2.0)
            # It connects again at most about twice a second (the longest pause is one).
            report.require(
                connections <= 5 + 3 * elapsed_s,
                f"{connections} connections in {elapsed_s:.0f} s",
            )
            agent.stop()
    finally:
        world.close()
    return report


def _send_too_much(world: World) -> None:
    """A message that is too long for this platform, between others that are not."""
    event = Event("too.much", "x" * 200_000, device_id="another")
    with connect_to_agent(world.configuration, timeout_s=10) as client:
        client.send(Publish(event))
        client.finish()
        assert next(client.answers()) == {"ok": 1}
