"""The built-in readings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oda.datastreams.system import CpuMeter, SystemGetter, SystemReadings
from oda.errors import ReadingFailed
from oda.interfaces import IDatastreamGetter, IDeviceInfoProvider
from oda.model import Reading
from oda.settings import ClockTimezone
from tests.datastreams.fakes import FixedClock

ALWAYS = {
    "device.identifier",
    "device.serialNumber",
    "device.software",
    "device.clock",
    "device.storage.disk.total",
    "device.storage.disk.usage",
}


@implementer(IDeviceInfoProvider)
class Somebody:
    """A device info that knows everything at once, but its id later."""

    def __init__(self) -> None:
        self.identifying: Deferred[str] = Deferred()

    def device_id(self) -> Any:
        return self.identifying

    def api_key(self) -> str:
        return "canary"

    def serial_number(self) -> Any:
        return "serial-1"

    def software(self) -> Any:
        return [{"name": "n", "version": "1", "type": "SOFTWARE"}]


class Machine:
    """A machine made of files, and its readings."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reactor = Clock()
        self.wall_clock = FixedClock(1_700_000_000_123)  # 2023-11-14T22:13:20.123Z
        self.zone = (0, 0)
        self.info = Somebody()

    def put(self, place: str, text: str) -> None:
        file = self.root / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def getters(self) -> dict[str, SystemGetter]:
        readings = SystemReadings(
            cast(IReactorTime, self.reactor), self.wall_clock, self.root, lambda at_ms: self.zone
        )
        return {getter.datastream_id: getter for getter in readings.getters(self.info)}

    def value(self, datastream_id: str) -> Any:
        reading = self.getters()[datastream_id].get("")
        assert isinstance(reading, Reading)
        return reading.value


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def announced(machine: Machine) -> set[str]:
    """The datastreams that somebody reads of the host now."""
    return {name for name, getter in machine.getters().items() if getter.devices()}


def test_getters_keep_their_contract(machine: Machine) -> None:
    """Each built-in reads the host only."""
    assert verifyObject(IDeviceInfoProvider, machine.info)
    for getter in machine.getters().values():
        assert verifyObject(IDatastreamGetter, getter)
        assert list(getter.devices()) == (
            [""] if getter.datastream_id in announced(machine) else []
        )


def test_what_a_machine_lacks_is_not_announced(machine: Machine) -> None:
    """Without /proc and sensors only what needs neither is there."""
    assert announced(machine) == ALWAYS
    machine.put("proc/uptime", "5.5 1.0\n")
    assert announced(machine) == ALWAYS | {"device.upTime"}
    machine.put("proc/stat", "cpu 1 2 3 4\ncpu0 1 2 3 4\n")
    machine.put("proc/meminfo", "MemTotal: 2048 kB\nMemAvailable: 512 kB\n")
    machine.put("sys/class/thermal/thermal_zone0/temp", "26000")
    assert announced(machine) == ALWAYS | {
        "device.upTime",
        "device.cpu.total",
        "device.cpu.usage",
        "device.cpu.status",
        "device.ram.total",
        "device.ram.usage",
        "device.temperature.value",
        "device.temperature.status",
    }


def test_memory_uptime_and_temperature(machine: Machine) -> None:
    """The kernel's numbers in the units of the protocol: MB, percent, seconds, degrees."""
    machine.put("proc/uptime", "61.9 1.0\n")
    machine.put("proc/meminfo", "MemTotal: 4194304 kB\nMemAvailable: 1048576 kB\n")
    machine.put("sys/class/thermal/thermal_zone0/temp", "26000")
    assert machine.value("device.upTime") == 61
    assert machine.value("device.ram.total") == 4096
    assert machine.value("device.ram.usage") == 75.0
    assert machine.value("device.temperature.value") == 26.0
    assert machine.value("device.temperature.status") == "HIGH_WARNING"


def test_the_disk(machine: Machine) -> None:
    """The file system of the root: its size in MB, and a share of use in percent."""
    disk = os.statvfs(machine.root)
    assert machine.value("device.storage.disk.total") == disk.f_blocks * disk.f_frsize // 2**20
    assert 0 <= machine.value("device.storage.disk.usage") <= 100


@pytest.mark.parametrize(
    ("zone_s", "clock"),
    [
        ((0, 0), {"date": "2023-11-14", "time": "22:13:20", "timezone": 0, "dst": 0}),
        ((7200, 3600), {"date": "2023-11-15", "time": "00:13:20", "timezone": 1, "dst": 1}),
        ((19800, 0), {"date": "2023-11-15", "time": "03:43:20", "timezone": 5.5, "dst": 0}),
        ((-14400, 3600), {"date": "2023-11-14", "time": "18:13:20", "timezone": -5, "dst": 1}),
    ],
)
def test_the_clock(machine: Machine, zone_s: tuple[int, int], clock: dict[str, Any]) -> None:
    """Local date and time whose offset from UTC is timezone + dst, in hours."""
    machine.zone = zone_s
    assert machine.value("device.clock") == clock


