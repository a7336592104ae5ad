"""How long an operation takes to be answered, with one in flight, over the loopback interface.

``python benchmarks/round_trip.py`` prints a table, ``--json`` the same as JSON. The agent's
connector (with a dispatcher that decodes the request and encodes an answer), and a bare Autobahn
client that does the same work in its ``onMessage``, are connected to one server in this process
and take turns in short rounds, so that the ratio holds on a busy machine. The server sends a
GET_DEVICE_PARAMETERS and the next one when the answer is there; the time is taken at the server.

A stall of Nagle's algorithm with delayed acknowledgements would show as round trips of about
40 ms: those above 10 ms are counted.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred, succeed
from zope.interface import implementer

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from oda.codecs import default_registry
from oda.connector.service import ConnectorService
from oda.datastreams.clock import SystemWallClock
from oda.interfaces import ICounters, IDeviceInfoProvider, IDispatcher
from oda.model import ContentType
from oda.outbox.outbox import make_outbox
from oda.settings import ConnectorSettings, OutboxKind, OutboxSettings

#: Longer than this is a stall, in seconds.
STALL_S = 0.010


class Figure(NamedTuple):
    """One line of the table; times are milliseconds."""

    client: str
    round_trips: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    stalls: int
    per_second: float


REQUEST = json.dumps(
    {
        "operation": {
            "request": {
                "id": "4aabb9c6-61ec-43ed-b0e4-dabface44b64",
                "timestamp": 1_700_000_000_123,
                "deviceId": "dev-1",
                "path": [],
                "name": "GET_DEVICE_PARAMETERS",
                "parameters": {"variableList": ["device.temperature.value"]},
            }
        }
    }
).encode()


def answer(payload: bytes) -> bytes:
    """The work both clients do: read the request, write a response."""
    request = msgspec.json.decode(payload)["operation"]["request"]
    step = {
        "name": request["name"],
        "result": "SUCCESSFUL",
        "description": "",
        "response": [
            {"variableName": name, "variableValue": 21.5, "resultCode": "SUCCESS"}
            for name in request["parameters"]["variableList"]
        ],
    }
    response = {
        "id": request["id"],
        "deviceId": request["deviceId"],
        "path": [],
        "name": request["name"],
        "resultCode": "SUCCESSFUL",
        "resultDescription": "No Error.",
        "steps": [step],
    }
    return msgspec.json.encode({"version": "9.0", "operation": {"response": response}})


@implementer(IDispatcher)
class Answering:
    """The dispatcher of the agent's connector."""

    def process(self, payload: bytes, content_type: ContentType | None) -> Deferred[bytes | None]:
        return succeed(answer(payload))


@implementer(ICounters)
class NoCounters:
    """Counts nothing: a counter's cost is measured elsewhere."""

    def increment(self, name: str, amount: int = 1, **labels: str) -> None:
        """Nothing."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Nothing."""


@implementer(IDeviceInfoProvider)
class Device:
    """A device called ``agent``."""

    def device_id(self) -> str:
        return "agent"

    def api_key(self) -> str:
        return "benchmark"

    def serial_number(self) -> str:
        return "1"

    def software(self) -> list[dict[str, str]]:
        return []


class Bare(WebSocketClientProtocol):  # type: ignore[misc]
    """The client an Autobahn programmer would write; without Nagle's delay, to be fair."""

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        super().connectionMade()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(answer(payload), isBinary=True)


class Server(WebSocketServerProtocol):  # type: ignore[misc]
    """Sends a request, waits for its answer, sends the next."""

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        super().connectionMade()

    def onConnect(self, request: Any) -> None:
        self._name = request.path.rpartition("/")[2]
        self._left = 0
        self._times: list[float] = []
        self._done: Deferred[list[float]] | None = None

    def onOpen(self) -> None:
        self.factory.opened(self._name, self)

    def measure(self, count: int) -> Deferred[list[float]]:
        """Fires with the seconds of ``count`` round trips."""
        self._left, self._times, self._done = count, [], Deferred()
        self._ask()
        return self._done

    def _ask(self) -> None:
        self._sent_s = time.perf_counter()
        self.sendMessage(REQUEST)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self._times.append(time.perf_counter() - self._sent_s)
        self._left -= 1
        if self._left:
            self._ask()
        elif self._done is not None:
            self._done.callback(self._times)


