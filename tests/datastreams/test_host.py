"""Device info and the datastreams of the host, built from settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from zope.interface.verify import verifyObject

from oda.datastreams.deviceinfo import DeviceInfo
from oda.datastreams.host import HostDatastreams, build_datastreams
from oda.errors import DatastreamTaken, ReadingFailed
from oda.interfaces import IDeviceInfoProvider
from oda.model import ValueStatus
from oda.settings import ClockTimezone, DeviceInfoSettings, ScriptSettings, Secret
from tests.datastreams.fakes import FakeGetter, FakeSetter, FixedClock
from tests.datastreams.processes import ProcessReactor

KEY = "canary-key"


def settings(*scripts: str, **others: Any) -> DeviceInfoSettings:
    """Settings with lines ``datastream=command``."""
    lines = (script.partition("=") for script in scripts)
    return DeviceInfoSettings(
        api_key=Secret(KEY),
        scripts=tuple(ScriptSettings(datastream_id=d, command=c) for d, _, c in lines),
        **others,
    )


class Bench:
    """A host on a machine of files, with a script ``x.sh`` in the directory ``scripts``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "scripts").mkdir()
        (root / "scripts/x.sh").write_text("#!/bin/sh\n")
        (root / "scripts/x.sh").chmod(0o755)
        (root / "etc").mkdir()
        (root / "etc/machine-id").write_text("3d1219c7\n")
        self.reactor = ProcessReactor()
        self.clock_setter = FakeSetter("device.clock")

    def build(self, chosen: DeviceInfoSettings) -> HostDatastreams:
        return build_datastreams(
            chosen, self.reactor, FixedClock(), {}, self.root, self.root, self.clock_setter
        )

    def script_writes(self, output: bytes) -> None:
        self.reactor.processes[-1].write(output)
        self.reactor.processes[-1].end()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def outcome(result: Any) -> Any:
    got: list[Any] = []
    result.addBoth(got.append)
    return got[0]


def test_the_configured_id(bench: Bench) -> None:
    """The device id of the settings is the id; the key is the settings' key."""
    info = bench.build(settings(device_id="dev-1")).device_info
    assert verifyObject(IDeviceInfoProvider, info)
    assert info.device_id() == "dev-1"
    assert info.api_key() == KEY
    assert info.serial_number() == "3d1219c7"


def test_the_serial_number_as_id(bench: Bench, logged: list[LogEvent]) -> None:
    """Without an id the serial number is it; the log says once where it was found."""
    info = bench.build(settings()).device_info
    assert info.device_id() == "3d1219c7"
    assert info.device_id() == "3d1219c7"
    assert [formatEvent(event) for event in logged] == [
        "serial number 3d1219c7 from /etc/machine-id",
        "this device uses the id 3d1219c7, from /etc/machine-id: machines that were cloned from"
        " one image may have the same. Set deviceId in the device info configuration",
    ]


@pytest.mark.parametrize("datastream", ["device.serialNumber", "serialNumber"])
def test_the_script_of_the_serial_number(bench: Bench, datastream: str) -> None:
    """A script for the serial number, by its name or the older one, is the only source of it."""
    info = bench.build(settings(f"{datastream}=scripts/x.sh")).device_info
    identifying = info.device_id()
    bench.script_writes(b"SN-5\n")
    assert outcome(identifying) == "SN-5"


def test_the_usual_script_of_the_serial_number(bench: Bench, logged: list[LogEvent]) -> None:
    """``obtainSerialNumber.sh`` in the scripts' directory comes before the machine's own numbers,
    though no line names it, also when it is put there while the agent runs; a line comes first."""
    host = bench.build(settings(path=Path("scripts")))
    assert host.device_info.device_id() == "3d1219c7"
    usual = bench.root / "scripts/obtainSerialNumber.sh"
    usual.write_text("#!/bin/sh\n")
    usual.chmod(0o755)
    identifying = host.device_info.device_id()
    assert bench.reactor.processes[-1].arguments[-1] == str(usual)
    bench.script_writes(b"SN-6\n")
    assert outcome(identifying) == "SN-6"
    assert f"serial number SN-6 from {usual}" in [formatEvent(event) for event in logged]
    host.configure(settings("device.serialNumber=x.sh", path=Path("scripts")))
    named = host.device_info.device_id()
    assert bench.reactor.processes[-1].arguments[-1] == str(bench.root / "scripts/x.sh")
    bench.script_writes(b"SN-7\n")
    assert outcome(named) == "SN-7"