@pytest.mark.parametrize(
    ("form", "timezone"),
    [
        (ClockTimezone.HOURS, 1),
        (ClockTimezone.ABBREVIATION, "CEST"),
        (ClockTimezone.NAME, "Europe/Madrid"),
    ],
)
def test_the_timezone_of_the_clock_may_be_text(
    machine: Machine, form: ClockTimezone, timezone: Any
) -> None:
    """What it is can be set at any time; nothing else of the clock changes."""
    readings = SystemReadings(
        cast(IReactorTime, machine.reactor),
        machine.wall_clock,
        machine.root,
        lambda at_ms: (7200, 3600),
        {
            ClockTimezone.ABBREVIATION: lambda at_ms: "CEST",
            ClockTimezone.NAME: lambda at_ms: "Europe/Madrid",
        },
    )
    getters = {getter.datastream_id: getter for getter in readings.getters(machine.info)}
    for chosen, value in ((form, timezone), (ClockTimezone.HOURS, 1)):
        readings.clock_timezone = chosen
        reading = getters["device.clock"].get("")
        assert isinstance(reading, Reading)
        assert reading.value == {
            "date": "2023-11-15",
            "time": "00:13:20",
            "timezone": value,
            "dst": 1,
        }


def test_the_identity(machine: Machine) -> None:
    """Identifier, serial number and software come from the device info, at once or later."""
    assert machine.value("device.serialNumber") == "serial-1"
    assert machine.value("device.software")[0]["name"] == "n"
    came: list[Any] = []
    machine.getters()["device.identifier"].get("").addCallback(came.append)
    assert came == []
    machine.info.identifying.callback("dev-1")
    assert came == [Reading("dev-1")]


def test_a_file_that_changes_its_form(machine: Machine) -> None:
    """What can't be read is a failed reading with the datastream's name and the reason."""
    machine.put("proc/meminfo", "MemTotal: 2048 kB\nMemAvailable: 512 kB\n")
    getter = machine.getters()["device.ram.usage"]
    machine.put("proc/meminfo", "nothing\n")
    with pytest.raises(ReadingFailed, match=r"device\.ram\.usage can't be read: .*MemTotal"):
        getter.get("")
    (machine.root / "proc/meminfo").unlink()
    with pytest.raises(ReadingFailed, match="No such file"):
        getter.get("")


class TestCpu:
    """The load of the processors."""

    def meter(self, *stats: str) -> tuple[CpuMeter, Clock]:
        left = list(stats)
        clock = Clock()
        return CpuMeter(lambda: left.pop(0), cast(IReactorTime, clock)), clock

    def test_since_the_reading_before(self) -> None:
        """Each reading tells of the time since the one before."""
        meter, clock = self.meter("cpu 0 0 0 0", "cpu 10 0 0 90", "cpu 60 0 0 140")
        clock.advance(10)
        assert meter.usage_percent() == 10.0
        clock.advance(10)
        assert meter.usage_percent() == 50.0

    def test_readings_close_together_share_a_result(self) -> None:
        """Usage and status are read one after the other and must agree."""
        meter, clock = self.meter("cpu 0 0 0 0", "cpu 10 0 0 90")
        clock.advance(10)
        assert [meter.usage_percent(), meter.usage_percent()] == [10.0, 10.0]
        clock.advance(0.9)
        assert meter.usage_percent() == 10.0

    def test_the_first_reading_right_after_the_start(self) -> None:
        """Too early for a difference, it tells of the time since boot."""
        meter, clock = self.meter("cpu 30 0 0 70", "cpu 130 0 0 70")
        assert meter.usage_percent() == 30.0
        clock.advance(1)
        assert meter.usage_percent() == 100.0

    def test_the_counters_go_down(self) -> None:
        """After a suspend, or with fewer processors, the new sample is the base of the next."""
        meter, clock = self.meter("cpu 0 0 0 900", "cpu 10 0 0 990", "cpu 20 0 0 5", "cpu 30 0 0 5")
        usages = []
        for _ in range(3):
            clock.advance(10)
            usages.append(meter.usage_percent())
        assert usages == [10.0, 10.0, 100.0]

    def test_no_tick_has_passed(self) -> None:
        """Equal samples repeat the last result; there is nothing new to tell."""
        meter, clock = self.meter("cpu 0 0 0 0", "cpu 10 0 0 90", "cpu 10 0 0 90")
        clock.advance(10)
        meter.usage_percent()
        clock.advance(10)
        assert meter.usage_percent() == 10.0


def test_this_machine() -> None:
    """Real readings of the machine that runs the tests are within their bounds."""
    readings = SystemReadings(cast(IReactorTime, Clock()), FixedClock())
    values = {
        getter.datastream_id: getter.get("").value
        for getter in readings.getters(Somebody())
        if getter.datastream_id != "device.identifier" and getter.devices()
    }
    assert values["device.cpu.total"] >= 1
    assert 0 <= values["device.cpu.usage"] <= 100
    assert values["device.ram.total"] > 100
    assert 0 < values["device.ram.usage"] < 100
    assert values["device.upTime"] > 0
    assert values["device.storage.disk.total"] > 100
