"""The bounds of the outbox, and that every datapoint is accounted for when they are reached."""

from __future__ import annotations

import random
import tempfile
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from oda.errors import OutboxFull
from oda.model import MessageClass
from oda.outbox import limits
from oda.outbox.clock import OutboxClock, Uptime
from oda.outbox.limits import PAGE_BYTES, row_cost
from oda.outbox.queue import Span
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.transaction import Totals
from oda.settings import OutboxPolicy, OutboxSettings, OutboxSync
from tests.outbox.fakes import START_MS, Device, FakeWallClock

FAST = OutboxSync.NORMAL
DAY_S = 86_400.0


def balance(totals: Totals) -> int:
    """What was accepted and is neither delivered, dropped, dead nor stored: must be none."""
    return totals.accepted.datapoints - (
        totals.delivered.datapoints
        + totals.dropped.datapoints
        + totals.dead.datapoints
        + sum(stored.datapoints for stored in totals.stored.values())
    )


def disk_bytes(path: Path) -> int:
    return sum(
        one.stat().st_size for suffix in ("", "-wal") if (one := Path(f"{path}{suffix}")).exists()
    )


def outcome(put: Deferred[int]) -> object:
    found: list[object] = []
    put.addBoth(found.append)
    return getattr(found[0], "value", found[0])


@pytest.mark.parametrize("sizes", ["small", "mixed", "large"])
def test_thirty_days_offline(sizes: str, tmp_path: Path) -> None:
    """Without a connection the file stays under its bound plus 5 %, the newest messages are kept,
    and produced = delivered + dropped + dead once the connection is back, exactly."""
    bound = 2 * 1024 * 1024
    lengths = {"small": (60, 300), "mixed": (20, 9000), "large": (3000, 60_000)}[sizes]
    chance = random.Random(sizes)
    device = Device(tmp_path / "outbox.sqlite", max_bytes=bound, sync=FAST, linger_s=60.0)
    produced = highest = 0
    steps = 30 * 24 if sizes == "small" else 30 * 8
    for step in range(steps):
        for _ in range(chance.randrange(1, 40 if sizes == "small" else 8)):
            datapoints = chance.randrange(0, 9)
            produced += datapoints
            device.put(chance.randbytes(chance.randrange(*lengths)), datapoints=datapoints)
        device.clock.advance(30 * DAY_S / steps)
        highest = max(highest, disk_bytes(device.settings.path))
        if step % 100 == 70:
            device.restart()
    assert highest <= bound * 1.05
    assert highest >= bound * 0.6  # the room is used
    newest = device.put(b"the newest")
    device.turn()
    delivered = 0
    dead = 0
    while rows := device.take(256):
        if not dead:
            device.outbox.bury([rows[0].row_id], "a test")
            dead, rows = rows[0].datapoints, rows[1:]
        delivered += sum(row.datapoints for row in rows)
        last = rows[-1]
        device.outbox.retire([row.row_id for row in rows])
    assert last.row_id == outcome(newest)
    device.clock.advance(61.0)
    device.restart()
    totals = device.outbox.totals()
    assert totals.accepted.datapoints == produced + 1
    assert totals.delivered.datapoints == delivered
    assert totals.dead.datapoints == dead
    assert produced + 1 == delivered + totals.dropped.datapoints + dead
    device.stop()


def test_the_newest_are_kept_in_order(tmp_path: Path) -> None:
    """What is dropped is the oldest, without a gap; it is counted and said once."""
    device = Device(tmp_path / "outbox.sqlite", max_bytes=300 * 1024, sync=FAST, head_rows=16)
    with capturedLogs() as logs:
        for start in range(0, 6000, 50):
            device.put_all([b"%06d" % number * 20 for number in range(start, start + 50)])
    rows = device.take_all()
    assert [row.row_id for row in rows] == list(range(rows[0].row_id, 6001))
    assert device.counters["messages_dropped:full"] == rows[0].row_id - 1
    assert sum("is full" in str(one.get("log_format")) for one in logs) == 1
    assert balance(device.outbox.totals()) == 0
    device.stop()


