"""The time of day: the only module that reads the system's clock, and the one that sets it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, tzinfo
from io import BytesIO
from pathlib import Path
from typing import Any

from zope.interface import implementer

from oda.built import BUILT_MS
from oda.errors import WritingFailed
from oda.interfaces import IDatastreamSetter, IWallClock
from oda.model import HOST

#: The system's clock is never set to a time before the package was built: expired certificates
#: would be valid again.
EARLIEST_MS = BUILT_MS
#: Nor is it set to a time after the end of the year 2100.
LATEST_MS = 4_133_980_799_999

#: How many characters of a wrong value an error shows.
_SHOWN_LENGTH = 40

#: A zone's name in the IANA database: "Area/City". Of the names with one part, only UTC is certain
#: not to be a POSIX rule.
_NAME = re.compile(r"UTC|[A-Za-z][\w+-]*(/[A-Za-z][\w+-]*)+", re.ASCII)

#: How the device's owner lets the platform set the clock.
HOW_TO_ALLOW = (
    "setting the system's clock is not allowed; allowSetClock=true in"
    " es.amplia.oda.dispatcher.opengate.cfg allows it"
)


@implementer(IWallClock)
class SystemWallClock:
    """The system's time of day."""

    def now_ms(self) -> int:
        """See ``IWallClock.now_ms``."""
        return time.time_ns() // 1_000_000


class LocalZone:
    """The zone of the machine, even after a change: the C library reads the ``file`` only once.

    If ``TZ`` is set, it is the zone for the whole life of the process.
    """

    def __init__(
        self, file: Path = Path("/etc/localtime"), environ: Mapping[str, str] = os.environ
    ) -> None:
        self._file = file
        self._environ = environ
        self._seen: tuple[int, int, int] | None = None
        self._zone: tzinfo | None = None

    def __call__(self, at_ms: int) -> tuple[int, int]:
        """The zone at that time: its offset from UTC, and the daylight saving part of the offset,
        both in seconds."""
        zone = None if self._environ.get("TZ") else self._read()
        if zone is not None:
            moment = datetime.fromtimestamp(at_ms / 1000, zone)
            offset, saving = moment.utcoffset(), moment.dst()
            if offset is not None:
                return _seconds(offset), _seconds(saving or timedelta())
        local = time.localtime(at_ms / 1000)
        return local.tm_gmtoff, local.tm_gmtoff + time.timezone if local.tm_isdst > 0 else 0

    def abbreviation(self, at_ms: int) -> str:
        """The zone's name at that time, which shows daylight saving: CET, CEST."""
        zone = None if self._environ.get("TZ") else self._read()
        if zone is not None:
            found = datetime.fromtimestamp(at_ms / 1000, zone).tzname()
            if found is not None:
                return found
        return time.localtime(at_ms / 1000).tm_zone

    def name(self, at_ms: int) -> str:
        """The zone's name in the IANA database, e.g. Europe/Madrid; its abbreviation if that name
        is unknown: ``TZ`` holds a rule, or the file is a copy."""
        given = self._environ.get("TZ", "").removeprefix(":")
        path = given or os.path.realpath(self._file)
        name = path.rpartition("/zoneinfo/")[2].removeprefix("posix/").removeprefix("right/")
        return name if _NAME.fullmatch(name) else self.abbreviation(at_ms)

    def _read(self) -> tzinfo | None:
        try:
            status = self._file.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                from zoneinfo import ZoneInfo  # only device.clock needs it

                self._zone = ZoneInfo.from_file(_Whole(self._file.read_bytes()))
                self._seen = seen
        except Exception:  # noqa: BLE001 - an invalid or half-written file may raise anything
            return None
        return self._zone


class _Whole(BytesIO):
    """Bytes without an end of file: at the end of a half-written file, the library would read for
    ever and block the reactor."""

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        if size is not None and len(found) < size:
            raise EOFError("the file of the zone is not whole")
        return found


def _seconds(span: timedelta) -> int:
    return int(span.total_seconds())


#: The zone of this machine; see ``LocalZone``.
local_zone = LocalZone()


def set_system_time(at_ms: int) -> None:
    """Set the system's clock. Raises ``PermissionError`` or another ``OSError``."""
    time.clock_settime_ns(time.CLOCK_REALTIME, at_ms * 1_000_000)


@implementer(IDatastreamSetter)
class ClockSetter:
    """Sets the host's clock to a value in milliseconds since the Unix epoch.

    ``is_allowed()`` says whether the device's owner lets the platform do so. ``set_time_ms`` is the
    system call, which takes milliseconds; ``was_set()`` is called after it.
    """

    def __init__(
        self,
        datastream_id: str = "device.clock",
        set_time_ms: Callable[[int], None] = set_system_time,
        is_allowed: Callable[[], bool] = lambda: False,
        was_set: Callable[[], None] = lambda: None,
    ) -> None:
        self.datastream_id = datastream_id
        self._was_set = was_set
        self._set_time_ms = set_time_ms
        self._is_allowed = is_allowed

    def devices(self) -> tuple[str, ...]:
        """The host only."""
        return (HOST,)

    def set(self, device_id: str, value: Any) -> None:
        """See ``IDatastreamSetter.set``."""
        if not self._is_allowed():
            raise WritingFailed(HOW_TO_ALLOW)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise WritingFailed(
                f"the clock takes milliseconds since 1970 as a whole number, not {_shown(value)}"
            )
        if not EARLIEST_MS <= value <= LATEST_MS:
            raise WritingFailed(
                f"the clock takes times from {_date(EARLIEST_MS)}, when this version was built, to"
                f" {_date(LATEST_MS)}"
            )
        try:
            self._set_time_ms(value)
        except PermissionError:
            raise WritingFailed(
                "not permitted: setting the clock needs CAP_SYS_TIME (run the agent as root, or "
                "give its systemd unit AmbientCapabilities=CAP_SYS_TIME)"
            ) from None
        except (OSError, OverflowError) as error:
            raise WritingFailed(f"the system did not set the clock: {error}") from error
        self._was_set()


def _date(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at_ms // 1000))


def _shown(value: object) -> str:
    """The start of a wrong value, which may be as long as a message."""
    if isinstance(value, str | bytes):
        value = value[:_SHOWN_LENGTH]
    elif isinstance(value, list | dict | tuple):
        return type(value).__name__
    return repr(value)
