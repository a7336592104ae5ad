"""``oda readings``: the list, and one reading without a platform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from oda.cli import main
from oda.commands.readings import build_host, read_once, reason_of
from oda.datastreams.catalogue import BUILT_INS
from oda.model import DatastreamValue, ValueStatus
from oda.settings import DeviceInfoSettings, Secret


def start_reading(clock: Clock, *names: str, device: str = "") -> Deferred[list[DatastreamValue]]:
    """Read through the command's own way on a chosen clock."""
    settings = DeviceInfoSettings(api_key=Secret(""), device_id="dev-1")
    host = build_host(settings, (), cast(Any, clock), {})
    return Deferred.fromCoroutine(read_once(host, names, device, clock))


def test_the_list_names_every_reading_with_type_unit_source_and_example() -> None:
    """A stranger finds what can be read without the source code."""
    done = CliRunner().invoke(main, ["readings"])
    assert done.exit_code == 0
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["DATASTREAM", "TYPE", "UNIT", "EXAMPLE", "SOURCE"]
    assert [row.split()[0] for row in rows] == [one.datastream_id for one in BUILT_INS]
    (ram,) = [row for row in rows if row.startswith("device.ram.total")]
    assert ram.split()[1:4] == ["INTEGER", "MiB", "3906"]
    assert "/proc/meminfo" in ram


def test_the_list_for_programs() -> None:
    """With --json every column is a member."""
    done = CliRunner().invoke(main, ["readings", "--json"])
    rows = json.loads(done.stdout)
    assert len(rows) == len(BUILT_INS)
    assert {"datastream", "type", "unit", "meaning", "source", "example"} == set(rows[0])


def test_a_reading_is_read_without_a_platform() -> None:
    """The value is there at once; nothing connects, nothing is opened."""
    found: list[Any] = []
    start_reading(Clock(), "device.identifier", "device.upTime").addCallback(found.extend)
    assert [(one.datastream_id, one.status) for one in found] == [
        ("device.identifier", ValueStatus.OK),
        ("device.upTime", ValueStatus.OK),
    ]
    assert found[0].value == "dev-1"


def test_the_host_can_be_named_by_its_id() -> None:
    """A device's own id means the host, as in an operation."""
    found: list[Any] = []
    start_reading(Clock(), "device.identifier", device="dev-1").addCallback(found.extend)
    assert [one.value for one in found] == ["dev-1"]


def test_the_load_is_that_of_now() -> None:
    """The first reading of the load needs two samples; a reading since boot would say nothing."""
    clock = Clock()
    found: list[Any] = []
    start_reading(clock, "device.cpu.usage").addCallback(found.extend)
    assert found == []
    clock.advance(1.0)
    assert [one.status for one in found] == [ValueStatus.OK]


def test_a_named_configuration_has_to_be_good(tmp_path: Path) -> None:
    """The user who names a directory wants its scripts: a fault there is an error."""
    done = CliRunner().invoke(main, ["readings", "get", "device.upTime", "--conf", str(tmp_path)])
    assert done.exit_code == 1
    assert "host" in done.output


@pytest.mark.parametrize("arguments", [["readings", "get"], ["readings", "gte"]])
def test_usage(arguments: list[str]) -> None:
    """Without a name, or with another word, the command explains itself."""
    assert CliRunner().invoke(main, arguments).exit_code == 2


def test_a_device_that_nothing_reads_is_named() -> None:
    """A built-in reading of a device behind this one does not exist. The reason is the device, not
    a source that this machine lacks."""
    settings = DeviceInfoSettings(api_key=Secret(""), device_id="dev-1")
    host = build_host(settings, (), cast(Any, Clock()), {})
    for device, reason in (
        ("sensor-9", "nothing here reads device.upTime of the device sensor-9"),
        ("", "this machine does not have what the reading needs"),
    ):
        value = DatastreamValue("device.upTime", device, ValueStatus.NOT_FOUND)
        assert reason_of(value, host) == reason
