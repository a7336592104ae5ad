"""One measured run in a process of its own: the agent, or the bare prototype, doing one thing.

``python benchmarks/subject.py WHO WHAT --port P ...`` connects to a sink on that port, does its
work, and prints one line of JSON: counts, wall seconds, CPU seconds (user and system, from the
first publish until everything was acknowledged), peak resident memory in MiB.

WHO is ``agent`` (the whole agent: journal and outbox durable, synchronous FULL), ``bare`` (see
``benchmarks/bare.py``: Autobahn, msgspec and SQLite in a hundred lines, without bounds, window,
metrics or journal) or ``nobody`` (publishing does nothing: what is left is the benchmark itself).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from oda.garbage import search_rarely
    from oda.startup import import_autobahn

    search_rarely()
    if "agent" in sys.argv:  # as oda.tap does; the prototype needs Autobahn's native code
        import_autobahn()

from benchmarks.measured import Meter, resident_mib
from oda.agent import Agent
from oda.datastreams.clock import SystemWallClock
from oda.garbage import relax_garbage_collection
from oda.interfaces import IDatastreamGetter, IDatastreamSetter, IOperation
from oda.model import Event, MessageClass, OperationResult, OutgoingMessage, Reading
from oda.monitor.counters import Counters
from oda.outbox.outbox import make_outbox
from oda.outbox.worker import InlineWorker
from oda.settings import (
    AgentSettings,
    ConnectorSettings,
    DeviceInfoSettings,
    DispatcherSettings,
    OutboxKind,
    OutboxSettings,
    Secret,
)


@implementer(IDatastreamGetter, IDatastreamSetter)
class Q:
    """The datastream that operations read and write."""

    datastream_id = "q"
    value = 17

    def devices(self) -> tuple[str, ...]:
        return ("",)

    def get(self, device_id: str) -> Reading:
        return Reading(self.value)

    def set(self, device_id: str, value: Any) -> None:
        self.value = value


@implementer(IOperation)
class Custom:
    """A custom operation that acts."""

    name = "CUSTOM"
    reads_only = False

    def execute(self, request: Any, progress: Any) -> OperationResult:
        return OperationResult(description="done")


def settings(port: int, directory: str, rows: int = 1_000_000) -> AgentSettings:
    """The agent's defaults, with its store in ``directory`` and room in it for ``rows``."""
    max_bytes = max(1 << 30, rows * 512)
    return AgentSettings(
        connector=ConnectorSettings(host="127.0.0.1", port=port, path="/south/v80/sessions"),
        device_info=DeviceInfoSettings(device_id="dev-1", api_key=Secret("k")),
        dispatcher=DispatcherSettings(max_concurrent_operations=1000),
        outbox=OutboxSettings(
            path=Path(directory) / "outbox.sqlite", max_bytes=max_bytes, max_rows=rows
        ),
    )


class Subject:
    """The agent (or the prototype, which has the same three methods)."""

    def __init__(self, reactor: Any, target: Any, delivered: Callable[[], bool]) -> None:
        self.reactor = reactor
        self.publish = target.publish
        self.delivered = delivered

    def when(self, condition: Callable[[], bool], then: Callable[[], None]) -> None:
        """Call ``then`` as soon as the condition holds (looked at every millisecond)."""

        def look() -> None:
            if condition():
                then()
            else:
                self.reactor.callLater(0.001, look)

        look()


class Nobody:
    """Takes everything and does nothing with it."""

    def publish(self, events: object) -> Deferred[None]:
        """Fires at once."""
        return succeed(None)


