"""A store that can't be used must not stop the agent, nor let a changed byte through."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from oda.errors import OutboxError
from oda.outbox import inspection
from oda.outbox.committer import State
from oda.outbox.database import FileLock, is_locked
from oda.outbox.limits import PAGE_BYTES
from oda.outbox.outbox import Outbox
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.store import StoreDamaged
from oda.settings import OutboxSettings
from tests.outbox.fakes import (
    Device,
    FakeCounters,
    FakeWallClock,
    StepWorker,
    copy_store,
)

#: The first byte of a page of a table that leads to others (SQLite's file format, 1.6).
INTERIOR_PAGE = 5
MUTATIONS = int(os.environ.get("ODA_OUTBOX_MUTATIONS", "60"))


def payload(number: int) -> bytes:
    return b'{"number":%d,"text":"%s"}' % (number, b"abcdefgh" * (number % 40))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with 800 messages, some dead letters and operations, as after a crash."""
    directory = tmp_path_factory.mktemp("original")
    device = Device(directory / "running.sqlite")
    device.put_all([payload(number) for number in range(1, 802)])
    device.put(b'{"response":1}', response=True, datapoints=0)
    device.turn()
    device.outbox.bury([device.outbox.take(2, 1 << 20)[1].row_id], "a test")
    device.outbox.rewind(False)
    device.outbox.journal.begin("operation-1", "REBOOT_EQUIPMENT", True)
    device.turn()
    copy_store(device.settings.path, directory / "original.sqlite")
    device.stop()
    copy_store(device.settings.path, directory / "closed.sqlite")
    return directory / "original.sqlite"


def flip(path: Path, chance: random.Random) -> None:
    with path.open("r+b") as file:
        size = path.stat().st_size
        for _ in range(chance.choice([1, 1, 5, 200])):
            place = chance.randrange(size)
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1 << chance.randrange(8)]))


def flip_in_first_page(path: Path, chance: random.Random) -> None:
    with path.open("r+b") as file:
        for _ in range(chance.choice([1, 3])):
            place = chance.randrange(PAGE_BYTES)
            file.seek(place)
            file.write(bytes([chance.randrange(256)]))


def truncate(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def zero(path: Path, chance: random.Random) -> None:
    size = path.stat().st_size
    start = chance.choice([0, chance.randrange(size)])
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(chance.choice([size - start, min(PAGE_BYTES, size - start)])))


def scramble_pages(path: Path, chance: random.Random) -> None:
    pages = path.stat().st_size // PAGE_BYTES
    with path.open("r+b") as file:
        for _ in range(3):
            one, other = chance.randrange(pages), chance.randrange(pages)
            file.seek(one * PAGE_BYTES)
            content = file.read(PAGE_BYTES)
            file.seek(other * PAGE_BYTES)
            file.write(content)


def version(path: Path, chance: random.Random) -> None:
    with path.open("r+b") as file:
        file.seek(60)
        file.write(chance.randrange(2, 1 << 31).to_bytes(4, "big"))


def garbage(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.randbytes(chance.randrange(1, 100_000)))


MUTATORS: list[Callable[[Path, random.Random], None]] = [
    flip,
    flip_in_first_page,
    truncate,
    zero,
    scramble_pages,
    version,
    garbage,
]


@pytest.mark.parametrize("seed", range(MUTATIONS))
def test_a_mutated_store_is_survived(seed: int, original: Path, tmp_path: Path) -> None:
    """Whatever happens to the file: the outbox runs within 2 s, accepts and gives messages, never
    gives one that was changed, keeps the order, and keeps what it can't use."""
    chance = random.Random(seed)
    path = tmp_path / "outbox.sqlite"
    source = chance.choice([original, original.with_name("closed.sqlite")])
    copy_store(source, path)
    wal = Path(f"{path}-wal")
    victim = wal if wal.exists() and chance.random() < 0.25 else path
    mutator = MUTATORS[seed % len(MUTATORS)]
    if victim.stat().st_size < PAGE_BYTES:
        victim = path
    mutator(victim, chance)
    started_s = time.thread_time()  # a machine with other work is no fault of the outbox
    device = Device(path)
    assert time.thread_time() - started_s < 2.0
    assert device.outbox.state is State.OPEN
    device.recover()
    found = device.take_all()
    device.turn()
    sound = {payload(number) for number in range(1, 802)} | {b'{"response":1}'}
    assert [row.payload for row in found if row.payload not in sound] == []
    for response in (True, False):
        ids = [row.row_id for row in found if (row.message_class.value == "response") == response]
        assert ids == sorted(set(ids))
    accepted = device.put_all([b"a new one"])
    assert accepted[0].called
    assert device.take_all()[-1].payload == b"a new one"
    totals = device.outbox.totals()
    assert totals.accepted.datapoints == (
        totals.delivered.datapoints
        + totals.dropped.datapoints
        + totals.dead.datapoints
        + sum(stored.datapoints for stored in totals.stored.values())
    )
    device.stop()
    assert device.outbox.state is State.CLOSED


