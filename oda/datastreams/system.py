"""The built-in readings of the host, from this machine (OpenGate protocol, "Configuration files").

All values are read from /proc, /sys and the root file system, which answer at once. Other file
systems are not read, because a network mount may hang.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from oda.datastreams.cgroup import ControlGroup
from oda.datastreams.clock import local_zone
from oda.datastreams.kernel_text import (
    MIB,
    CpuTimes,
    Memory,
    count_processors,
    parse_cpu_times,
    parse_memory,
    parse_uptime_s,
    percent,
    usage_percent,
)
from oda.datastreams.temperature import TemperatureSensor
from oda.datastreams.thresholds import cpu_status, temperature_status
from oda.errors import ReadingFailed
from oda.interfaces import IDatastreamGetter, IDeviceInfoProvider, IWallClock
from oda.model import HOST, Reading
from oda.settings import ClockTimezone

#: A shorter interval says little about the processor's load.
MIN_CPU_WINDOW_S = 1.0

_HOUR_S = 3600


@implementer(IDatastreamGetter)
class SystemGetter:
    """Reads one datastream of the host with a function that returns its value (or Deferred)."""

    def __init__(
        self,
        datastream_id: str,
        read: Callable[[], Any],
        is_there: Callable[[], bool] | None = None,
    ) -> None:
        self.datastream_id = datastream_id
        self._read = read
        self._is_there = is_there

    def devices(self) -> tuple[str, ...]:
        """The host only; nothing while there is nothing to read."""
        return (HOST,) if self._is_there is None or self._is_there() else ()

    def get(self, device_id: str) -> Any:
        """See ``IDatastreamGetter.get``."""
        try:
            value = self._read()
        except (OSError, ValueError) as error:
            raise ReadingFailed(f"{self.datastream_id} can't be read: {error}") from error
        return value.addCallback(Reading) if isinstance(value, Deferred) else Reading(value)

    def __repr__(self) -> str:
        return f"SystemGetter({self.datastream_id!r})"


class CpuMeter:
    """The load of the processors since the previous reading.

    Readings within one second share one result. The first reading covers the time since the agent
    started, or since boot if that is too short.
    """

    def __init__(
        self,
        read_stat: Callable[[], str],
        reactor: IReactorTime,
        group: ControlGroup | None = None,
    ) -> None:
        self._read_stat = read_stat
        self._group = group
        self._reactor = reactor
        self._usage: float | None = None
        self._sampled_at_s = reactor.seconds()
        self._share, self._before = self._read()

    def usage_percent(self) -> float:
        """The load in percent, to one decimal; raises ``OSError`` or ``ValueError``."""
        now_s = self._reactor.seconds()
        if now_s - self._sampled_at_s < MIN_CPU_WINDOW_S:
            if self._usage is None:
                self._usage = usage_percent(CpuTimes(0, 0), self._before)
            return self._usage or 0.0
        share, after = self._read()
        # If a limit was changed meanwhile, the two samples count different things.
        usage = usage_percent(self._before, after) if share == self._share else None
        # Always start from the new sample: counters that went down (a suspend, removed processors,
        # a machine that moved) would take long to reach their old values.
        self._share, self._before, self._sampled_at_s = share, after, now_s
        if usage is not None:
            self._usage = usage
        return self._usage or 0.0

    def _read(self) -> tuple[float | None, CpuTimes]:
        """The times now, and the number of processors they cover: None for the machine's."""
        stat = self._read_stat()
        share = None if self._group is None else self._group.processors()
        if self._group is not None and share is not None:
            with suppress(ValueError):
                # A limit above the machine's size is no further limit.
                share = min(share, count_processors(stat))
            # If there is a limit but no account, use the machine's times.
            with suppress(ValueError):
                return share, self._group.read_times(self._reactor.seconds, share)
        return None, parse_cpu_times(stat)


_ZONE_TEXTS: Mapping[ClockTimezone, Callable[[int], str]] = {
    ClockTimezone.ABBREVIATION: local_zone.abbreviation,
    ClockTimezone.NAME: local_zone.name,
}