def burst(subject: Subject, count: int, size: int, done: Callable[[], None]) -> None:
    """Publish ``count`` datapoints in a tight loop, ``size`` a call, 5,000 in a reactor turn.

    Acceptance is cumulative, so only the last call of each turn is listened to; the next turn goes
    on when at most 25,000 datapoints are not accepted yet.
    """
    meter = Meter()
    state = {"left": count, "open": 0, "running": False}

    def accepted(_: object, datapoints: int) -> None:
        state["open"] -= datapoints
        if state["left"] > 0:
            go_soon()
        elif state["open"] == 0:
            subject.when(subject.delivered, finish)

    def go_soon() -> None:
        if not state["running"] and state["open"] <= 25_000:
            state["running"] = True
            subject.reactor.callLater(0, go)

    def go() -> None:
        state["running"] = False
        publish = subject.publish
        start = 1_700_000_000_000 + count - state["left"]
        calls = min(5000, state["left"]) // size
        if size == 1:
            for at_ms in range(start, start + calls):
                last = publish(Event("t", at_ms & 1023, "", at_ms))
        else:
            for first in range(start, start + calls * size, size):
                last = publish([Event("t", n & 1023, "", n) for n in range(first, first + size)])
        state["left"] -= calls * size
        state["open"] += calls * size
        last.addCallback(accepted, calls * size)
        if state["left"] > 0:
            go_soon()

    def finish() -> None:
        meter.report(datapoints=count)
        done()

    meter.start()
    go()


def messages(subject: Subject, count: int, done: Callable[[], None]) -> None:
    """One datapoint per message: each datapoint is of another device than its neighbours, 256
    devices in turn, so that none can share a document; 256 are not yet accepted."""
    meter = Meter()
    devices = [f"child-{number}" for number in range(256)]
    state = {"left": count, "open": 0, "running": False}

    def accepted(_: object) -> None:
        state["open"] -= 1
        if not state["running"]:
            state["running"] = True
            subject.reactor.callLater(0, go)

    def go() -> None:
        state["running"] = False
        publish = subject.publish
        while state["left"] > 0 and state["open"] < 256:
            left = state["left"] = state["left"] - 1
            state["open"] += 1
            event = Event("t", left, devices[left & 255], 1_700_000_000_000 + left)
            publish(event).addCallback(accepted)
        if state["left"] == 0 and state["open"] == 0:
            subject.when(subject.delivered, finish)

    def finish() -> None:
        meter.report(datapoints=count)
        done()

    meter.start()
    go()