def test_a_damaged_page_costs_only_its_own_rows(original: Path, tmp_path: Path) -> None:
    """The rows of all other pages are taken over, in order and with their ids."""
    path = tmp_path / "outbox.sqlite"
    copy_store(original.with_name("closed.sqlite"), path)
    with path.open("r+b") as file:
        file.seek(20 * PAGE_BYTES)
        file.write(b"\xff" * PAGE_BYTES)
    with capturedLogs() as logs:
        device = Device(path)
        device.recover()
    assert (tmp_path / "outbox.sqlite.damaged-1").read_bytes()[20 * PAGE_BYTES :][:4] == b"\xff" * 4
    assert any("is kept as" in str(one.get("log_format")) for one in logs)
    found = device.take_all()
    assert 700 < len(found) < 801
    assert device.counters["datapoints_dropped:damaged"] == 801 - len(found)
    device.stop()


@pytest.fixture(scope="module")
def uncounted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of one file, as after a crash, whose totals are 200 messages behind its rows."""
    path = tmp_path_factory.mktemp("uncounted") / "outbox.sqlite"
    device = Device(path, linger_s=0.0)
    device.put_all([payload(0)])
    for start in range(1, 201, 20):
        device.put_all([payload(number) for number in range(start, start + 20)])
    copy = path.with_name("copy.sqlite")
    copy_store(path, copy)
    device.stop()
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        (body,) = connection.execute("SELECT CAST(body AS TEXT) FROM totals").fetchone()
        assert json.loads(body)["last_ids"]["telemetry"] == 1
        connection.execute("PRAGMA journal_mode = DELETE")
    return copy


def test_new_ids_begin_above_all_rows_of_a_damaged_store(uncounted: Path, tmp_path: Path) -> None:
    """Whichever page is damaged: no new message gets the id of one that is recovered, a page of
    rows costs no more than its own, and everything can be acknowledged, now and after a restart."""
    content = uncounted.read_bytes()
    for page in range(len(content) // PAGE_BYTES):
        path = tmp_path / f"{page}" / "outbox.sqlite"
        path.parent.mkdir()
        copy_store(uncounted, path)
        with path.open("r+b") as file:
            file.seek(page * PAGE_BYTES)
            file.write(b"\xa5" * PAGE_BYTES)
        with capturedLogs() as logs:
            device = Device(path, linger_s=0.0)
            waiting = device.put_all([b"new %d" % number for number in range(20)])
            device.recover()
        waiting += device.put_all([b"newer"])
        assert all(one.called for one in waiting), f"page {page}"
        device.outbox.check_invariants()
        rows = device.take_all()
        ids = [row.row_id for row in rows]
        assert ids == sorted(set(ids)), f"page {page}"
        old = [row.payload for row in rows if not row.payload.startswith(b"new")]
        assert set(old) <= {payload(number) for number in range(201)}, f"page {page}"
        if content[page * PAGE_BYTES] != INTERIOR_PAGE:
            assert len(old) >= 201 - PAGE_BYTES // 40, f"page {page}"
        assert len(rows) == len(old) + 21, f"page {page}"
        is_told = any(" lost" in str(one.get("log_format")) for one in logs)
        assert is_told or len(old) == 201, f"page {page}"
        device.outbox.retire(ids)
        device.turn()
        device.outbox.check_invariants()
        device.restart()
        assert device.take_all() == [], f"page {page}"
        assert device.outbox.state is State.OPEN
        assert device.last_id() >= ids[-1]
        device.stop()


def test_new_ids_begin_above_those_of_an_earlier_damage(uncounted: Path, tmp_path: Path) -> None:
    """A store that lost its totals and the end of its rows, twice: the messages of the second life
    are all there in the third, and none of a new one has the id of one of them."""
    path = tmp_path / "outbox.sqlite"
    copy_store(uncounted, path)
    ids: set[int] = set()
    for life in range(3):
        device = Device(path, linger_s=0.0)
        device.recover()
        new = [b"life %d, %d" % (life, number) for number in range(100)]
        assert all(one.called for one in device.put_all(new))
        rows = device.take_all()
        for earlier in range(life + 1):
            kept = [row for row in rows if row.payload.startswith(b"life %d" % earlier)]
            assert len(kept) > 60
        assert len({row.row_id for row in rows}) == len(rows)
        assert not ids & {row.row_id for row in rows if row.payload in new}
        ids |= {row.row_id for row in rows}
        device.stop()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE totals SET crc = 0")
            connection.commit()
        newest = path.read_bytes().index(new[-1])
        with path.open("r+b") as file:
            file.seek(newest // PAGE_BYTES * PAGE_BYTES)
            file.write(b"\xa5" * PAGE_BYTES)


def test_a_lost_first_page_is_replaced(original: Path, tmp_path: Path) -> None:
    """Without the directory of the tables every message is still there."""
    path = tmp_path / "outbox.sqlite"
    copy_store(original.with_name("closed.sqlite"), path)
    with path.open("r+b") as file:
        file.write(bytes(PAGE_BYTES))
    device = Device(path)
    device.recover()
    assert len(device.take_all()) == 801
    assert device.outbox.journal.interrupted()[0].request.id == "operation-1"
    assert device.outbox.counts()["dead"] == 1
    device.stop()


def test_a_changed_payload_becomes_a_dead_letter(original: Path, tmp_path: Path) -> None:
    """SQLite can't see a flipped bit in a payload; the row's checksum does."""
    path = tmp_path / "outbox.sqlite"
    copy_store(original.with_name("closed.sqlite"), path)
    content = path.read_bytes()
    place = content.index(b'{"number":77,')
    with path.open("r+b") as file:
        file.seek(place + 11)
        file.write(b"8")
    device = Device(path)
    found = [row.payload for row in device.take_all()]
    assert payload(77) not in found
    assert b'"number":87,' not in b"".join(found).replace(payload(87), b"")
    assert len(found) == 800
    assert device.outbox.counts()["dead"] == 2
    device.stop()


@pytest.mark.parametrize("column", ["id", "datapoints", "is_text"])
def test_a_changed_column_becomes_a_dead_letter(
    column: str, original: Path, tmp_path: Path
) -> None:
    """The checksum covers what is not payload, too."""
    path = tmp_path / "outbox.sqlite"
    copy_store(original.with_name("closed.sqlite"), path)
    change = {"id": "id + 100000", "datapoints": "datapoints + 1", "is_text": "1 - is_text"}
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE telemetry SET {column} = {change[column]} WHERE id = 50")
    connection.commit()
    connection.close()
    device = Device(path)
    assert payload(50) not in [row.payload for row in device.take_all()]
    assert device.outbox.counts()["dead"] == 2
    device.stop()


@pytest.mark.parametrize("datapoints", [-31984, -1, 1 << 60])
def test_no_count_of_a_damaged_row_is_believed(
    datapoints: int, original: Path, tmp_path: Path
) -> None:
    """A counter never goes down, and a count that no message can have is none."""
    path = tmp_path / "outbox.sqlite"
    copy_store(original.with_name("closed.sqlite"), path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE telemetry SET datapoints = ? WHERE id = 50", (datapoints,))
        connection.commit()
    device = Device(path)
    device.take_all()
    assert device.counters["messages_dead"] == 1
    assert device.counters["datapoints_dead"] == 0
    device.stop()


def test_a_newer_version_is_left_alone(original: Path, tmp_path: Path) -> None:
    """A store of a newer agent is set aside as it is, and what is readable is sent."""
    path = tmp_path / "outbox.sqlite"
    copy_store(original.with_name("closed.sqlite"), path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 77")
    connection.commit()
    connection.close()
    with capturedLogs() as logs:
        device = Device(path)
        device.recover()
    assert any("newer version" in str(one.get("reason")) for one in logs)
    assert (tmp_path / "outbox.sqlite.damaged-1").exists()
    assert len(device.take_all()) == 801
    device.stop()


def test_a_file_of_another_program_is_not_touched(tmp_path: Path) -> None:
    """A database that is not ours gets no tables of ours."""
    path = tmp_path / "outbox.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE accounts (name TEXT)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    device = Device(path)
    device.recover()
    assert (tmp_path / "outbox.sqlite.damaged-1").read_bytes() == before
    device.stop()


def test_only_the_newest_files_set_aside_are_kept(tmp_path: Path) -> None:
    """A disk that damages file after file is not filled with them."""
    path = tmp_path / "outbox.sqlite"
    for number in range(6):
        path.write_bytes(b"not a database %d" % number)
        device = Device(path)
        device.recover()
        device.stop()
    aside = sorted(one.name for one in tmp_path.glob("*.damaged-*"))
    assert aside == [f"outbox.sqlite.damaged-{number}" for number in (4, 5, 6)]


def overwrite_tables(path: Path) -> None:
    """Damage every page but the first under a running agent."""
    pages = path.stat().st_size // PAGE_BYTES
    with path.open("r+b") as file:
        file.seek(PAGE_BYTES)
        file.write(b"\xee" * PAGE_BYTES * (pages - 1))


@pytest.mark.parametrize("is_met_by", ["reading", "writing"])
def test_damage_met_while_running_is_healed(is_met_by: str, tmp_path: Path) -> None:
    """Rows in memory are written to a new file, rows that are lost are counted, and messages that
    come meanwhile are accepted."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker, head_rows=10)
    for start in range(0, 3000, 100):
        device.put_all([payload(number) for number in range(start, start + 100)])
        device.worker.finish()
    device.restart()  # the log is folded into the file
    in_flight = device.take(5)
    overwrite_tables(device.settings.path)
    if is_met_by == "reading":
        in_flight = [*in_flight, *device.take(50)]
        assert not device.outbox._committer.can_read
    late = device.put_all([b"late %d" % number for number in range(20)])
    if is_met_by == "writing":
        device.worker.fail(StoreDamaged("database disk image is malformed"))
        assert not device.outbox._committer.can_read
    assert not any(one.called for one in late)
    flows = device.take(10)  # what is in memory still flows, nothing is read
    old = 0 if is_met_by == "reading" else 5
    assert [row.payload for row in flows][old:] == [
        b"late %d" % number for number in range(10 - old)
    ]
    device.worker.finish()
    device.recover()
    assert all(one.called for one in late)
    assert device.outbox.state is State.OPEN
    device.outbox.rewind(True)
    found = device.take_all()
    assert [row.payload for row in found][:5] == [row.payload for row in in_flight][:5]
    assert [row.payload for row in found][-20:] == [b"late %d" % number for number in range(20)]
    totals = device.outbox.totals()
    assert totals.dropped.messages == 3020 - len(found)
    assert device.counters["messages_dropped:damaged"] == totals.dropped.messages
    assert len(list(tmp_path.glob("*.damaged-1"))) == 1
    device.turn()
    device.worker.finish()
    assert inspection.verify(device.settings.path) == []
    device.restart()
    assert len(device.take_all()) == len(found)
    device.stop()


