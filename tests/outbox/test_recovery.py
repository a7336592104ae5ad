"""The recovery of a damaged store: in steps, live data first, and nothing lost by a kill."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import capturedLogs

import oda.outbox
from oda.outbox import inspection, recovery, salvage
from oda.outbox.committer import State
from oda.outbox.database import APPLICATION_ID
from oda.outbox.limits import PAGE_BYTES
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.store import StoreDamaged
from oda.outbox.transaction import checksum
from tests.outbox.fakes import Device, StepWorker, copy_store, quick_directory

ROWS = 300


def payloads(device: Device) -> list[bytes]:
    return [row.payload for row in device.take_all()]


def numbered(start: int, end: int) -> list[bytes]:
    return [b"message %d" % number for number in range(start, end)]


def newer_version(path: Path) -> None:
    """Everything can be read of it, but it is not ours to write."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 77")
        connection.commit()


def no_first_page(path: Path) -> None:
    """The directory of the tables is gone, and a copy has to be patched."""
    with path.open("r+b") as file:
        file.write(bytes(PAGE_BYTES))


DAMAGES: list[Callable[[Path], None]] = [newer_version, no_first_page]


def filled(path: Path) -> Device:
    """Messages, an answer, a dead letter, and an operation that ran when the process ended."""
    device = Device(path)
    for start in range(0, ROWS, 50):
        device.put_all(numbered(start, start + 50))
    device.put(b"answer", response=True, datapoints=0)
    device.put(b"dead", response=True, datapoints=0)
    device.outbox.journal.begin("operation", "SET", True)
    device.turn()
    device.outbox.bury([device.take(2, 1 << 20)[1].row_id], "a test")
    device.outbox.rewind(False)
    device.turn()
    return device


def check(device: Device) -> None:
    """Everything of ``filled`` is there once."""
    assert payloads(device) == [b"answer", *numbered(0, ROWS)]
    assert device.outbox.counts()["dead"] == 1
    assert [one.request.id for one in device.outbox.journal.interrupted()] == ["operation"]
    device.outbox.check_invariants()
    assert device.outbox.totals().accepted.messages == ROWS + 2
    assert device.outbox.totals().dropped.messages == 0


