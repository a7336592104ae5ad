"""The time of day and its setter. The machine's clock is never touched."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from oda.built import BUILT_MS
from oda.datastreams.clock import (
    EARLIEST_MS,
    ClockSetter,
    LocalZone,
    SystemWallClock,
    local_zone,
)
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


@pytest.mark.parametrize(
    ("link", "name"),
    [
        ("usr/share/zoneinfo/Europe/Madrid", "Europe/Madrid"),
        ("usr/share/zoneinfo/posix/America/Argentina/Salta", "America/Argentina/Salta"),
        ("usr/share/zoneinfo/Etc/GMT+3", "Etc/GMT+3"),
        ("usr/share/zoneinfo/UTC", "UTC"),
        ("elsewhere/zone", "CEST"),
        (None, "CEST"),
    ],
)
def test_the_zone_as_text(tmp_path: Path, link: str | None, name: str) -> None:
    """Its name is that of the file that the link names; where that is none, or the file a copy, it
    is the abbreviation, which is that of the time of the year."""
    file, january, july = tmp_path / "localtime", 1_704_067_200_000, 1_719_792_000_000
    target = file if link is None else tmp_path / link
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(tz_file(b"CET-1CEST,M3.5.0,M10.5.0/3"))
    if link is not None:
        file.symlink_to(target)
    zone = LocalZone(file, {})
    assert (zone.abbreviation(january), zone.abbreviation(july)) == ("CET", "CEST")
    assert zone.name(july) == name


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Europe/Madrid", "Europe/Madrid"),
        (":Europe/Madrid", "Europe/Madrid"),
        (":/usr/share/zoneinfo/Asia/Kolkata", "Asia/Kolkata"),
        ("CET-1CEST,M3.5.0/2,M10.5.0/3", None),
        ("EST5EDT", None),
        (":/etc/zone", None),
    ],
)
def test_the_zone_of_the_environment_as_text(tmp_path: Path, given: str, name: str | None) -> None:
    """``TZ`` rules; where it holds a rule instead of a name, the abbreviation is that of the
    process."""
    file = tmp_path / "localtime"
    file.write_bytes(tz_file(b"<+0530>-5:30"))
    at_ms = 1_719_792_000_000
    zone = LocalZone(file, {"TZ": given})
    of_the_process = time.localtime(at_ms / 1000).tm_zone
    assert zone.abbreviation(at_ms) == of_the_process
    assert zone.name(at_ms) == (of_the_process if name is None else name)


def test_a_change_of_the_zone_is_followed(tmp_path: Path) -> None:
    """The file of the local zone is read anew when it is another one; ``TZ`` rules it out."""
    file = tmp_path / "localtime"
    zone = LocalZone(file, {})
    january, july = 1_704_067_200_000, 1_719_792_000_000
    file.write_bytes(tz_file(b"CET-1CEST,M3.5.0,M10.5.0/3"))
    assert (zone(january), zone(july)) == ((3600, 0), (7200, 3600))
    file.unlink()
    file.write_bytes(tz_file(b"<+0530>-5:30"))
    assert zone(july) == (19800, 0)
    assert LocalZone(file, {"TZ": "UTC"})(july) == local_of_the_process(july)
    whole = file.read_bytes()
    for broken in (b"rubbish", *(whole[:end] for end in range(len(whole) - 8))):
        file.write_bytes(broken)
        assert zone(july) == local_of_the_process(july), broken


def local_of_the_process(at_ms: int) -> tuple[int, int]:
    """What the C library says of its zone."""
    return LocalZone(Path("/nowhere"), {})(at_ms)


def tz_file(rule: bytes) -> bytes:
    """The file of a zone that follows one rule for ever (RFC 8536)."""

    def header(version: bytes, zones: int) -> bytes:
        return b"TZif" + version + bytes(15) + struct.pack(">6l", 0, 0, 0, 0, zones, 4)

    local = struct.pack(">lbb", 0, 0, 0) + b"UTC\0"
    return header(b"2", 1) + local + header(b"2", 1) + local + b"\n" + rule + b"\n"


def test_who_asked_for_it_hears_that_the_clock_was_set() -> None:
    """A clock that the platform has set can be believed; one that could not be set is as before."""
    heard: list[str] = []
    setter = ClockSetter(
        set_time_ms=lambda _: None, is_allowed=lambda: True, was_set=lambda: heard.append("set")
    )
    setter.set("", BUILT_MS + 1)
    assert heard == ["set"]
    with pytest.raises(WritingFailed):
        setter.set("", BUILT_MS - 1)
    assert heard == ["set"]
