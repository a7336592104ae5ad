"""The limits of a container."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock

from oda.datastreams.cgroup import ControlGroup
from oda.datastreams.kernel_text import MIB, Memory
from oda.datastreams.system import CpuMeter

MACHINE = Memory(1000 * MIB, 800 * MIB)
V2 = {"memory.max": 100 * MIB, "memory.current": 60 * MIB, "cpu.max": "50000 100000"}
V1 = {
    "memory/memory.limit_in_bytes": 100 * MIB,
    "memory/memory.usage_in_bytes": 60 * MIB,
    "cpu/cpu.cfs_quota_us": 50000,
    "cpu/cpu.cfs_period_us": 100000,
}


def put(root: Path, files: Mapping[str, object]) -> ControlGroup:
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return ControlGroup(root)


@pytest.mark.parametrize("version", [V1, V2], ids=["v1", "v2"])
def test_the_limits_are_those_of_the_container(tmp_path: Path, version: dict[str, object]) -> None:
    """Total and usage are the group's; cached files that can be dropped are available."""
    group = put(tmp_path, version)
    assert group.memory(MACHINE) == Memory(100 * MIB, 40 * MIB)
    assert group.processors() == 0.5
    cached = f"anon 1\ninactive_file {10 * MIB}\ntotal_inactive_file {10 * MIB}"
    stat = "memory.stat" if version is V2 else "memory/memory.stat"
    assert put(tmp_path, {stat: cached}).memory(MACHINE) == Memory(100 * MIB, 50 * MIB)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"memory.max": "max", "memory.current": 5, "cpu.max": "max 100000"},
        {"memory.max": 2000 * MIB, "memory.current": 5, "cpu.max": "rubbish"},
        {
            "memory/memory.limit_in_bytes": 9223372036854771712,
            "memory/memory.usage_in_bytes": 5,
            "cpu/cpu.cfs_quota_us": -1,
            "cpu/cpu.cfs_period_us": 100000,
        },
    ],
)
def test_without_a_limit_it_is_the_machine(tmp_path: Path, files: dict[str, object]) -> None:
    """No limit, or one beyond what the machine has, says nothing."""
    group = put(tmp_path, files)
    assert group.memory(MACHINE) == MACHINE
    assert group.processors() is None


def test_a_limit_without_an_account(tmp_path: Path) -> None:
    """The load of the machine is told instead."""
    group = put(tmp_path, V2)
    meter = CpuMeter(lambda: "cpu 30 0 0 70", cast(IReactorTime, Clock()), group)
    assert meter.usage_percent() == 30.0


@pytest.mark.parametrize(
    ("limits", "account", "unit"),
    [(V2, "cpu.stat", "usage_usec {}000000"), (V1, "cpuacct/cpuacct.usage", "{}000000000")],
    ids=["v1", "v2"],
)
def test_usage_is_of_what_the_container_may_use(
    tmp_path: Path, limits: dict[str, object], account: str, unit: str
) -> None:
    """Half a processor used for a quarter of the time is a load of 50 %."""
    clock = Clock()
    group = put(tmp_path, {**limits, account: unit.format(7)})
    meter = CpuMeter(lambda: "", cast(IReactorTime, clock), group)
    put(tmp_path, {account: unit.format(17)})
    clock.advance(40)
    assert meter.usage_percent() == 50.0
    put(tmp_path, {account: unit.format(37)})
    clock.advance(40)
    assert meter.usage_percent() == 100.0


@pytest.mark.parametrize("changed", ["400000 100000", "100000 100000", "max 100000"])
def test_a_limit_that_is_changed(tmp_path: Path, changed: str) -> None:
    """Samples of different limits are not compared: the one after the change is the new base."""
    clock = Clock()
    clock.advance(1_000_000)
    group = put(tmp_path, {"cpu.max": "50000 100000", "cpu.stat": "usage_usec 0"})
    stat = "cpu 0 0 0 {}\n" + "cpu0\n" * 8
    ticks = [0]
    meter = CpuMeter(lambda: stat.format(ticks[0]), cast(IReactorTime, clock), group)

    def usage_after(used_us: int) -> float:
        put(tmp_path, {"cpu.stat": f"usage_usec {used_us}"})
        clock.advance(10)
        ticks[0] += 1000
        return meter.usage_percent()

    assert usage_after(2_500_000) == 50.0
    put(tmp_path, {"cpu.max": changed})
    assert usage_after(5_000_000) == 50.0, "the last that is known"
    expected = {"400000": 25.0, "100000": 100.0, "max": 0.0}[changed.partition(" ")[0]]
    assert usage_after(15_000_000) == expected


def test_a_limit_above_what_the_machine_has(tmp_path: Path) -> None:
    """A container that may use eight processors of a machine with two is busy with two."""
    clock = Clock()
    group = put(tmp_path, {"cpu.max": "800000 100000", "cpu.stat": "usage_usec 0"})
    meter = CpuMeter(lambda: "cpu 0 0 0 0\ncpu0\ncpu1\n", cast(IReactorTime, clock), group)
    clock.advance(10)
    put(tmp_path, {"cpu.stat": "usage_usec 20000000"})
    assert meter.usage_percent() == 100.0