@pytest.fixture
def place() -> Iterator[Path]:
    path = quick_directory()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step copies few rows."""
    monkeypatch.setattr(salvage, "STEP_ROWS", 40)


class Snapshots:
    """Copies of the directory of a store, made at every change of its files."""

    def __init__(self, place: Path, target: Path) -> None:
        self._place = place
        self._target = target
        self.paths: list[Path] = []
        self._is_copying = False

    def take(self) -> None:
        if self._is_copying:
            return
        self._is_copying = True
        path = self._target / f"{len(self.paths)}"
        shutil.copytree(self._place, path)
        self.paths.append(path)
        self._is_copying = False

    def watch(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def changed(*arguments: Any, **named: Any) -> Any:
            self.take()
            try:
                return original(*arguments, **named)
            finally:
                self.take()

        monkeypatch.setattr(owner, name, changed)


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_kill_at_any_moment_of_a_recovery_loses_nothing(
    damage: Callable[[Path], None], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a process leaves of a recovery: the next one goes on with it to its end, every
    message is there once, and the damaged file is kept."""
    path = place / "now" / "outbox.sqlite"
    filled(path).stop()
    damage(path)
    snapshots = Snapshots(path.parent, place)
    with monkeypatch.context() as patch:
        for owner, name in (
            (Path, "rename"),
            (Path, "unlink"),
            (SqliteStore, "begin_file"),
            (SqliteStore, "recover"),
            (recovery, "_save"),
        ):
            snapshots.watch(patch, owner, name)
        device = Device(path)
        device.recover()
    check(device)
    device.stop()
    assert len(snapshots.paths) > 40
    for copy in snapshots.paths:
        left = Device(copy / "outbox.sqlite")
        left.recover()
        check(left)
        left.stop()
        assert inspection.verify(copy / "outbox.sqlite") == []
        assert list(copy.glob("*.recovering-*")) == []
        assert len(list(copy.glob("*.damaged-?"))) == 1
        shutil.rmtree(copy)


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("is_gone", [False, True])
def test_a_kill_at_any_moment_of_a_replacement_loses_nothing(
    is_gone: bool, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is damaged, or deleted, while it is used is replaced, and the rows that are in
    memory are written into the new one. A process that is killed before it has done so leaves them
    in the old one only: the next process copies all of that, and gives no id a second time."""
    path = place / "now" / "outbox.sqlite"
    device = Device(path, head_rows=3)
    device.put_all(numbered(0, 100))
    device.outbox.retire([row.row_id for row in device.take(5)[:2]])
    device.turn()
    snapshots = Snapshots(path.parent, place)
    with monkeypatch.context() as patch:
        for owner, name in (
            (Path, "rename"),
            (SqliteStore, "begin_file"),
            (SqliteStore, "replace"),
            (SqliteStore, "apply"),
            (SqliteStore, "recover"),
            (recovery, "_save"),
        ):
            snapshots.watch(patch, owner, name)
        if is_gone:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
        else:
            fail_once(device.store)
            device.put_all([b"meanwhile"])
        device.clock.advance(1.0)
        device.recover()
    # What was deleted is lost until it is copied.
    first = next(at for at, one in enumerate(snapshots.paths) if list(one.glob("*.recovering-?")))
    assert len(snapshots.paths) - first > 10
    for copy in snapshots.paths[first if is_gone else 0 :]:
        left = Device(copy / "outbox.sqlite", head_rows=3)
        left.recover()
        (accepted,) = left.put_all([b"new"])
        rows = left.take_all()
        assert {*numbered(2, 100), b"new"} <= {row.payload for row in rows}
        assert rows[-1].payload == b"new"
        assert len({row.row_id for row in rows}) == len(rows)
        assert accepted.called
        left.outbox.check_invariants()
        left.stop()
        shutil.rmtree(copy)
    device.stop()


def fail_once(store: Any) -> None:
    """The next commit finds the store damaged."""

    def apply(transaction: Any) -> int:
        del store.apply
        raise StoreDamaged("torn")

    store.apply = apply


@pytest.mark.usefixtures("small_steps")
def test_a_kill_between_the_file_and_its_log(place: Path) -> None:
    """A file that was renamed without its write-ahead log gets it back: the two are one thing."""
    path = place / "outbox.sqlite"
    device = filled(path)
    copy = place / "copy" / "outbox.sqlite"
    copy.parent.mkdir()
    copy_store(path, copy)
    device.stop()
    copy.rename(f"{copy}.recovering-1")
    left = Device(copy)
    left.recover()
    check(left)
    left.stop()


@pytest.mark.usefixtures("small_steps")
def test_live_data_goes_first(tmp_path: Path) -> None:
    """While a big store is copied the agent works: messages are accepted and given between two
    steps, and nothing of the old one holds them up."""
    path = tmp_path / "outbox.sqlite"
    filled(path).stop()
    newer_version(path)
    device = Device(path, StepWorker)
    assert device.outbox.state is State.OPEN
    steps = 0
    live = []
    while device.outbox.is_recovering:
        (put,) = device.put_all([b"live %d" % steps])
        live += payloads(device)
        device.worker.step()
        device.turn()
        if not put.called:
            device.worker.step()
        assert put.called, "a message waits for more than one step"
        steps += 1
        assert steps < 100
        device.outbox.check_invariants()
        assert device.outbox.counts()["recovering"] <= ROWS + 1
    assert steps > 5
    live += payloads(device)
    assert sorted(live) == sorted(
        [b"answer", *numbered(0, ROWS), *(b"live %d" % number for number in range(steps))]
    )
    assert live.index(b"live 0") < live.index(b"message 100")
    old = [one for one in live if one.startswith(b"message")]
    assert old == numbered(0, ROWS)
    device.worker.finish()
    device.stop()


@pytest.mark.usefixtures("small_steps")
def test_a_big_store_is_recovered_whole(tmp_path: Path) -> None:
    """However long it takes: no time ends it."""
    path = tmp_path / "outbox.sqlite"
    device = Device(path, max_bytes=1 << 30)
    for start in range(0, 10_000, 500):
        device.put_all(numbered(start, start + 500))
    device.stop()
    newer_version(path)
    device.make_worker = StepWorker
    device.start()
    steps = 0
    while device.outbox.is_recovering:
        steps += 1
        device.worker.step()
        device.clock.advance(5.0)
    assert steps >= 10_000 // 40
    assert payloads(device) == numbered(0, 10_000)
    device.worker.finish()
    device.stop()


@pytest.mark.usefixtures("small_steps")
def test_stopping_in_the_middle_of_a_recovery(tmp_path: Path) -> None:
    """It goes on at the next start, which says so; what came meanwhile is there, too."""
    path = tmp_path / "outbox.sqlite"
    filled(path).stop()
    newer_version(path)
    device = Device(path, StepWorker)
    for _ in range(3):
        device.turn()
        device.worker.step()
    device.put_all([b"meanwhile"])
    assert device.outbox.is_recovering
    device.stop()
    with capturedLogs() as logs:
        device.start()
    assert any("continues" in str(one.get("log_format")) for one in logs)
    device.recover()
    assert payloads(device) == [b"answer", *numbered(0, ROWS), b"meanwhile"]
    assert device.outbox.totals().accepted.messages == ROWS + 3
    device.stop()


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_second_damage_during_a_recovery(is_restarted: bool, tmp_path: Path) -> None:
    """The new store is set aside as well; what is left of the first goes on being copied."""
    path = tmp_path / "outbox.sqlite"
    filled(path).stop()
    newer_version(path)
    device = Device(path, StepWorker, head_rows=3)
    for _ in range(4):
        device.turn()
        device.worker.finish()
    assert device.outbox.is_recovering
    device.put_all([b"meanwhile"])
    if is_restarted:
        device.worker.finish()
        device.stop()
        newer_version(path)
        device.start()
    else:
        device.worker.fail(StoreDamaged("database disk image is malformed"))
    device.worker.finish()
    device.recover()
    device.outbox.check_invariants()
    device.outbox.rewind(False)
    assert payloads(device) == [b"answer", *numbered(0, ROWS), b"meanwhile"]
    assert device.outbox.counts()["dead"] == 1
    assert [one.request.id for one in device.outbox.journal.interrupted()] == ["operation"]
    device.turn()
    device.worker.finish()
    assert device.outbox.totals().dropped.messages == 0
    device.restart()
    assert payloads(device) == [b"answer", *numbered(0, ROWS), b"meanwhile"]
    assert len(list(tmp_path.glob("*.damaged-?"))) == 2
    device.stop()


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("how", ["damaged", "moved", "damaged before a start"])
@pytest.mark.parametrize("is_killed", [False, True])
def test_a_second_damage_repeats_nothing(how: str, is_killed: bool, tmp_path: Path) -> None:
    """What was copied from the first damaged store and delivered before the second one was damaged
    is not copied again, and the sums balance, also after a kill between the two sources."""
    path = tmp_path / "now" / "outbox.sqlite"
    filled(path).stop()
    newer_version(path)
    device = Device(path, StepWorker, head_rows=3, linger_s=0.0)
    for _ in range(5):
        device.turn()
        device.worker.step()
    assert device.outbox.is_recovering
    taken = device.take_all(1)
    delivered = [row.payload for row in taken]
    assert len(delivered) > 40
    device.outbox.retire([row.row_id for row in taken])
    device.clock.advance(1)
    device.worker.finish()
    device.put_all([b"meanwhile"])
    if how == "damaged before a start":
        device.stop()
        newer_version(path)
        device.start()
    elif how == "moved":
        path.rename(tmp_path / "elsewhere")
        Path(f"{path}-wal").rename(tmp_path / "elsewhere-wal")
        device.worker.step()
    else:
        device.worker.fail(StoreDamaged("database disk image is malformed"))
    if is_killed:
        for count in (2, 1):
            while len(list(path.parent.glob("*.recovering-?"))) != count:
                device.turn()
                device.worker.step()
        shutil.copytree(path.parent, tmp_path / "left")
        device.kill()
        device = Device(tmp_path / "left" / "outbox.sqlite", StepWorker, linger_s=0.0)
    device.recover()
    device.worker.finish()
    device.outbox.check_invariants()
    rest = payloads(device)
    assert sorted([*delivered, *rest]) == sorted([b"answer", *numbered(0, ROWS), b"meanwhile"])
    totals = device.outbox.totals()
    assert totals.accepted.messages == ROWS + 3
    assert totals.delivered.messages == len(delivered)
    assert totals.dropped.messages == 0
    device.stop()


@pytest.mark.usefixtures("small_steps")
def test_new_ids_begin_above_those_of_every_file_that_is_still_to_be_copied(tmp_path: Path) -> None:
    """A store that was damaged before it knew anything stands in front of an older one: messages
    that are put before the older one is copied get other ids than its messages have."""
    path = tmp_path / "outbox.sqlite"
    older = Device(path)
    older.put_all(numbered(0, 100))
    older.stop()
    path.rename(f"{path}.recovering-1")
    Device(tmp_path / "empty.sqlite").stop()
    (tmp_path / "empty.sqlite").rename(path)
    newer_version(path)
    device = Device(path, StepWorker, linger_s=0.0)
    new = device.put_all([b"new %d" % number for number in range(5)])
    device.recover()
    device.worker.finish()
    assert all(one.called for one in new)
    rows = device.take_all()
    assert [row.payload for row in rows if row.row_id <= 100] == numbered(0, 100)
    assert len({row.row_id for row in rows}) == len(rows) == 105
    device.outbox.retire([row.row_id for row in rows])
    device.turn()
    device.worker.finish()
    device.stop()


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("change", ["a digit", "no JSON", "no text"])
def test_progress_that_was_changed_is_not_believed(change: str, tmp_path: Path) -> None:
    """The copying begins anew; every message is there once."""
    path = tmp_path / "outbox.sqlite"
    filled(path).stop()
    newer_version(path)
    device = Device(path, StepWorker)
    for _ in range(4):
        device.turn()
        device.worker.step()
    assert device.outbox.is_recovering
    device.worker.finish()
    device.stop()
    with closing(sqlite3.connect(path)) as connection:
        (body,) = connection.execute("SELECT body FROM state WHERE number = 2").fetchone()
        changed = {
            "a digit": body.replace("[", "[1", 1),
            "no JSON": body[:20],
            "no text": b"\xb4" * 30,
        }[change]
        connection.execute("UPDATE state SET body = ? WHERE number = 2", (changed,))
        connection.commit()
    device = Device(path)
    device.recover()
    check(device)
    device.stop()


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ("record", "operations on record"),
        ("answer", "answers to operations"),
        ("dead", "dead letters"),
        (None, None),
    ],
)
def test_what_is_lost_beside_messages_is_told(
    table: str | None, what: str | None, tmp_path: Path
) -> None:
    """An operation that is not on record any more may run again, and nobody sees it from the
    messages: whatever can't be read is named once, and nothing else is."""
    path = tmp_path / "outbox.sqlite"
    filled(path).stop()
    if table is None:
        newer_version(path)
    else:
        with closing(sqlite3.connect(path)) as connection:
            (root,) = connection.execute(
                "SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)
            ).fetchone()
        with path.open("r+b") as file:
            file.seek((root - 1) * PAGE_BYTES)
            file.write(b"\xa5" * PAGE_BYTES)
    with capturedLogs() as logs:
        device = Device(path)
        device.recover()
    told = [
        one["what"] for one in logs if "can't be read and are lost" in str(one.get("log_format"))
    ]
    assert told == ([] if what is None else [what])
    assert payloads(device) == [b"answer", *numbered(0, ROWS)]
    device.stop()


@pytest.mark.parametrize("pages", [1, 7, 10])
def test_lost_pages_of_the_directory_are_replaced(pages: int, tmp_path: Path) -> None:
    """The directory of the tables needs more than one page; messages behind it are all there."""
    path = tmp_path / "outbox.sqlite"
    filled(path).stop()
    with closing(sqlite3.connect(path)) as connection:
        roots = {root for (root,) in connection.execute("SELECT rootpage FROM sqlite_master")}
    with path.open("r+b") as file:
        for number in set(range(1, pages + 1)) - roots:
            file.seek((number - 1) * PAGE_BYTES)
            file.write(bytes(PAGE_BYTES))
    device = Device(path)
    device.recover()
    check(device)
    device.stop()


def old_store(path: Path) -> None:
    """A store as schema 1 has it, with large pages."""
    schema = Path(oda.outbox.__file__).with_name("schema") / "0001.sql"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            f"PRAGMA page_size = 4096; {schema.read_text('utf-8')}"
            f" PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;"
        )
        for number, payload in enumerate(numbered(0, ROWS), 1):
            crc = checksum(number, 0, 1, payload)
            connection.execute(
                "INSERT INTO telemetry VALUES (?, 0, 1, 5, ?, ?)", (number, crc, payload)
            )
        connection.commit()