class SystemReadings:
    """The readings of this machine. ``root`` is "/" except in tests. ``zone`` returns the offset of
    local time from UTC and its daylight saving part, in seconds; ``zone_texts`` return the zone as
    text. ``clock_timezone`` may be set to one of these at any time."""

    def __init__(
        self,
        reactor: IReactorTime,
        wall_clock: IWallClock,
        root: Path = Path("/"),
        zone: Callable[[int], tuple[int, int]] = local_zone,
        zone_texts: Mapping[ClockTimezone, Callable[[int], str]] = _ZONE_TEXTS,
    ) -> None:
        self.clock_timezone = ClockTimezone.HOURS
        self._zone_texts = zone_texts
        self._wall_clock = wall_clock
        self._root = root
        self._zone = zone
        self._reactor = reactor
        self._group = ControlGroup(root)

    def getters(self, device_info: IDeviceInfoProvider) -> Iterator[SystemGetter]:
        """A getter for each datastream that this machine can read: without /proc, those that need
        it are not announced. A temperature sensor may come and go."""
        table: dict[str, Callable[[], Any]] = {
            "device.identifier": device_info.device_id,
            "device.serialNumber": device_info.serial_number,
            "device.software": device_info.software,
            "device.clock": self._clock,
            "device.storage.disk.total": self._disk_total,
            "device.storage.disk.usage": self._disk_usage,
        }
        if self._has("proc/uptime"):
            table["device.upTime"] = lambda: parse_uptime_s(self._text("proc/uptime"))
        if self._has("proc/stat"):
            meter = CpuMeter(lambda: self._text("proc/stat"), self._reactor, self._group)
            table["device.cpu.total"] = self._processors
            table["device.cpu.usage"] = meter.usage_percent
            table["device.cpu.status"] = lambda: cpu_status(meter.usage_percent())
        if self._has("proc/meminfo"):
            table["device.ram.total"] = self._ram_total
            table["device.ram.usage"] = self._ram_usage
        for datastream_id, read in table.items():
            yield SystemGetter(datastream_id, read)
        sensor = TemperatureSensor(self._root, self._reactor.seconds)
        temperatures: dict[str, Callable[[], Any]] = {
            "device.temperature.value": sensor.celsius,
            "device.temperature.status": lambda: temperature_status(sensor.celsius()),
        }
        for datastream_id, read in temperatures.items():
            yield SystemGetter(datastream_id, read, sensor.is_there)

    def _clock(self) -> dict[str, Any]:
        """The form of SET_CLOCK_EQUIPMENT: timezone + dst is the offset of date and time, unless
        the timezone is wanted as text."""
        now_ms = self._wall_clock.now_ms()
        offset_s, dst_s = self._zone(now_ms)
        text = self._zone_texts.get(self.clock_timezone)
        local = datetime.fromtimestamp(now_ms // 1000, UTC) + timedelta(seconds=offset_s)
        return {
            "date": local.strftime("%Y-%m-%d"),
            "time": local.strftime("%H:%M:%S"),
            "timezone": _hours(offset_s - dst_s) if text is None else text(now_ms),
            "dst": _hours(dst_s),
        }

    def _processors(self) -> int:
        """How many processors the agent's container may use, rounded up."""
        number = count_processors(self._text("proc/stat"))
        share = self._group.processors()
        return number if share is None else min(number, ceil(share))

    def _memory(self) -> Memory:
        return self._group.memory(parse_memory(self._text("proc/meminfo")))

    def _ram_total(self) -> int:
        return self._memory().total // MIB

    def _ram_usage(self) -> float:
        memory = self._memory()
        return percent(memory.total - memory.available, memory.total)

    def _disk_total(self) -> int:
        disk = os.statvfs(self._root)
        return disk.f_blocks * disk.f_frsize // MIB

    def _disk_usage(self) -> float:
        """As in df: the share of what programs may use, without the part reserved for root."""
        disk = os.statvfs(self._root)
        used = disk.f_blocks - disk.f_bfree
        return percent(used, max(1, used + disk.f_bavail))

    def _has(self, place: str) -> bool:
        return (self._root / place).exists()

    def _text(self, place: str) -> str:
        return (self._root / place).read_text("utf-8", "replace")


def _hours(seconds: int) -> float:
    """Whole hours stay whole numbers; half-hour zones exist."""
    hours, rest = divmod(seconds, _HOUR_S)
    return seconds / _HOUR_S if rest else hours
