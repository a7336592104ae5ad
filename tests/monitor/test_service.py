"""The monitor's port and what it answers."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import capturedLogs, formatEvent

from oda.model import LinkState
from oda.monitor.counters import Counters
from oda.monitor.latency import ReactorLatency
from oda.monitor.service import LISTEN_AGAIN_S, MonitorService
from oda.monitor.snapshot import Snapshot
from oda.settings import MonitorSettings
from oda.troubles import Trouble, TroubleKind
from tests.monitor.snapshots import NOW_MS, SNAPSHOT, connection, snapshot


class World:
    """A monitor with a reactor in memory; ``shown`` is how the agent is."""

    def __init__(self, settings: MonitorSettings = MonitorSettings(port=9109)) -> None:  # noqa: B008
        self.reactor = MemoryReactorClock()
        self.shown: Snapshot = SNAPSHOT
        self.counters = Counters()
        self.service = MonitorService(
            settings,
            self.counters,
            lambda: self.shown,
            ReactorLatency(self.reactor, self.counters),
            self.reactor,
        )

    def get(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        site = self.reactor.tcpServers[-1][1]
        protocol = site.buildProtocol(None)
        transport = StringTransport()
        transport.abortConnection = transport.loseConnection  # type: ignore[attr-defined]
        protocol.makeConnection(transport)
        protocol.dataReceived(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        head, _, body = transport.value().partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        return int(lines[0].split()[1]), headers.get("content-type", ""), body


def test_nothing_listens_without_a_port() -> None:
    """The monitor is off unless it is configured."""
    world = World(MonitorSettings())
    world.service.startService()
    assert world.reactor.tcpServers == []
    assert world.service.address is None


def test_health_is_bad_as_soon_as_anything_is_wrong() -> None:
    """``/health`` answers 503 for an agent that is ready and has trouble, ``/health/ready`` 200;
    both name the kinds."""
    world = World()
    world.service.startService()
    trouble = Trouble(kind=TroubleKind.READING, subject="a", text="b", since_s=0.0)
    for troubles, status in (((), 200), ((trouble,), 503)):
        world.shown = snapshot(troubles=troubles)
        found, content_type, body = world.get("/health")
        assert (found, content_type) == (status, "application/json")
        assert json.loads(body)["troubles"] == [one.kind.value for one in troubles]
        assert world.get("/health/ready")[0] == 200
    world.shown = snapshot(connection=connection(state=LinkState.WAITING))
    assert [world.get(path)[0] for path in ("/health", "/health/ready")] == [503, 503]


def test_it_listens_on_the_loopback() -> None:
    """At the port of the settings, and at 127.0.0.1 unless told otherwise."""
    world = World()
    world.service.startService()
    ((port, _, _, interface),) = world.reactor.tcpServers
    assert (port, interface) == (9109, "127.0.0.1")


def test_metrics_are_served() -> None:
    """In Prometheus' text format."""
    world = World()
    world.service.startService()
    world.counters.increment("connections_opened", 7)
    status, content_type, body = world.get("/metrics")
    assert status == 200
    assert content_type.startswith("text/plain; version=0.0.4")
    assert b"oda_connections_opened_total 7.0" in body


def test_live_is_always_yes() -> None:
    """A process that answers is alive, connected or not."""
    world = World()
    world.service.startService()
    world.shown = snapshot(connection=connection(state=LinkState.WAITING))
    status, _, body = world.get("/health/live")
    assert (status, json.loads(body)) == (200, {"live": True})


def test_ready_is_200_or_503_with_reasons() -> None:
    """A load balancer reads the status, a person the body. What the platform has said is not told
    to everybody."""
    world = World()
    world.service.startService()
    status, content_type, body = world.get("/health/ready")
    assert (status, content_type) == (200, "application/json")
    assert json.loads(body)["ready"] is True
    world.shown = snapshot(connection=connection(state=LinkState.WAITING, last_end="refused"))
    status, _, body = world.get("/health/ready")
    answer = json.loads(body)
    assert status == 503
    assert (answer["ready"], answer["connection"]) == (False, "waiting")
    assert answer["reasons"] == ["the agent is waiting to connect again"]


def test_other_paths_are_not_found() -> None:
    """There is nothing else, and nothing that changes anything."""
    world = World()
    world.service.startService()
    assert [world.get(path)[0] for path in ("/", "/healthy", "/metrics/x", "/health/readyx")] == [
        404
    ] * 4


def test_scrapes_are_not_logged() -> None:
    """A line for every scrape would be all the log says."""
    world = World()
    world.service.startService()
    with capturedLogs() as events:
        world.get("/metrics")
    assert [formatEvent(event) for event in events] == []


def test_another_port_replaces_only_the_port() -> None:
    """A reload closes the old port and opens the new one; other settings touch nothing."""
    world = World()
    world.service.startService()
    port = world.service._port
    world.service.reconfigure(MonitorSettings(port=9109, log_levels=()))
    assert len(world.reactor.tcpServers) == 1
    world.service.reconfigure(MonitorSettings(port=9110))
    assert not world.reactor.readers or port not in world.reactor.readers
    assert [server[0] for server in world.reactor.tcpServers] == [9109, 9110]
    world.service.reconfigure(MonitorSettings())
    assert world.service.address is None


def test_a_port_that_is_taken_does_not_stop_the_agent() -> None:
    """It is said once, with the address, and a reload may find another one."""
    world = World()

    def taken(port: int, *_: Any, **__: Any) -> Any:
        raise CannotListenError("127.0.0.1", port, OSError(98, "Address already in use"))

    world.reactor.listenTCP = taken  # type: ignore[method-assign]
    with capturedLogs() as events:
        world.service.startService()
    assert world.service.running
    (line,) = [formatEvent(event) for event in events]
    assert "127.0.0.1:9109" in line
    assert "Address already in use" in line


def test_a_port_that_is_taken_is_tried_again() -> None:
    """It is said once, and served as soon as it is free; a stop leaves no timer."""
    world = World()
    listen = world.reactor.listenTCP

    def taken(port: int, *_: Any, **__: Any) -> Any:
        raise CannotListenError("127.0.0.1", port, OSError(98, "Address already in use"))

    world.reactor.listenTCP = taken  # type: ignore[method-assign]
    with capturedLogs() as events:
        world.service.startService()
        world.reactor.pump([LISTEN_AGAIN_S] * 3)
        assert len(events) == 1
        world.reactor.listenTCP = listen  # type: ignore[method-assign]
        world.reactor.advance(LISTEN_AGAIN_S)
    assert [server[0] for server in world.reactor.tcpServers] == [9109]
    world.reactor.listenTCP = taken  # type: ignore[method-assign]
    world.service.reconfigure(MonitorSettings(port=9110))
    world.service.stopService()
    assert world.reactor.getDelayedCalls() == []


def test_certificates_are_looked_at_daily() -> None:
    """A certificate that ends soon is warned of, each day again."""
    world = World(MonitorSettings())
    world.shown = snapshot(connection=connection(platform_certificate_ends_ms=NOW_MS + 86_400_000))
    world.service.startService()
    with capturedLogs() as events:
        world.reactor.pump([60.0, 86_400.0])
    lines = [formatEvent(event) for event in events]
    assert lines == ["the platform's certificate expires in 1 day"] * 2


def test_stopping_leaves_nothing_behind() -> None:
    """No timer and no port."""
    world = World()
    world.service.startService()
    world.service.stopService()
    assert world.reactor.getDelayedCalls() == []
    assert world.service.address is None
