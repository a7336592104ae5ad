"""The time of day and its setter. The machine's clock is never touched."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from oda.datastreams.clock import EARLIEST_MS, ClockSetter, SystemWallClock, local_zone
from oda.errors import WritingFailed
from oda.interfaces import IDatastreamSetter, IWallClock


def test_the_wall_clock_tells_milliseconds() -> None:
    """It agrees with the system's clock, in whole milliseconds."""
    clock = SystemWallClock()
    assert verifyObject(IWallClock, clock)
    before, now_ms, after = time.time_ns(), clock.now_ms(), time.time_ns()
    assert isinstance(now_ms, int)
    assert before // 1_000_000 <= now_ms <= after // 1_000_000


@pytest.mark.parametrize(
    ("value", "set_to"), [(1_800_000_000_123, 1_800_000_000_123), (1.8e12, 1_800_000_000_000)]
)
def test_the_value_reaches_the_system(value: Any, set_to: int) -> None:
    """Milliseconds since 1970 go to the system call; a whole number may come as a float."""
    calls: list[int] = []
    setter = ClockSetter(set_time_ms=calls.append, is_allowed=lambda: True)
    assert verifyObject(IDatastreamSetter, setter)
    assert setter.datastream_id == "device.clock"
    assert list(setter.devices()) == [""]
    assert setter.set("", value) is None
    assert calls == [set_to]


@pytest.mark.parametrize(
    "value",
    ["1800000000000", 1.5, True, None, float("nan"), float("inf"), {"date": 1}, "1" * 10**6],
)
def test_a_value_that_is_no_time(value: Any) -> None:
    """Anything but whole milliseconds is refused before the system call, with a short reason."""
    calls: list[int] = []
    setter = ClockSetter(set_time_ms=calls.append, is_allowed=lambda: True)
    with pytest.raises(WritingFailed, match="milliseconds since 1970") as refused:
        setter.set("", value)
    assert calls == []
    assert len(str(refused.value)) < 200


def raising(error: Exception) -> Callable[[int], None]:
    def set_time_ms(at_ms: int) -> None:
        raise error

    return set_time_ms


def test_without_permission() -> None:
    """The reason says what is missing and how to allow it."""
    setter = ClockSetter(set_time_ms=raising(PermissionError(1, "no")), is_allowed=lambda: True)
    with pytest.raises(WritingFailed, match=r"not permitted.*CAP_SYS_TIME.*systemd"):
        setter.set("", EARLIEST_MS)


def test_the_system_refuses() -> None:
    """Another error of the system is the reason."""
    setter = ClockSetter(
        set_time_ms=raising(OSError(22, "Invalid argument")), is_allowed=lambda: True
    )
    with pytest.raises(WritingFailed, match="Invalid argument"):
        setter.set("", EARLIEST_MS)


@pytest.mark.parametrize(
    ("zone", "at_ms", "offset_h", "dst_h"),
    [
        ("UTC0", 1_700_000_000_000, 0, 0),
        ("CET-1CEST,M3.5.0,M10.5.0/3", 1_705_000_000_000, 1, 0),
        ("CET-1CEST,M3.5.0,M10.5.0/3", 1_720_000_000_000, 2, 1),
        ("IST-5:30", 1_720_000_000_000, 5.5, 0),
        ("EST5EDT,M3.2.0,M11.1.0", 1_720_000_000_000, -4, 1),
    ],
)
def test_the_local_zone(
    monkeypatch: pytest.MonkeyPatch, zone: str, at_ms: int, offset_h: float, dst_h: float
) -> None:
    """Offset from UTC and its daylight saving, of that time of the year."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert local_zone(at_ms) == (offset_h * 3600, dst_h * 3600)
    finally:
        monkeypatch.undo()
        time.tzset()