@pytest.mark.parametrize("loses_first_page", [False, True])
def test_a_store_of_schema_1_is_taken_up(loses_first_page: bool, tmp_path: Path) -> None:
    """It is brought up to date; afterwards its tables are at the pages of a new one, so that it can
    be recovered like that."""
    path = tmp_path / "outbox.sqlite"
    old_store(path)
    device = Device(path)
    assert payloads(device) == numbered(0, ROWS)
    device.stop()
    if loses_first_page:
        no_first_page(path)
        device.start()
        device.recover()
        assert payloads(device) == numbered(0, ROWS)
        device.stop()


class Unreadable:
    """A connection to a file of which nothing can be read."""

    def __init__(self) -> None:
        self.queries = 0

    def execute(self, statement: str, values: object = ()) -> list[object]:
        self.queries += 1
        raise sqlite3.DatabaseError("database disk image is malformed")


def test_what_can_never_be_read_is_given_up() -> None:
    """A recovery ends, however many ids there could be: after many queries without a row the rest
    of that table is given up, and the other table is still tried."""
    old: Any = Unreadable()
    progress = recovery._Progress("o.sqlite.recovering-1", "o.sqlite.damaged-1")
    progress.ranges = [("telemetry", 0, recovery.MAX_ID), ("response", 0, recovery.MAX_ID)]
    steps = 0
    with closing(sqlite3.connect(":memory:")) as writer:
        while progress.ranges:
            assert recovery._copy_some(old, writer, progress) == []
            steps += 1
    assert recovery.MAX_FRUITLESS * 2 < old.queries < recovery.MAX_FRUITLESS * 2 + 10
    assert steps > 50
