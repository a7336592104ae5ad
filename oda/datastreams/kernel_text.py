"""Parses what the Linux kernel writes in /proc. Pure; bad text is a ``ValueError``.

Source: proc(5). Reading these few lines directly costs less memory than any library for it.
"""

from __future__ import annotations

from typing import NamedTuple

MIB = 1024 * 1024


class CpuTimes(NamedTuple):
    """Ticks since boot over all processors: idle ones, and all."""

    idle: int
    total: int


class Memory(NamedTuple):
    """Bytes of memory, and those that programs could still get."""

    total: int
    available: int


def parse_cpu_times(stat: str) -> CpuTimes:
    """The first line of /proc/stat. Time waiting for disks is idle; guests' time is already part of
    user time."""
    label, *ticks = stat.partition("\n")[0].split()
    if label != "cpu" or len(ticks) < 4:
        raise ValueError("/proc/stat does not begin with the processors' times")
    user, nice, system, idle, *more = (int(tick) for tick in ticks[:8])
    idle += more[0] if more else 0
    return CpuTimes(idle, user + nice + system + idle + sum(more[1:]))


def count_processors(stat: str) -> int:
    """The processors listed in /proc/stat."""
    count = sum(line.startswith("cpu") and line[3:4].isdigit() for line in stat.splitlines())
    if not count:
        raise ValueError("/proc/stat lists no processor")
    return count


def usage_percent(before: CpuTimes, after: CpuTimes) -> float | None:
    """The busy share of the time between two samples; None when no tick passed."""
    total = after.total - before.total
    if total <= 0:
        return None
    # The kernel's idle count may step back a little.
    return percent(total - max(0, after.idle - before.idle), total)


def parse_memory(meminfo: str) -> Memory:
    """/proc/meminfo; kernels before 3.14 don't report available memory."""
    fields = {}
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()[:1]
        if number:
            fields[name] = int(number[0]) * 1024
    try:
        total = fields["MemTotal"]
        available = fields.get("MemAvailable")
        if available is None:
            available = fields["MemFree"] + fields["Buffers"] + fields["Cached"]
    except KeyError as error:
        raise ValueError(f"/proc/meminfo does not say {error}") from None
    return Memory(total, available)


def parse_uptime_s(uptime: str) -> int:
    """Whole seconds since boot, from /proc/uptime."""
    return int(float(uptime.split()[0]))


def percent(part: float, whole: float) -> float:
    """``part`` of ``whole`` in percent, within 0 and 100, to one decimal."""
    return round(min(100.0, max(0.0, 100 * part / whole)), 1)
