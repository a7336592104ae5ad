"""Whoever speaks for the platform wants to move the device's clock, or to make the agent ask hosts
inside the device's network. The machine's clock is never touched: the system call is replaced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

import oda
from oda.agent import Agent
from oda.commands.demo import Demo
from oda.config.changes import difference
from oda.datastreams.clock import EARLIEST_MS, set_system_time
from oda.interfaces import IDatastreamSetter
from oda.model import ContentType
from oda.reload import apply_settings
from oda.settings import (
    AgentSettings,
    ConnectorSettings,
    DeviceInfoSettings,
    DispatcherSettings,
    OutboxKind,
    OutboxSettings,
    Secret,
)

ROOT = Path(__file__).resolve().parents[2]
HOST = "dev-1"
IN_2099 = {"datetime": {"date": "2099-02-03", "time": "04:05:06"}}
#: 2099-02-03T04:05:06Z, computed with date(1).
IN_2099_MS = 4_073_774_706_000


@pytest.fixture
def clock_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What would have been set on the machine's clock, in milliseconds."""
    calls: list[int] = []
    monkeypatch.setattr(time, "clock_settime_ns", lambda clock, ns: calls.append(ns // 1_000_000))
    return calls


@implementer(IDatastreamSetter)
class Script:
    """A clock datastream of somebody else's."""

    datastream_id = "board.clock"

    def __init__(self) -> None:
        self.set_to: list[Any] = []

    def devices(self) -> tuple[str, ...]:
        return ("",)

    def set(self, device_id: str, value: Any) -> None:
        self.set_to.append(value)


class Device:
    """An agent without a connection, and with whatever its owner has configured."""

    def __init__(self, tmp_path: Path, dispatcher: DispatcherSettings, *components: object) -> None:
        self.reactor = MemoryReactorClock()
        self.agent = Agent(
            AgentSettings(
                connector=ConnectorSettings(host="localhost", path="/p"),
                device_info=DeviceInfoSettings(device_id=HOST, api_key=Secret("k")),
                outbox=OutboxSettings(kind=OutboxKind.MEMORY, path=tmp_path / "o.sqlite"),
                dispatcher=dispatcher,
            ),
            components=list(components),
            reactor=self.reactor,
            environ={},
        )
        self.agent.parts.outbox.open()
        self.agent.parts.identified(HOST)

    def ask(self, name: str, parameters: object, request_id: str = "1") -> dict[str, Any]:
        """The response to a request."""
        assert self.agent.parts.operations is not None
        message = {
            "operation": {"request": {"id": request_id, "name": name, "parameters": parameters}}
        }
        answers: list[Any] = []
        self.agent.parts.operations.process(
            json.dumps(message).encode(), ContentType.JSON
        ).addCallback(answers.append)
        self.reactor.pump([0.5] * 10)
        (answer,) = answers
        response: dict[str, Any] = json.loads(answer.payload)["operation"]["response"]
        return response


SETTING: list[tuple[str, object]] = [
    ("SET_CLOCK_EQUIPMENT", IN_2099),
    ("SET_CLOCK_EQUIPMENT", {}),
    ("SET_DEVICE_PARAMETERS", {"variableList": [{"name": "device.clock", "value": IN_2099_MS}]}),
]


@pytest.mark.parametrize(("name", "parameters"), SETTING)
def test_the_platform_sets_the_clock_without_permission(
    tmp_path: Path, clock_calls: list[int], name: str, parameters: object
) -> None:
    """Unless ``allowSetClock=true``, no operation sets the system's clock, and the answer says how
    to allow it."""
    response = Device(tmp_path, DispatcherSettings()).ask(name, parameters)
    assert "allowSetClock=true in es.amplia.oda.dispatcher.opengate.cfg" in json.dumps(response)
    assert clock_calls == []


def test_the_owner_allows_to_set_the_clock(tmp_path: Path, clock_calls: list[int]) -> None:
    """``allowSetClock=true`` takes effect, also by a reload, and so does its removal."""
    device = Device(tmp_path, DispatcherSettings())
    before = device.agent.settings
    for allowed, result, calls in (
        (True, "SUCCESSFUL", [IN_2099_MS]),
        (False, "ERROR_PROCESSING", [IN_2099_MS]),
    ):
        after = AgentSettings(
            connector=before.connector,
            device_info=before.device_info,
            outbox=before.outbox,
            dispatcher=DispatcherSettings(allow_set_clock=allowed),
        )
        apply_settings(device.agent, after, difference(device.agent.settings, after))
        response = device.ask("SET_CLOCK_EQUIPMENT", IN_2099, str(allowed))
        assert response["resultCode"] == result
        assert clock_calls == calls


@pytest.mark.parametrize(
    "date", ["1970-01-01", "2001-09-09", "2026-10-31", "2101-01-01", "9999-12-31"]
)
def test_the_platform_sets_the_clock_to_another_age(
    tmp_path: Path, clock_calls: list[int], date: str
) -> None:
    """Also with ``allowSetClock=true``, a time before the version was made, or after 2100, is
    refused."""
    device = Device(tmp_path, DispatcherSettings(allow_set_clock=True))
    response = device.ask("SET_CLOCK_EQUIPMENT", {"datetime": {"date": date, "time": "00:00:00"}})
    assert response["resultCode"] == "ERROR_PROCESSING"
    made = datetime.fromtimestamp(EARLIEST_MS / 1000, UTC).strftime("%Y-%m-%d")
    assert f"the clock takes times from {made}" in response["resultDescription"]
    assert clock_calls == []


def test_the_version_was_made_in_the_past() -> None:
    """The bound never refuses the present."""
    assert time.time() * 1000 >= EARLIEST_MS


def test_the_build_writes_down_its_time(tmp_path: Path) -> None:
    """Nobody has to change the bound for a version: what is built holds the time of its build."""
    egg_info = ["egg_info", "--egg-base", str(tmp_path)]
    build = ["build_py", "--build-lib", str(tmp_path / "lib")]
    subprocess.run(
        [sys.executable, "setup.py", "-q", *egg_info, *build],
        check=True,
        cwd=ROOT,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1800000000"},
    )
    assert "\nBUILT_MS: Final = 1800000000000\n" in (tmp_path / "lib/oda/built.py").read_text()
    assert "1_793_491_200_000" in (ROOT / "oda" / "built.py").read_text()


def test_a_clock_of_a_plugin_needs_no_permission(tmp_path: Path, clock_calls: list[int]) -> None:
    """The permission is for the system's clock; another clock datastream works as before."""
    script = Script()
    device = Device(tmp_path, DispatcherSettings(clock_datastream="board.clock"), script)
    datetime = {"date": "2024-02-03", "time": "04:05:06"}
    response = device.ask("SET_CLOCK_EQUIPMENT", {"datetime": datetime})
    assert response["resultCode"] == "SUCCESSFUL"
    assert script.set_to == [1_706_933_106_000]
    assert clock_calls == []


def test_the_console_of_the_demo_sets_the_clock(clock_calls: list[int]) -> None:
    """The demo's agent never sets the clock of the machine of the person who tries it."""
    demo = Demo(MemoryReactorClock(), "d", 3.0, 0, 0)
    assert demo._settings().dispatcher.allow_set_clock is False


@pytest.mark.parametrize(
    "source",
    [
        "http://127.0.0.1:22/",
        "https://192.168.0.1/admin?reboot=1",
        "ntp://10.0.0.7:5353",
        "ntp://NTP.example",
        "ntp://ntp.example:124",
        "ntp://ntp.example/",
        " ntp://ntp.example",
        "file:///etc/passwd",
        "x" * 100_000,
    ],
)
def test_the_platform_makes_the_agent_ask_any_host(tmp_path: Path, source: str) -> None:
    """SYNCHRONIZE_CLOCK asks only sources that ``timeSource`` and ``timeSources`` name, letter by
    letter: another one is ERROR_IN_PARAM, always with the same words, and no socket is opened."""
    settings = DispatcherSettings(
        time_source="ntp://own.example", time_sources=("ntp://ntp.example", "http://web.example")
    )
    device = Device(tmp_path, settings)
    response = device.ask("SYNCHRONIZE_CLOCK", {"source": source})
    assert response["resultCode"] == "ERROR_IN_PARAM"
    assert response["resultDescription"] == (
        "source: is not named by timeSource or timeSources in the agent's configuration"
    )
    assert device.reactor.tcpClients == []


def test_nobody_sets_the_clock_but_the_setter() -> None:
    """The system call has one caller, which checks: nothing else in the package names it."""
    package = Path(oda.__file__).parent
    holders = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "clock_settime" in path.read_text() or "settimeofday" in path.read_text()
    ]
    assert holders == ["datastreams/clock.py"]
    callers: Callable[[int], None] = set_system_time
    assert callers.__module__ == "oda.datastreams.clock"