def test_refusing_keeps_what_there_is(tmp_path: Path) -> None:
    """With the policy to refuse a new message fails with OutboxFull and nothing is dropped."""
    device = Device(
        tmp_path / "outbox.sqlite", max_bytes=300 * 1024, sync=FAST, policy=OutboxPolicy.REFUSE
    )
    puts = device.put_all([b"x" * 500 for _ in range(1000)])
    outcomes = [outcome(put) for put in puts]
    accepted = [one for one in outcomes if isinstance(one, int)]
    assert accepted == list(range(1, len(accepted) + 1))
    assert all(isinstance(one, OutboxFull) for one in outcomes[len(accepted) :])
    assert len(device.take_all()) == len(accepted)
    totals = device.outbox.totals()
    assert totals.accepted.messages == len(accepted)
    assert totals.dropped.messages == 0
    device.stop()


@pytest.mark.parametrize("policy", list(OutboxPolicy))
def test_a_response_finds_room_in_a_full_outbox(policy: OutboxPolicy, tmp_path: Path) -> None:
    """Telemetry can't use up what is reserved for responses."""
    device = Device(tmp_path / "outbox.sqlite", max_bytes=400 * 1024, sync=FAST, policy=policy)
    for put in device.put_all([b"x" * 500 for _ in range(2000)]):
        put.addErrback(lambda _: None)
    response = device.put(b"y" * 20_000, response=True)
    device.turn()
    assert isinstance(outcome(response), int)
    assert device.take(1)[0].message_class is MessageClass.RESPONSE
    device.stop()


def test_a_message_larger_than_the_outbox_is_refused(tmp_path: Path) -> None:
    """It would push out everything and still not fit."""
    device = Device(tmp_path / "outbox.sqlite", max_bytes=300 * 1024)
    device.put_all([b"small"])
    assert isinstance(outcome(device.put(b"x" * 400_000)), OutboxFull)
    assert len(device.take_all()) == 1
    device.stop()


def test_the_number_of_rows_is_bounded(tmp_path: Path) -> None:
    """Beyond ``max_rows`` the oldest go."""
    device = Device(tmp_path / "outbox.sqlite", max_rows=100, sync=FAST)
    device.put_all([b"%d" % number for number in range(250)])
    rows = device.take_all()
    assert len(rows) <= 100
    assert rows[-1].payload == b"249"
    assert device.counters["messages_dropped:full"] == 250 - len(rows)
    device.stop()


def test_acknowledged_rows_give_way_first(tmp_path: Path) -> None:
    """Rows that only linger are let go, and count as delivered, before anything is dropped."""
    device = Device(tmp_path / "outbox.sqlite", max_rows=100, sync=FAST, linger_s=3600.0)
    device.put_all([b"old"] * 90)
    device.outbox.retire([row.row_id for row in device.take_all()])
    device.put_all([b"new"] * 90)
    assert device.outbox.totals().dropped.messages == 0
    assert device.outbox.totals().delivered.messages > 0
    assert len(device.take_all()) == 90
    device.stop()


def test_old_messages_are_dropped(tmp_path: Path) -> None:
    """Beyond ``max_age_s`` pending rows go, also over a restart, with their own reason."""
    device = Device(tmp_path / "outbox.sqlite", max_age_s=3600.0, sync=FAST, head_rows=10)
    device.put_all([b"old"] * 50)
    device.clock.advance(1800.0)
    device.put_all([b"young"] * 5)
    device.restart()
    device.clock.advance(1801.0)
    device.clock.advance(1.0)
    assert [row.payload for row in device.take_all()] == [b"young"] * 5
    assert device.counters["datapoints_dropped:age"] == 50
    assert balance(device.outbox.totals()) == 0
    device.stop()


def test_setting_the_clock_makes_nothing_old(tmp_path: Path) -> None:
    """A device that boots in 1970 and learns the time later keeps its messages."""
    device = Device(tmp_path / "outbox.sqlite", max_age_s=3600.0, sync=FAST)
    device.wall.start_ms = 5000
    device.restart()
    device.put_all([b"from 1970"])
    device.wall.start_ms = 1_750_000_000_000
    device.clock.advance(10.0)
    device.restart()
    device.clock.advance(10.0)
    assert len(device.take_all()) == 1
    device.stop()


