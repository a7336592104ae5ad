"""The kernel's files as numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from oda.datastreams.kernel_text import (
    CpuTimes,
    Memory,
    count_processors,
    parse_cpu_times,
    parse_memory,
    parse_uptime_s,
    percent,
    usage_percent,
)

STAT = """\
cpu  10 20 30 400 50 6 7 8 9 1
cpu0 5 10 15 200 25 3 3 4 5 1
cpu1 5 10 15 200 25 3 4 4 4 0
intr 12345 0
cpufreq 1
"""


def test_cpu_times() -> None:
    """Waiting for disks is idle time; guest time is part of user time and not counted twice."""
    assert parse_cpu_times(STAT) == CpuTimes(idle=450, total=10 + 20 + 30 + 400 + 50 + 6 + 7 + 8)


def test_cpu_times_of_an_old_kernel() -> None:
    """Four numbers are all that the oldest format has."""
    assert parse_cpu_times("cpu 1 2 3 4\n") == CpuTimes(idle=4, total=10)


def test_processors_are_counted() -> None:
    """The sum line and lines that only begin alike are no processors."""
    assert count_processors(STAT) == 2


@pytest.mark.parametrize(
    ("before", "after", "usage"),
    [
        (CpuTimes(0, 0), CpuTimes(75, 100), 25.0),
        (CpuTimes(100, 200), CpuTimes(100, 300), 100.0),
        (CpuTimes(100, 200), CpuTimes(200, 300), 0.0),
        (CpuTimes(100, 200), CpuTimes(99, 300), 100.0),
        (CpuTimes(100, 200), CpuTimes(100, 200), None),
        (CpuTimes(100, 200), CpuTimes(50, 100), None),
    ],
)
def test_usage(before: CpuTimes, after: CpuTimes, usage: float | None) -> None:
    """The share of time not idle; unknown without ticks; counters that step back do no harm."""
    assert usage_percent(before, after) == usage


def test_memory() -> None:
    """Total and available, in bytes."""
    text = "MemTotal:    8000 kB\nMemFree: 1 kB\nMemAvailable: 6000 kB\nHugePages_Total: 0\n"
    assert parse_memory(text) == Memory(8000 * 1024, 6000 * 1024)


def test_memory_of_an_old_kernel() -> None:
    """Without MemAvailable, free memory and caches are what is available."""
    text = "MemTotal: 8000 kB\nMemFree: 1000 kB\nBuffers: 200 kB\nCached: 30 kB\n"
    assert parse_memory(text) == Memory(8000 * 1024, 1230 * 1024)


def test_uptime() -> None:
    """Whole seconds, the second number is something else."""
    assert parse_uptime_s("1234.99 5000.00\n") == 1234


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_cpu_times, ""),
        (parse_cpu_times, "cpu 1 2\n"),
        (parse_cpu_times, "intr 1 2 3 4\n"),
        (count_processors, "intr 1\n"),
        (parse_memory, "MemFree: 1 kB\n"),
        (parse_uptime_s, "soon"),
    ],
)
def test_other_text_is_an_error(parse: Callable[[str], object], text: str) -> None:
    """Text of another form is a ValueError and not a wrong number."""
    with pytest.raises(ValueError, match=r"."):
        parse(text)


def test_percent_stays_within_bounds() -> None:
    """Counters that disagree for a moment can't give less than 0 or more than 100."""
    assert percent(-1, 10) == 0.0
    assert percent(11, 10) == 100.0
    assert percent(1, 3) == 33.3
