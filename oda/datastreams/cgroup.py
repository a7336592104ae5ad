"""The share of the machine that a container may use: the limits of its control group, version 1 or
2.

Inside a container the group's files are at the top of /sys/fs/cgroup. A process that shares its
group's files with the whole machine correctly finds no limit there: it may use the whole machine.

Source: the kernel's documentation of cgroup v1 (memory, cpu, cpuacct) and cgroup v2.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from oda.datastreams.kernel_text import CpuTimes, Memory

_MICROSECONDS = 1_000_000


class ControlGroup:
    """The group under ``root``. A value that is unreadable or unlimited is None."""

    def __init__(self, root: Path) -> None:
        self._place = root / "sys/fs/cgroup"

    def memory(self, machine: Memory) -> Memory:
        """The memory of the group, if its limit is below that of the ``machine``. Cached files that
        can be dropped at once count as available, as on the machine."""
        for limit_file, usage_file, stat_file, cached in (
            ("memory.max", "memory.current", "memory.stat", "inactive_file"),
            (
                "memory/memory.limit_in_bytes",
                "memory/memory.usage_in_bytes",
                "memory/memory.stat",
                "total_inactive_file",
            ),
        ):
            limit, usage = self._number(limit_file), self._number(usage_file)
            if limit is None or usage is None or not 0 < limit < machine.total:
                continue
            used = max(0, usage - (self._statistic(stat_file, cached) or 0))
            return Memory(limit, max(0, min(limit - used, machine.available)))
        return machine

    def processors(self) -> float | None:
        """How many processors' time the group may use."""
        quota, _, period = (self._text("cpu.max") or "").partition(" ")
        if not period:
            quota = self._text("cpu/cpu.cfs_quota_us") or ""
            period = self._text("cpu/cpu.cfs_period_us") or ""
        try:
            share = int(quota) / int(period)
        except (ValueError, ZeroDivisionError):
            return None  # "max", or no such file
        return share if share > 0 else None

    def read_times(self, seconds: Callable[[], float], processors: float) -> CpuTimes:
        """The time that the group could have used since some moment on this many ``processors``,
        and its idle part. Raises ``ValueError`` if there is no account."""
        used = self._statistic("cpu.stat", "usage_usec")
        if used is None:
            nanoseconds = self._number("cpuacct/cpuacct.usage")
            used = None if nanoseconds is None else nanoseconds // 1000
        if used is None:
            raise ValueError("the control group has no account of processor time")
        total = int(seconds() * processors * _MICROSECONDS)
        return CpuTimes(total - used, total)

    def _text(self, file: str) -> str | None:
        try:
            return (self._place / file).read_text("ascii", "replace").strip()
        except OSError:
            return None

    def _number(self, file: str) -> int | None:
        text = self._text(file)
        return int(text) if text is not None and text.isdecimal() else None

    def _statistic(self, file: str, name: str) -> int | None:
        for line in (self._text(file) or "").splitlines():
            key, _, value = line.partition(" ")
            if key == name and value.isdecimal():
                return int(value)
        return None