def test_the_age_clock_counts_time_off_where_it_can_be_believed() -> None:
    """A restart with a plausible time of day before and after adds the time in between."""
    time = Clock()
    wall = FakeWallClock(time)
    uptime = Uptime("", time.seconds)

    def now_ms(wall_ms: int, clock_ms: int, before_ms: int) -> int:
        """What the age clock says at its start, with that time of day and those totals."""
        wall.start_ms = wall_ms - int(time.seconds() * 1000)
        clock = OutboxClock(time, wall, uptime)
        clock.go_on_from(Totals(clock_ms=clock_ms, wall_ms=before_ms))
        return clock.now_ms()

    first = OutboxClock(time, wall, uptime)
    time.advance(10.0)
    assert first.now_ms() == START_MS + 10_000
    before_ms = START_MS + 10_000
    assert now_ms(before_ms + 100_000, first.now_ms(), before_ms) == before_ms + 100_000
    assert now_ms(5_000, first.now_ms(), before_ms) == first.now_ms(), "set back"
    assert now_ms(START_MS, 90_000, 80_000) == 90_000, "from 1970"


def test_memory_does_not_depend_on_the_backlog(tmp_path: Path) -> None:
    """200,000 waiting messages take as much memory as 20,000, and come in order."""
    device = Device(tmp_path / "outbox.sqlite", max_bytes=1 << 30, sync=FAST)
    content = b"a message of fifty bytes, more or less, as it comes"

    process = psutil.Process()

    def fill(rows: int) -> int:
        for _ in range(rows // 1000):
            device.put_all([content] * 1000)
        return int(process.memory_info().rss)

    small = fill(20_000)
    large = fill(180_000)
    device.restart()
    reopened = process.memory_info().rss
    expected = 1
    while rows := device.take(500):
        assert [row.row_id for row in rows] == list(range(expected, expected + len(rows)))
        expected += len(rows)
        device.outbox.retire([row.row_id for row in rows])
    drained = process.memory_info().rss
    assert expected == 200_001
    assert max(large, reopened, drained) < small + 10 * 1024 * 1024
    device.stop()


#: The least that a row has beside its payload is so much less than the model takes it to have: ids,
#: checksums and lengths are stored in as few bytes as they need.
_SPARED_BYTES = 10


@settings(max_examples=25, deadline=None)
@given(st.one_of(st.integers(0, 5000), st.integers(0, 100_000)))
@example(0)
@example(309)  # 3 rows share a page; with 30 bytes beside each payload only 2 would
@example(478)  # 2 and 1
@example(791)
@example(960)  # a row in its page, or with an overflow page
@example(1337)
def test_the_model_of_costs_is_that_of_sqlite(length: int) -> None:
    """A file of rows of one length is not larger than the model says, but for 3 % and some pages,
    and not smaller than it says for rows that are a few bytes shorter. (A few bytes may decide
    whether one more row fits into each page, so a share of the cost is no bound.)"""
    with tempfile.TemporaryDirectory() as directory:
        device = Device(Path(directory) / "outbox.sqlite", max_bytes=1 << 30, sync=FAST)
        rows = max(40, min(3000, 2_000_000 // (length + 40)))
        device.put_all([bytes(length)] * rows)
        device.stop()
        modelled = rows * row_cost(length)
        used = device.settings.path.stat().st_size - 6 * PAGE_BYTES
    slack = modelled * 0.03 + 4 * PAGE_BYTES
    least = rows * limits._cost(length - _SPARED_BYTES)
    assert least - slack <= used <= modelled + slack


def test_little_of_the_file_is_kept_in_memory(tmp_path: Path) -> None:
    """Neither the connection that writes nor the one that reads keeps as much of the file as SQLite
    would: that memory would be taken by the first backlog and never come back."""
    path = tmp_path / "outbox.sqlite"
    with closing(SqliteStore(path, OutboxSettings(path=path))) as store:
        store.open()
        assert store.page(MessageClass.TELEMETRY, Span(0, 10), 10, 1000) == ([], set())
        assert store.query("PRAGMA cache_size") == [(-256,)]
        assert store.writer.execute("PRAGMA cache_size").fetchall() == [(-768,)]