def paced(subject: Subject, rate: int, seconds: float, done: Callable[[], None]) -> None:
    """Single datapoints at a steady rate, one reactor turn each."""
    meter = Meter()
    latencies: list[float] = []
    state = {"sent": 0}
    total = int(rate * seconds)
    clock = time.perf_counter

    def accepted(_: object, begun: float) -> None:
        latencies.append(clock() - begun)

    def tick() -> None:
        begun = clock()
        due = min(total, int((begun - started) * rate) + 1)
        while state["sent"] < due:
            state["sent"] += 1
            event = Event("t", state["sent"], "", 1_700_000_000_000)
            subject.publish(event).addCallback(accepted, begun)
        if due < total:
            later(max(0.0, started + due / rate - clock()), tick)
        else:
            subject.when(lambda: len(latencies) >= total and subject.delivered(), finish)

    def finish() -> None:
        latencies.sort()
        meter.report(
            datapoints=total,
            accepted_p50_ms=latencies[len(latencies) // 2] * 1000,
            accepted_p99_ms=latencies[len(latencies) * 99 // 100] * 1000,
        )
        done()

    later = subject.reactor.callLater
    meter.start()
    started = clock()
    tick()


def serve(subject: Subject, done: Callable[[], None]) -> None:
    """Answer operations until standard input says that they are over."""
    meter = Meter()
    meter.start()

    def finish() -> None:
        meter.report()
        done()

    subject.reactor.callInThread(
        lambda: (sys.stdin.readline(), subject.reactor.callFromThread(finish))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("who", choices=["agent", "bare", "nobody"])
    parser.add_argument(
        "what", choices=["burst", "messages", "paced", "serve", "idle", "drain", "many"]
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=1)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    from twisted.internet import reactor

    relax_garbage_collection()  # as the agent's own process does; the prototype gets it, too
    directory = tempfile.TemporaryDirectory(prefix="oda-benchmark-")
    if options.what == "many":
        _many(reactor, options.port, options.count, options.seconds)
        return
    if options.what == "drain":
        _prefill(reactor, directory.name, options.count)
    if options.who == "agent":
        rows = max(1_000_000, options.count)
        subject, connected = _agent(reactor, options.port, directory.name, rows)
    elif options.who == "nobody":
        subject, connected = Subject(reactor, Nobody(), lambda: True), lambda: True
    else:
        from benchmarks.bare import BareAgent

        bare = BareAgent(reactor, options.port, directory.name)
        subject = Subject(reactor, bare, bare.delivered)
        connected = lambda: bare.is_connected  # noqa: E731

    def stop() -> None:
        reactor.stop()

    runs: dict[str, Callable[[], None]] = {
        "burst": lambda: burst(subject, options.count, options.size, stop),
        "messages": lambda: messages(subject, options.count, stop),
        "paced": lambda: paced(subject, options.rate, options.seconds, stop),
        "serve": lambda: serve(subject, stop),
        "drain": lambda: _drained(subject, options.count, stop),
        "idle": lambda: _idle(subject, options.seconds, stop),
    }
    reactor.callWhenRunning(lambda: subject.when(connected, runs[options.what]))
    reactor.run()
    directory.cleanup()


def _prefill(reactor: Any, directory: str, rows: int) -> None:
    """Fill the store with rows as an agent without a connection would, in a process of its own so
    that its memory does not count."""
    code = f"from benchmarks.subject import fill; fill({directory!r}, {rows})"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=True)


def fill(directory: str, rows: int) -> None:
    """Put ``rows`` messages of one datapoint into the store in ``directory``."""
    from twisted.internet import reactor

    outbox = make_outbox(
        settings(0, directory, rows).outbox, reactor, SystemWallClock(), Counters(), InlineWorker()
    )
    payload = (
        b'{"version":"9.0","device":"dev-1","datastreams":[{"id":"t","datapoints":'
        b'[{"at":1700000000000,"value":21.5}]}]}'
    )
    message = OutgoingMessage(payload, MessageClass.TELEMETRY, datapoints=1)
    state = {"left": rows}

    def more() -> None:
        for _ in range(min(10_000, state["left"])):
            outbox.put(message)
        state["left"] -= 10_000
        if state["left"] > 0:
            reactor.callLater(0, more)
        else:
            reactor.callLater(0, lambda: outbox.close().addCallback(lambda _: reactor.stop()))

    outbox.open()
    reactor.callWhenRunning(more)
    reactor.run()


def _drained(subject: Subject, rows: int, done: Callable[[], None]) -> None:
    meter = Meter()
    meter.start()

    def finish() -> None:
        meter.report(rows=rows)
        done()

    subject.when(subject.delivered, finish)


def _many(reactor: Any, port: int, count: int, seconds: float) -> None:
    """``count`` agents in this process, each with its own connection, at rest."""
    base = settings(port, "")
    agents = [
        Agent(
            msgspec.structs.replace(
                base,
                outbox=OutboxSettings(kind=OutboxKind.MEMORY),
                device_info=DeviceInfoSettings(device_id=f"dev-{number}", api_key=Secret("k")),
            ),
            reactor=reactor,
        )
        for number in range(count)
    ]
    for agent in agents:
        agent.startService()
        reactor.addSystemEventTrigger("before", "shutdown", agent.stopService)
    subject = Subject(reactor, agents[0], lambda: True)
    reactor.callWhenRunning(
        lambda: subject.when(
            lambda: all(agent.is_connected for agent in agents),
            lambda: _idle(subject, seconds, reactor.stop),
        )
    )
    reactor.run()


def _idle(subject: Subject, seconds: float, done: Callable[[], None]) -> None:
    meter = Meter()

    def begin() -> None:
        meter.start()
        subject.reactor.callLater(seconds, finish)

    def finish() -> None:
        meter.report(resident_mib=resident_mib())
        done()

    subject.reactor.callLater(1.0, begin)


def _agent(
    reactor: Any, port: int, directory: str, rows: int
) -> tuple[Subject, Callable[[], bool]]:
    agent = Agent(settings(port, directory, rows), [Q(), Custom()], reactor=reactor)

    def delivered() -> bool:
        counts = agent.parts.outbox.counts()
        return counts["waiting"] == 0 and counts["in_flight"] == 0

    agent.startService()
    reactor.addSystemEventTrigger("before", "shutdown", agent.stopService)
    return Subject(reactor, agent, delivered), lambda: agent.is_connected


if __name__ == "__main__":
    main()