def test_a_second_agent_is_refused(tmp_path: Path) -> None:
    """The message names the file and the process that has it."""
    path = tmp_path / "outbox.sqlite"
    code = (
        "import sys; from pathlib import Path; from oda.outbox.database import FileLock\n"
        "lock = FileLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        clock = Clock()
        settings = OutboxSettings(path=path)
        store = SqliteStore(path, settings)
        outbox = Outbox(settings, store, StepWorker(), clock, FakeWallClock(clock), FakeCounters())
        with pytest.raises(OutboxError) as refusal:
            outbox.open()
        other.stdin.close()
    assert str(path) in str(refusal.value)
    assert str(other.pid) in str(refusal.value)
    assert not clock.getDelayedCalls()
    Device(path).stop()


def test_the_lock_ends_with_the_outbox(tmp_path: Path) -> None:
    """After a stop another agent may have the store."""
    device = Device(tmp_path / "outbox.sqlite")
    with pytest.raises(OutboxError):
        FileLock(device.settings.path)
    assert is_locked(device.settings.path)
    device.stop()
    assert not is_locked(device.settings.path)
    FileLock(device.settings.path).release()


@pytest.mark.parametrize("seed", range(10))
def test_a_lost_tail_of_the_log_is_an_earlier_state(seed: int, tmp_path: Path) -> None:
    """Cutting the write-ahead log anywhere gives exactly the rows after some earlier commit."""
    chance = random.Random(seed)
    device = Device(tmp_path / "outbox.sqlite", max_bytes=64 << 20)
    states: list[list[bytes]] = [[]]
    present: list[bytes] = []
    for number in range(30):
        added = [b"%d.%d" % (number, one) for one in range(chance.randrange(1, 40))]
        device.put_all(added)
        present = present + added
        states.append(present)

    def cut(path: Path) -> None:
        wal = Path(f"{path}-wal")
        os.truncate(wal, chance.randrange(wal.stat().st_size))

    device.crash(cut)
    assert [row.payload for row in device.take_all()] in states
    assert not list(tmp_path.glob("*.damaged-*"))
    device.stop()
