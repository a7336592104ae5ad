"""A thousand datastreams read every second: are periods missed, and what does a reading cost?

``python benchmarks/poller.py`` prints a table, ``--json`` the same as JSON. In one run, on the real
reactor, three things take turns for ``--seconds`` each, so that the ratios hold on a busy machine:

- *one loop*: a bare LoopingCall that calls a thousand functions, the floor of any poller;
- *a loop each*: a thousand bare LoopingCalls with one function each, the obvious way in Twisted;
- *the poller*: schedules, registry, getters, state manager, event dispatcher, grouping, JSON; a
  connector that accepts at once. So its figure is that of a published datapoint, not of a call.

The exit status is 1 when the poller missed a period.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.task import LoopingCall, deferLater
from zope.interface import implementer

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from oda.codecs import JsonCodec, check_value
from oda.datastreams.reading import DatastreamAccess
from oda.datastreams.registry import DatastreamRegistry
from oda.interfaces import IConnector, ICounters, IDatastreamGetter, IWallClock
from oda.model import ContentType, Reading
from oda.settings import Schedule
from oda.telemetry.dispatcher import EventDispatcher
from oda.telemetry.poller import Poller
from oda.telemetry.realtime import RealtimeStateManager

reactor: Any = installed_reactor


class Figure(NamedTuple):
    """One line of the table. ``missed`` counts readings that should have been and were not."""

    name: str
    readings: int
    missed: int
    cpu_us_per_reading: float
    ratio_to_one_loop: float


class Sensor:
    """Something to read; ``calls`` counts."""

    def __init__(self) -> None:
        self.calls = 0

    def read(self) -> float:
        self.calls += 1
        return 20.0 + self.calls


@implementer(IDatastreamGetter)
class SensorGetter:
    """Reads a ``Sensor`` of the host."""

    def __init__(self, number: int, sensor: Sensor) -> None:
        self.datastream_id = f"sensor.{number}"
        self._sensor = sensor

    def devices(self) -> tuple[str, ...]:
        return ("",)

    def get(self, device_id: str) -> Reading:
        return Reading(self._sensor.read())


@implementer(IWallClock)
class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


@implementer(ICounters)
class Counters:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def increment(self, name: str, amount: int = 1, **labels: str) -> None:
        self.counts[name] += amount

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Nothing here is measured by observation."""


@implementer(IConnector)
class AcceptingConnector:
    """Accepts at once and keeps nothing; counts what came."""

    is_connected = True

    def __init__(self) -> None:
        self.datapoints = 0

    def uplink(
        self,
        payload: bytes,
        content_type: ContentType,
        datapoints: int = 0,
        fresh_payload: bytes | None = None,
    ) -> Deferred[int]:
        self.datapoints += datapoints
        return succeed(1)

    def uplink_response(self, payload: bytes, content_type: ContentType) -> Deferred[int]:
        return succeed(1)

    def uplink_no_qos(self, payload: bytes, content_type: ContentType) -> None:
        """Nothing is sent without guarantee here."""


class Contender(NamedTuple):
    """What takes its turn: ``start`` begins it and returns what ends it; ``missed`` tells then how
    many readings are missing."""

    name: str
    start: Callable[[], Callable[[], None]]
    sensors: list[Sensor]
    missed: Callable[[], int]


def one_loop(number: int) -> Contender:
    sensors = [Sensor() for _ in range(number)]
    reads = [sensor.read for sensor in sensors]

    def tick() -> None:
        for read in reads:
            read()

    def start() -> Callable[[], None]:
        loop = LoopingCall(tick)
        loop.start(1.0, now=False)
        return loop.stop

    return Contender("one loop", start, sensors, lambda: 0)


def a_loop_each(number: int) -> Contender:
    sensors = [Sensor() for _ in range(number)]

    def start() -> Callable[[], None]:
        loops = [LoopingCall(sensor.read) for sensor in sensors]
        for loop in loops:
            loop.start(1.0, now=False)

        def stop() -> None:
            for loop in loops:
                loop.stop()

        return stop

    return Contender("a loop each", start, sensors, lambda: 0)


def the_poller(number: int) -> Contender:
    sensors = [Sensor() for _ in range(number)]
    registry = DatastreamRegistry("dev-1")
    for index, sensor in enumerate(sensors):
        registry.add_getter(SensorGetter(index, sensor))
    counters, connector, clock = Counters(), AcceptingConnector(), SystemClock()
    dispatcher = EventDispatcher(
        reactor, connector, JsonCodec(), check_value, clock, counters, host_id="dev-1"
    )
    manager = RealtimeStateManager(DatastreamAccess(registry, clock, reactor), dispatcher, reactor)
    lines = [
        Schedule(datastream_id=f"sensor.{index}", first_s=1.0, period_s=1.0)
        for index in range(number)
    ]

    def start() -> Callable[[], None]:
        poller = Poller(reactor, manager, counters, lines)
        poller.start()

        def stop() -> None:
            poller.stop()
            dispatcher.flush_all()

        return stop

    def missed() -> int:
        unpublished = sum(sensor.calls for sensor in sensors) - connector.datapoints
        return counters.counts["polls_missed"] + counters.counts["readings_failed"] + unpublished

    return Contender("the poller", start, sensors, missed)


@inlineCallbacks
def measure(contender: Contender, seconds: int) -> Iterator[Any]:
    """CPU seconds of ``seconds`` ticks."""
    before = time.process_time()
    stop = contender.start()
    # Half a period more, so that the last tick has happened and the next has not.
    yield deferLater(reactor, seconds + 0.5, lambda: None)
    stop()
    return time.process_time() - before


@inlineCallbacks
def run(number: int, seconds: int, rounds: int) -> Iterator[Any]:
    """The figures of all contenders, the best of their rounds."""
    contenders = [one_loop(number), a_loop_each(number), the_poller(number)]
    cpu: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            cpu[contender.name].append((yield measure(contender, seconds)))
    figures = []
    floor_us = min(cpu["one loop"]) / (number * seconds) * 1e6
    for contender in contenders:
        readings = sum(sensor.calls for sensor in contender.sensors)
        cost_us = min(cpu[contender.name]) / (number * seconds) * 1e6
        figures.append(
            Figure(
                contender.name,
                readings,
                number * seconds * rounds - readings + contender.missed(),
                round(cost_us, 3),
                round(cost_us / floor_us, 2),
            )
        )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--datastreams", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=10, help="of each turn")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each contender")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    # Intervals run on the monotonic clock, as in the agent.
    reactor.seconds = time.monotonic
    outcome: list[Any] = []

    def begin() -> None:
        running = run(options.datastreams, options.seconds, options.rounds)
        running.addBoth(outcome.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    (figures,) = outcome
    if not isinstance(figures, list):
        figures.raiseException()
    if options.json:
        print(json.dumps([figure._asdict() for figure in figures], indent=2))
    else:
        print(f"{options.datastreams} datastreams, period 1 s, {options.seconds} s, CPU time")
        print(f"{'':14}{'readings':>10}{'missed':>8}{'us/reading':>12}{'x one loop':>12}")
        for figure in figures:
            print(
                f"{figure.name:14}{figure.readings:>10}{figure.missed:>8}"
                f"{figure.cpu_us_per_reading:>12.3f}{figure.ratio_to_one_loop:>12.2f}"
            )
    sys.exit(1 if figures[-1].missed else 0)


if __name__ == "__main__":
    main()
