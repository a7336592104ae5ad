"""sd_notify, against a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from oda.monitor.systemd import (
    NotifySocket,
    SystemdNotifier,
    build_notifier,
    watchdog_interval_s,
)


class Manager:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def heard(self) -> list[str]:
        """The datagrams since the last time."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


class FakeReactor(Clock):
    """A clock that says when it runs and when it stops."""

    def __init__(self) -> None:
        super().__init__()
        self._when_running: list[Callable[[], Any]] = []
        self._before_shutdown: list[Callable[[], Any]] = []

    def callWhenRunning(self, call: Callable[[], Any]) -> None:
        self._when_running.append(call)

    def addSystemEventTrigger(self, phase: str, event: str, call: Callable[[], Any]) -> None:
        assert (phase, event) == ("before", "shutdown")
        self._before_shutdown.append(call)

    def run(self) -> None:
        for call in self._when_running:
            call()

    def shut_down(self) -> None:
        for call in self._before_shutdown:
            call()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """Both kinds of address that ``NOTIFY_SOCKET`` may hold."""
    abstract = f"@oda-test-{os.getpid()}-{tmp_path.name}"
    found = Manager(str(tmp_path / "notify") if request.param == "path" else abstract)
    yield found
    found.close()


class World:
    """A notifier between a reactor and a manager."""

    def __init__(self, manager: Manager, watchdog_s: float | None = None) -> None:
        self.reactor = FakeReactor()
        self.status = "connected"
        self.notifier = SystemdNotifier(
            NotifySocket(manager.address), watchdog_s, lambda: self.status, self.reactor
        )
        self.notifier.startService()


def test_ready_when_the_reactor_runs(manager: Manager) -> None:
    """Not before: starting may still fail."""
    world = World(manager)
    assert manager.heard() == []
    world.reactor.run()
    assert manager.heard() == ["READY=1", "STATUS=connected"]


def test_the_status_is_told_when_it_changes(manager: Manager) -> None:
    """Within seconds, once, on one line."""
    world = World(manager)
    world.reactor.run()
    manager.heard()
    world.reactor.pump([5.0] * 3)
    assert manager.heard() == []
    world.status = "not connected:\nrefused"
    world.reactor.pump([5.0] * 3)
    assert manager.heard() == ["STATUS=not connected: refused"]


def test_the_watchdog_is_fed_as_often_as_asked(manager: Manager) -> None:
    """At once and then every interval, and only where somebody watches."""
    world = World(manager, watchdog_s=10.0)
    world.reactor.run()
    world.reactor.pump([1.0] * 30)
    assert manager.heard().count("WATCHDOG=1") == 4


def test_nobody_watches(manager: Manager) -> None:
    """Without a watchdog no notification is sent for one."""
    world = World(manager)
    world.reactor.run()
    world.reactor.pump([1.0] * 100)
    assert "WATCHDOG=1" not in manager.heard()


def test_the_watchdog_is_fed_until_the_end(manager: Manager) -> None:
    """Stopping is told when the shutdown begins; delivering what is left may take its time."""
    world = World(manager, watchdog_s=1.0)
    world.reactor.run()
    manager.heard()
    world.reactor.shut_down()
    world.reactor.advance(1.0)
    assert manager.heard() == ["STOPPING=1", "WATCHDOG=1"]
    world.notifier.stopService()
    world.reactor.advance(10.0)
    assert manager.heard() == []
    assert world.reactor.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_interval_is_half_of_what_is_allowed(
    environ: dict[str, str], interval_s: float | None
) -> None:
    """As sd_watchdog_enabled(3) recommends; another process's watchdog is not ours."""
    assert watchdog_interval_s(environ, 42) == interval_s


@pytest.mark.parametrize("address", [None, "", "vsock:2:1234", "relative"])
def test_without_a_socket_there_is_no_notifier(address: str | None) -> None:
    """systemd is not needed to run."""
    environ = {} if address is None else {"NOTIFY_SOCKET": address}
    assert build_notifier(environ, lambda: "", Clock()) is None


def test_a_socket_that_is_gone_is_said_once(tmp_path: Path) -> None:
    """Notifications are a courtesy: without them the agent goes on."""
    notify = NotifySocket(str(tmp_path / "gone"))
    with capturedLogs() as events:
        notify.send(READY="1")
        notify.send(WATCHDOG="1")
    assert len(events) == 1
    notify.close()
