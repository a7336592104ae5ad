"""What a device can make the stand-in platform keep."""

from __future__ import annotations

from oda.platform.database import Database
from oda.platform.store import Store
from oda.platform.wire import Point, Telemetry
from tests.platform.fakes import FixedClock

MAX_BYTES = 4_000_000


def _size(database: Database, table: str) -> int:
    ((size,),) = database.query(
        "SELECT coalesce(sum(length(CAST(device AS BLOB)) + length(CAST(datastream AS BLOB))"
        f" + length(CAST(feed AS BLOB)) + length(CAST(value AS BLOB))), 0) FROM {table}"
    )
    return int(size)


def test_names_and_latest_values_count() -> None:
    """80 datapoints with names of a megabyte take no more than the bound, in either table: what
    bounds the values bounds the names, and the latest values as well."""
    clock, database = FixedClock(), Database()
    store = Store(database, clock, max_bytes=MAX_BYTES)
    for number in range(80):
        name = f"{number}" + "\U0001f600" * 250_000
        store.received("dev-1", Telemetry("dev-1", (), [point(name)]))
        database.flush()
        clock.ms += 10
    for table in ("datapoints", "latest"):
        assert 0 < _size(database, table) <= MAX_BYTES


def point(name: str) -> Point:
    return Point(datastream=name, feed="", at_ms=None, from_ms=None, value=1)