def test_the_usual_script_fails(bench: Bench) -> None:
    """Where it is there, no other place gives the identity instead: the device would be another
    one from one start to the next."""
    (bench.root / "scripts/obtainSerialNumber.sh").write_text("#!/bin/sh\n")
    (bench.root / "scripts/obtainSerialNumber.sh").chmod(0o755)
    identifying = bench.build(settings(path=Path("scripts"))).device_info.device_id()
    bench.script_writes(b"\n")
    failure = outcome(identifying)
    assert isinstance(failure.value, ReadingFailed)
    assert "obtainSerialNumber.sh gave no serial number" in str(failure.value)


def test_the_usual_script_can_not_be_reached(bench: Bench) -> None:
    """A link that leads nowhere, for instance to a disk that is mounted later, is a script that
    fails: the machine's own number would be another identity until the next start."""
    (bench.root / "scripts/obtainSerialNumber.sh").symlink_to(bench.root / "disk/serial.sh")
    identifying = bench.build(settings(path=Path("scripts"))).device_info.device_id()
    failure = outcome(identifying)
    assert isinstance(failure.value, ReadingFailed)
    assert "obtainSerialNumber.sh gave no serial number" in str(failure.value)


@pytest.mark.parametrize("is_link", [False, True])
def test_the_directory_of_scripts_is_not_there(bench: Bench, is_link: bool) -> None:
    """While ``path`` leads nowhere nobody knows whether a script tells the id: the machine's own
    number would be another identity than after the next start, when the disk is mounted."""
    if is_link:
        (bench.root / "later").symlink_to(bench.root / "disk")
    device_info = bench.build(settings(path=Path("later"))).device_info
    with pytest.raises(
        ReadingFailed, match=r"'path' names .*later, which is not a readable directory"
    ):
        device_info.device_id()
    assert device_info.serial_number() == "3d1219c7"
    assert bench.build(settings(path=Path("later"), device_id="d")).device_info.device_id() == "d"
    (bench.root / ("disk" if is_link else "later")).mkdir()
    assert device_info.device_id() == "3d1219c7"


@pytest.mark.parametrize("output", [b"", b"None\n"])
def test_a_script_without_serial_number(bench: Bench, output: bytes) -> None:
    """A script that gives none doesn't change the identity to another place's: it is an error."""
    info = bench.build(settings("device.serialNumber=scripts/x.sh")).device_info
    identifying = info.device_id()
    bench.script_writes(output)
    failure = outcome(identifying)
    assert isinstance(failure.value, ReadingFailed)
    assert "device.serialNumber" in str(failure.value)


def test_a_machine_without_identity(bench: Bench) -> None:
    """With no id at all the reason says what to configure."""
    (bench.root / "etc/machine-id").unlink()
    info = DeviceInfo(settings(), bench.root, lambda: "localhost")
    with pytest.raises(ReadingFailed, match="set deviceId, or a script"):
        info.device_id()


def test_another_identity(bench: Bench) -> None:
    """Where the device info is replaced, the built-in readings tell what the replacement says."""
    other = DeviceInfo(settings(device_id="other"), bench.root)
    host = build_datastreams(
        settings(device_id="dev-1"),
        bench.reactor,
        FixedClock(),
        {},
        bench.root,
        bench.root,
        bench.clock_setter,
        other,
    )
    assert outcome(host.access.read("device.identifier", ""))[0].value == "other"


