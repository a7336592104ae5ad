"""The devices and their datapoints, stored as on a real platform: one datapoint per device,
datastream, feed and time. A repeated datapoint counts as a copy, not as a new one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from oda.interfaces import IWallClock
from oda.platform.database import Database
from oda.platform.naming import wire_name
from oda.platform.wire import Point, Telemetry

_SEEN = (
    "INSERT INTO devices VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
    " SET last_seen_ms = excluded.last_seen_ms, via = excluded.via"
)
_DATAPOINT = (
    "INSERT INTO datapoints VALUES (?, ?, ?, ?, ?, ?, ?, 1, 0, ?)"
    " ON CONFLICT (device, datastream, feed, at_ms) DO UPDATE SET copies = copies + 1,"
    " conflicts = conflicts + (value <> excluded.value), value = excluded.value"
)
_LATEST = (
    "INSERT INTO latest VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (device, datastream, feed) DO UPDATE SET at_ms = excluded.at_ms,"
    " value = excluded.value, arrived_ms = excluded.arrived_ms"
    " WHERE excluded.at_ms >= latest.at_ms"
)

#: How often a device that keeps sending is marked as seen.
_SEEN_EVERY_MS = 1000
_MAX_DEVICES = 10_000
_MAX_LATEST = 200_000
#: The total length of names for which the time of the last arrival is kept, in characters.
_MAX_ARRIVAL_CHARS = 4 * 1024 * 1024
#: The size of a datapoint or a latest value, in bytes: its names count like its value.
_SIZE = (
    "length(CAST(value AS BLOB)) + length(CAST(device AS BLOB))"
    " + length(CAST(datastream AS BLOB)) + length(CAST(coalesce(feed, '') AS BLOB))"
)

#: Bounds that cost more than arithmetic are checked after this many datapoints or bytes.
_CHECK_ROWS = 5_000
_CHECK_BYTES = 1024 * 1024

_RecordT = TypeVar("_RecordT")


class StoredDatapoint(msgspec.Struct, frozen=True, rename=wire_name):
    """A recorded datapoint. ``feed`` is "" if the device named none; ``copies`` counts how often it
    arrived, ``conflicts`` how often with a value other than before."""

    device: str
    datastream: str
    feed: str
    at_ms: int
    from_ms: int | None
    value: Any
    arrived_ms: int
    copies: int
    conflicts: int


class LatestValue(msgspec.Struct, frozen=True, rename=wire_name):
    """The newest datapoint (by its own time) of a datastream and feed."""

    device: str
    datastream: str
    feed: str
    at_ms: int
    value: Any
    arrived_ms: int


class DeviceRecord(msgspec.Struct, frozen=True, rename=wire_name):
    """A device that was seen; ``via`` is the host that speaks for it, None for a host."""

    id: str
    first_seen_ms: int
    last_seen_ms: int
    via: str | None


class Store:
    """Writes and reads devices and datapoints, in bounded number: the first to arrive go first."""

    def __init__(
        self,
        database: Database,
        clock: IWallClock,
        max_datapoints: int = 500_000,
        max_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._database = database
        self._clock = clock
        self._max_datapoints = max_datapoints
        self._max_bytes = max_bytes
        self._unchecked_rows = 0
        self._unchecked_bytes = 0
        self._seen: dict[str, int] = {}
        self._arrival_chars = 0
        self._arrivals: dict[tuple[str, str, str], int] = {}
        self._number: int = database.select("SELECT coalesce(max(number), 0) FROM datapoints")[0][0]
        database.before_commit(self._trim)

    def device_seen(self, device: str, via: str | None = None) -> None:
        """The device has connected, or has sent something (through the host ``via``)."""
        now_ms = self._clock.now_ms()
        if abs(now_ms - self._seen.get(device, -_SEEN_EVERY_MS)) < _SEEN_EVERY_MS:
            return
        if len(self._seen) >= _MAX_DEVICES:
            self._seen.clear()
        self._seen[device] = now_ms
        self._database.defer(_SEEN, (device, now_ms, now_ms, via))

    def received(self, host: str, telemetry: Telemetry) -> list[tuple[Point, int, bytes]]:
        """Store the datapoints of a message that ``host`` sent; returns each with its time and its
        value as JSON.

        A datapoint without a time of its own (the reduced form) gets the time of arrival, or a
        millisecond later if an earlier one has that time.
        """
        device = telemetry.device or host
        self.device_seen(device, None if device == host else host)
        now_ms = self._clock.now_ms()
        kept: list[tuple[Point, int, bytes]] = []
        for point in telemetry.points:
            at_ms = point.at_ms
            if at_ms is None:
                at_ms = self._date(device, point, now_ms)
            json = msgspec.json.encode(point.value)
            value = json.decode()
            self._number += 1
            key = (device, point.datastream, point.feed, at_ms)
            size = len(value) + sum(4 * len(name or "") for name in key[:3])
            self._database.defer(
                _DATAPOINT, (*key, point.from_ms, value, now_ms, self._number), 2 * size
            )
            self._database.defer(_LATEST, (*key, value, now_ms))
            self._unchecked_rows += 1
            self._unchecked_bytes += size
            kept.append((point, at_ms, json))
        return kept

    def _date(self, device: str, point: Point, now_ms: int) -> int:
        key = (device, point.datastream, point.feed)
        at_ms = max(now_ms, self._arrivals.get(key, now_ms - 1) + 1)
        self._arrival_chars += sum(len(name or "") for name in key)
        if len(self._arrivals) >= _MAX_DEVICES or self._arrival_chars > _MAX_ARRIVAL_CHARS:
            self._arrivals.clear()
            self._arrival_chars = 0
        self._arrivals[key] = at_ms
        return at_ms

    def _trim(self) -> None:
        upto = self._number - self._max_datapoints
        if upto > 0:
            self._database.execute("DELETE FROM datapoints WHERE number <= ?", (upto,))
        # these scan every row, so not at every commit
        if self._unchecked_rows < _CHECK_ROWS and self._unchecked_bytes < _CHECK_BYTES:
            return
        self._unchecked_rows = self._unchecked_bytes = 0
        self._database.bound_bytes("datapoints", _SIZE, self._max_bytes)
        self._bound_latest()
        surplus = self._database.select("SELECT count(*) FROM devices")[0][0] - _MAX_DEVICES
        if surplus > 0:
            oldest = "(SELECT id FROM devices ORDER BY last_seen_ms LIMIT ?)"
            self._database.execute(f"DELETE FROM latest WHERE device IN {oldest}", (surplus,))
            self._database.execute(f"DELETE FROM devices WHERE id IN {oldest}", (surplus,))

    def _bound_latest(self) -> None:
        total = self._database.select(f"SELECT coalesce(sum({_SIZE}), 0) FROM latest")[0][0]
        while total > self._max_bytes:
            # Keep the newest values; drop half of them at a time.
            self._database.execute(
                "DELETE FROM latest WHERE arrived_ms <= (SELECT arrived_ms FROM latest"
                " ORDER BY arrived_ms LIMIT 1 OFFSET (SELECT count(*) / 2 FROM latest))"
            )
            total = self._database.select(f"SELECT coalesce(sum({_SIZE}), 0) FROM latest")[0][0]
        count = self._database.select("SELECT count(*) FROM latest")[0][0]
        if count > _MAX_LATEST:
            self._database.execute(
                "DELETE FROM latest WHERE arrived_ms <= (SELECT arrived_ms FROM latest"
                " ORDER BY arrived_ms LIMIT 1 OFFSET ?)",
                (count - _MAX_LATEST + _MAX_LATEST // 20,),
            )

    def devices(self) -> list[DeviceRecord]:
        """Every device seen, by id."""
        rows = self._database.query("SELECT * FROM devices ORDER BY id")
        return [DeviceRecord(*row) for row in rows]

    def device(self, device: str) -> DeviceRecord | None:
        """One device, None when it was never seen."""
        rows = self._database.query("SELECT * FROM devices WHERE id = ?", (device,))
        return DeviceRecord(*rows[0]) if rows else None

    def latest(self, device: str) -> list[LatestValue]:
        """The newest value of each datastream and feed of a device."""
        rows = self._database.query(
            "SELECT * FROM latest WHERE device = ? ORDER BY datastream, feed", (device,)
        )
        return [_with_value(LatestValue, row, 4) for row in rows]

    def datapoints(
        self,
        device: str,
        datastream: str | None = None,
        feed: str | None = None,
        from_ms: int | None = None,
        to_ms: int | None = None,
        limit: int = 1_000_000,
    ) -> list[StoredDatapoint]:
        """Datapoints with ``from_ms`` <= time < ``to_ms``, oldest first; of more than ``limit``,
        the newest."""
        where, arguments = ["device = ?"], [device]
        bounds: Sequence[tuple[str, Any]] = (
            ("datastream = ?", datastream),
            ("feed = ?", feed),
            ("at_ms >= ?", from_ms),
            ("at_ms < ?", to_ms),
        )
        for condition, value in bounds:
            if value is not None:
                where.append(condition)
                arguments.append(value)
        rows = self._database.query(
            "SELECT device, datastream, feed, at_ms, from_ms, value, arrived_ms, copies, conflicts"
            f" FROM datapoints WHERE {' AND '.join(where)}"
            " ORDER BY at_ms DESC, number DESC LIMIT ?",
            [*arguments, limit],
        )
        return [_with_value(StoredDatapoint, row, 5) for row in reversed(rows)]

    def tally(self, device: str) -> dict[str, int]:
        """The number of stored datapoints of a device, and of copies and conflicts."""
        row = self._database.query(
            "SELECT count(*), coalesce(sum(copies - 1), 0), coalesce(sum(conflicts), 0)"
            " FROM datapoints WHERE device = ?",
            (device,),
        )[0]
        return {"datapoints": row[0], "copies": row[1], "conflicts": row[2]}


def _with_value(kind: Callable[..., _RecordT], row: Sequence[Any], value: int) -> _RecordT:
    """The record from a row whose column ``value`` is JSON."""
    return kind(*row[:value], msgspec.json.decode(row[value]), *row[value + 1 :])