class ServerFactory(WebSocketServerFactory):  # type: ignore[misc]
    """``both`` fires with the two connections by their names."""

    protocol = Server

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor=reactor)
        self.both: Deferred[dict[str, Server]] = Deferred()
        self._connections: dict[str, Server] = {}

    def opened(self, name: str, connection: Server) -> None:
        self._connections[name] = connection
        if len(self._connections) == 2:
            self.both.callback(self._connections)


@inlineCallbacks
def run(reactor: Any, rounds: int, per_round: int) -> Any:
    """Connect both, let them take turns, and return the seconds of each."""
    factory = ServerFactory(reactor)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    number = port.getHost().port
    settings = ConnectorSettings(host="127.0.0.1", port=number, path="/s")
    window = OutboxSettings(kind=OutboxKind.MEMORY)
    counters = NoCounters()
    outbox = make_outbox(window, reactor, SystemWallClock(), counters)
    outbox.open()
    service = ConnectorService(
        settings,
        window,
        outbox,
        Device(),
        Answering(),
        default_registry(),
        counters,
        reactor,
        random.random,
        os.urandom,
    )
    service.startService()
    bare = WebSocketClientFactory(f"ws://127.0.0.1:{number}/s/bare", reactor=reactor)
    bare.protocol = Bare
    bare_connector = reactor.connectTCP("127.0.0.1", number, bare)
    connections: dict[str, Server] = yield factory.both
    times: dict[str, list[float]] = {"agent": [], "bare": []}
    gc.collect()
    for index in range(rounds + 1):
        for name in ("agent", "bare") if index % 2 else ("bare", "agent"):
            measured = yield connections[name].measure(per_round)
            if index:  # the first round warms up
                times[name].append(measured)
    yield service.stopService()
    bare_connector.disconnect()
    yield maybeDeferred(port.stopListening)
    return times


def figure(client: str, rounds: list[list[float]]) -> Figure:
    seconds = sorted(value for measured in rounds for value in measured)
    cut = statistics.quantiles(seconds, n=100)
    return Figure(
        client,
        len(seconds),
        cut[49] * 1000,
        cut[98] * 1000,
        seconds[-1] * 1000,
        sum(value > STALL_S for value in seconds),
        len(seconds) / sum(seconds),
    )


def ratio(times: dict[str, list[list[float]]], of: Callable[[list[float]], float]) -> float:
    """The median over the rounds of agent divided by bare."""
    return statistics.median(
        of(ours) / of(theirs) for ours, theirs in zip(times["agent"], times["bare"], strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Round trip of an operation, one in flight")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--per-round", type=int, default=500, help="round trips in a round")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()

    from twisted.internet import reactor

    outcome: list[Any] = []
    running = run(reactor, options.rounds, options.per_round)
    running.addBoth(outcome.append)
    running.addCallback(lambda _: reactor.stop())  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]
    if not isinstance(outcome[0], dict):
        outcome[0].raiseException()
    times: dict[str, list[list[float]]] = outcome[0]
    figures = [figure(name, times[name]) for name in ("agent", "bare")]
    ratio_p50 = ratio(times, statistics.median)
    ratio_p99 = ratio(times, lambda seconds: statistics.quantiles(seconds, n=100)[98])
    if options.json:
        result = {
            "figures": [each._asdict() for each in figures],
            "ratio_p50": ratio_p50,
            "ratio_p99": ratio_p99,
        }
        print(json.dumps(result, indent=1))
        return
    print(
        f"{'client':<8} {'trips':>7} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8} {'>10 ms':>7} per s"
    )
    for each in figures:
        print(
            f"{each.client:<8} {each.round_trips:>7} {each.p50_ms:>8.3f} {each.p99_ms:>8.3f} "
            f"{each.max_ms:>8.3f} {each.stalls:>7} {each.per_second:>5.0f}"
        )
    print(f"agent / bare: p50 {ratio_p50:.2f}, p99 {ratio_p99:.2f} (medians over the rounds)")


if __name__ == "__main__":
    main()