def test_a_script_replaces_the_built_in(bench: Bench) -> None:
    """A script line for a built-in datastream is read instead of it, until it is removed."""
    host = bench.build(settings("device.upTime=scripts/x.sh", "mine=scripts/x.sh"))
    reading = host.access.read("device.upTime", "")
    bench.script_writes(b"12\n")
    assert outcome(reading)[0].value == "12"
    assert "mine" in host.registry.datastream_ids("")
    assert outcome(host.access.read("device.clock", ""))[0].status is ValueStatus.OK
    (bench.root / "proc").mkdir()
    host.configure(settings())
    assert "mine" not in host.registry.datastream_ids("")
    assert outcome(host.access.read("device.upTime", ""))[0].status is ValueStatus.NOT_FOUND


def test_the_timezone_of_the_clock_follows_the_settings(bench: Bench) -> None:
    """``clockTimezone`` holds at the start and at a reload: a number or a text."""
    host = bench.build(settings(clock_timezone=ClockTimezone.ABBREVIATION))
    (before,) = outcome(host.access.read("device.clock", ""))
    host.configure(settings())
    (after,) = outcome(host.access.read("device.clock", ""))
    assert isinstance(before.value["timezone"], str)
    assert isinstance(after.value["timezone"], int | float)


def test_reconfiguring_keeps_what_did_not_change(bench: Bench) -> None:
    """Only scripts whose line changed are replaced; limits, path and key are the new ones."""
    host = bench.build(settings("a=x.sh", "b=scripts/x.sh", "c=scripts/x.sh"))
    before = {name: host.registry.getters(name, "") for name in "abc"}
    host.configure(
        settings(
            "a=x.sh",
            "b=scripts/x.sh new",
            "d=x.sh",
            path=Path("scripts"),
            script_timeout_s=60.0,
            device_id="dev-2",
        )
    )
    after = {name: host.registry.getters(name, "") for name in "abcd"}
    assert after["a"] == before["a"]
    assert after["b"] != before["b"]
    assert after["c"] == []
    assert len(after["d"]) == 1
    assert host.device_info.device_id() == "dev-2"
    reading = host.access.read("a", "")
    bench.reactor.advance(59)
    bench.script_writes(b"ok")
    assert outcome(reading)[0].value == "ok"


def test_a_refused_configuration_changes_nothing(bench: Bench) -> None:
    """A script for what a plugin reads is an error, and the scripts stay as they were."""
    host = bench.build(settings("a=x.sh"))
    host.registry.add_getter(FakeGetter("t"))
    before = host.registry.getters("a", "")
    with pytest.raises(DatastreamTaken, match="'t'"):
        host.configure(settings("a=x.sh new", "b=x.sh", "t=x.sh"))
    assert host.registry.getters("a", "") == before
    assert host.registry.getters("b", "") == []
    host.configure(settings("a=x.sh new"))
    assert host.registry.getters("a", "") != before


def test_the_clock_is_set_through_its_setter(bench: Bench) -> None:
    """``device.clock`` of the host can be written."""
    host = bench.build(settings())
    assert outcome(host.access.write("", "device.clock", 5)).status is ValueStatus.OK
    assert bench.clock_setter.written == [("", 5)]


def test_stopping_ends_the_scripts(bench: Bench) -> None:
    """A script under way is given up when the agent stops."""
    host = bench.build(settings("a=scripts/x.sh"))
    reading = host.access.read("a", "")
    bench.reactor.processes[0].pid = None  # the fake must not send signals to a real process
    host.stop()
    assert outcome(reading)[0].error == "the agent is stopping"


def test_the_key_is_not_shown(bench: Bench, logged: list[LogEvent]) -> None:
    """Reading everything of the host gives the key to nobody."""
    host = bench.build(settings(device_id="dev-1"))
    values = outcome(host.access.read_all("*"))
    assert values
    assert KEY not in repr(values)
    assert KEY not in repr(logged)
