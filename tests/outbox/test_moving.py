"""The store is moved to another place while the outbox goes on."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from oda.errors import OutboxClosed, OutboxError
from oda.outbox import inspection, sqlite_store
from oda.outbox.committer import RETRY_S
from oda.outbox.database import FileLock, is_locked
from oda.outbox.queue import Row, Span
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.store import StoreMoved
from oda.outbox.transaction import TELEMETRY, Transaction
from oda.settings import OutboxSettings
from tests.outbox.fakes import Device, FakeCounters, StepWorker, disk_full
from tests.wire.fakes import memory_outbox


def move(device: Device, path: Path) -> list[Any]:
    """Ask for it, and let the turn end; what came of it, once it is known."""
    outcome: list[Any] = []
    device.outbox.move(path).addBoth(outcome.append)
    assert not outcome, "it fired during the call"
    device.turn()
    return outcome


def reason(outcome: list[Any]) -> str:
    (failure,) = outcome
    assert isinstance(failure, Failure)
    assert failure.check(OutboxError)
    return failure.getErrorMessage()


@pytest.fixture(params=["renamed", "copied"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a file system, and into another one."""
    if request.param == "copied":
        _into_another_file_system(monkeypatch)


def _into_another_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if not str(source).endswith(".moving"):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(sqlite_store.os, "rename", refuse)


@pytest.mark.usefixtures("_way")
def test_everything_is_at_the_new_place(tmp_path: Path) -> None:
    """What waits, what is in flight, the journal, the lock and the sums; nothing is left at the old
    place, and the next start goes on at the new one. Its directory is made."""
    device = Device(tmp_path / "old.sqlite", head_rows=2)
    device.put_all([b"%d" % number for number in range(6)])
    in_flight = device.take(2)
    recorded: list[int] = []
    device.outbox.journal.begin("1", "ACT", True).addCallback(recorded.append)
    device.turn()
    new = tmp_path / "a" / "b" / "new.sqlite"
    assert move(device, new) == [None]
    assert device.outbox.path == new
    assert not list(tmp_path.glob("old.sqlite*"))
    assert is_locked(new)
    device.outbox.check_invariants()
    assert device.put_all([b"6"])[0].called
    device.outbox.retire([row.row_id for row in in_flight], 0.0)
    assert [row.payload for row in device.take_all()] == [b"2", b"3", b"4", b"5", b"6"]
    device.outbox.rewind(False)
    device.restart(path=new)
    assert [row.payload for row in device.take_all()] == [b"2", b"3", b"4", b"5", b"6"]
    assert len(device.outbox.journal.interrupted()) == 1
    device.stop()
    assert inspection.verify(new) == []


def test_it_waits_for_the_commit_and_holds_nothing_up_for_good(tmp_path: Path) -> None:
    """What is put while the store is being moved is accepted at the new place. Meanwhile nothing
    that waits on disk is overtaken by what is in memory."""
    device = Device(tmp_path / "old.sqlite", worker=StepWorker, head_rows=1)
    device.worker.finish()
    device.put_all([b"0", b"1", b"2"])
    outcome = move(device, tmp_path / "new.sqlite")
    device.worker.step()  # the commit
    assert len(device.worker.jobs) == 1  # the move
    (accepted,) = device.put_all([b"3"])
    assert [row.payload for row in device.take_all()] == [b"0"]
    told = device.told
    device.worker.step()
    assert outcome == [None]
    device.turn()
    assert device.told > told
    assert not accepted.called
    device.worker.finish()
    assert accepted.called
    assert [row.payload for row in device.take_all()] == [b"1", b"2", b"3"]
    device.stop()
    assert inspection.verify(tmp_path / "new.sqlite") == []


def test_a_move_comes_through_a_stream_of_commits(tmp_path: Path) -> None:
    """There is always something more to commit: the move is not put off for ever."""
    device = Device(tmp_path / "old.sqlite", worker=StepWorker)
    device.worker.finish()
    outcome = move(device, tmp_path / "new.sqlite")
    for number in range(4):
        device.put_all([b"%d" % number])
        device.worker.step()
    assert outcome == [None]
    device.stop()


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    """Whatever it is; the outbox goes on at the old place, and both are named."""
    device = Device(tmp_path / "old.sqlite")
    other = tmp_path / "other"
    other.write_text("mine")
    problem = reason(move(device, other))
    assert str(other) in problem
    assert str(tmp_path / "old.sqlite") in problem
    assert other.read_text() == "mine"
    assert device.put_all([b"0"])[0].called
    (tmp_path / "log.sqlite-wal").write_text("mine")
    assert "already" in reason(move(device, tmp_path / "log.sqlite"))
    device.stop()


def test_it_may_be_moved_to_where_it_is(tmp_path: Path) -> None:
    """The same place, however it is spelt: nothing happens."""
    device = Device(tmp_path / "old.sqlite")
    assert move(device, tmp_path / "." / "old.sqlite") == [None]
    assert device.put_all([b"0"])[0].called
    device.stop()


def test_where_it_can_not_be_moved_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room for the copy: the old file is as it was, no half of a copy is left, and the lock is
    kept."""
    _into_another_file_system(monkeypatch)
    device = Device(tmp_path / "old.sqlite")
    device.put_all([b"0"])

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sqlite_store.shutil, "copyfileobj", full)
    assert "No space left" in reason(move(device, tmp_path / "new" / "new.sqlite"))
    assert list((tmp_path / "new").iterdir()) == []
    assert device.put_all([b"1"])[0].called
    with pytest.raises(OutboxError):
        FileLock(tmp_path / "old.sqlite")
    device.stop()
    assert inspection.verify(tmp_path / "old.sqlite") == []


def test_a_reader_from_outside_holds_it_up_and_harms_nothing(tmp_path: Path) -> None:
    """Somebody reads the store in a transaction: the write-ahead log can't be folded. It is not
    moved, and nothing that is in the log is lost."""
    device = Device(tmp_path / "old.sqlite")
    device.put_all([b"0"])
    reader = sqlite3.connect(tmp_path / "old.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM telemetry").fetchall()
    device.put_all([b"1"])
    assert "is reading it" in reason(move(device, tmp_path / "new.sqlite"))
    reader.close()
    assert device.put_all([b"2"])[0].called
    assert move(device, tmp_path / "new.sqlite") == [None]
    assert [row.payload for row in device.take_all()] == [b"0", b"1", b"2"]
    device.stop()
    assert inspection.verify(tmp_path / "new.sqlite") == []


def test_while_the_disk_fails_it_waits(tmp_path: Path) -> None:
    """It is moved once what is in memory is on disk."""
    device = Device(tmp_path / "old.sqlite", worker=StepWorker)
    device.worker.finish()
    device.put_all([b"0"])
    device.worker.fail(disk_full())
    outcome = move(device, tmp_path / "new.sqlite")
    assert not outcome
    assert not device.worker.jobs
    device.clock.advance(RETRY_S)
    device.worker.finish()
    assert outcome == [None]
    device.stop()
    assert inspection.look_into(tmp_path / "new.sqlite").messages == 1


def test_another_move_takes_the_place_of_one_that_waits(tmp_path: Path) -> None:
    """The first one is told so."""
    device = Device(tmp_path / "old.sqlite")
    first: list[Any] = []
    device.outbox.move(tmp_path / "first.sqlite").addBoth(first.append)
    assert move(device, tmp_path / "second.sqlite") == [None]
    assert "later move" in reason(first)
    assert device.outbox.path == tmp_path / "second.sqlite"
    device.stop()


def test_a_stop_moves_it_first(tmp_path: Path) -> None:
    """The next start will look for it at the new place."""
    device = Device(tmp_path / "old.sqlite", worker=StepWorker)
    device.worker.finish()
    device.put_all([b"0"])
    outcome: list[Any] = []
    device.outbox.move(tmp_path / "new.sqlite").addBoth(outcome.append)
    device.stop()
    assert outcome == [None]
    assert inspection.look_into(tmp_path / "new.sqlite").messages == 1
    assert device.outbox.move(tmp_path / "other.sqlite").addErrback(
        lambda failure: failure.trap(OutboxClosed)
    )


def test_an_outbox_in_memory_is_nowhere(tmp_path: Path) -> None:
    """It can't be moved into a file."""
    clock = Clock()
    outbox = memory_outbox(OutboxSettings(), clock, FakeCounters())
    outcome: list[Any] = []
    outbox.move(tmp_path / "new.sqlite").addBoth(outcome.append)
    clock.advance(0)
    assert "in memory" in reason(outcome)
    assert outbox.path is None


@pytest.mark.usefixtures("_way")
def test_a_kill_at_any_moment_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each call that changes a file the directory is copied, as a kill would leave it. The
    whole store is at the old place, at the new one, or at both; and it opens as one that nothing
    happened to."""
    place = tmp_path / "place"
    place.mkdir()
    copies: list[Path] = []

    def snapshot() -> None:
        copies.append(tmp_path / f"copy{len(copies)}")
        shutil.copytree(place, copies[-1])

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def watching(*arguments: Any, **options: Any) -> Any:
            snapshot()
            try:
                return call(*arguments, **options)
            finally:
                snapshot()

        return watching

    device = Device(place / "old.sqlite")
    device.put_all([b"0", b"1"])
    monkeypatch.setattr(sqlite_store.os, "rename", watched(sqlite_store.os.rename))
    monkeypatch.setattr(
        sqlite_store.shutil, "copyfileobj", watched(sqlite_store.shutil.copyfileobj)
    )
    monkeypatch.setattr(sqlite_store.Path, "unlink", watched(sqlite_store.Path.unlink))
    monkeypatch.setattr(device.store, "_fold", watched(device.store._fold))
    assert move(device, place / "new.sqlite") == [None]
    monkeypatch.undo()
    device.stop()
    assert len(copies) > 6
    for copy in copies:
        stores = [one for name in ("old", "new") if (one := copy / f"{name}.sqlite").exists()]
        assert stores
        for path in stores:
            again = Device(path)
            assert [row.payload for row in again.take_all()] == [b"0", b"1"]
            again.stop()
        assert not [one for one in copy.iterdir() if "damaged" in one.name]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_store_is_known_by_any_name(tmp_path: Path) -> None:
    """A link to its directory leads to the same place: nothing happens."""
    device = Device(tmp_path / "here" / "old.sqlite")
    (tmp_path / "there").symlink_to(tmp_path / "here")
    assert move(device, tmp_path / "there" / "old.sqlite") == [None]
    assert device.outbox.path == tmp_path / "here" / "old.sqlite"
    assert move(device, tmp_path / "there" / "new.sqlite") == [None]
    assert device.outbox.path == tmp_path / "here" / "new.sqlite"
    device.stop()


def test_a_store_that_is_gone_is_not_moved(tmp_path: Path) -> None:
    """It is told as gone, and not as a move that failed: then a new one is made. What stands at its
    place instead stays there."""
    device = Device(tmp_path / "old.sqlite")
    (tmp_path / "old.sqlite").rename(tmp_path / "elsewhere")
    (tmp_path / "old.sqlite").write_bytes(b"another")
    with pytest.raises(StoreMoved):
        device.store.move(tmp_path / "new.sqlite")
    assert not (tmp_path / "new.sqlite").exists()
    assert (tmp_path / "old.sqlite").read_bytes() == b"another"
    device.kill()


@pytest.mark.parametrize("is_copied", [True, False])
def test_a_move_that_fails_leaves_the_store_open(
    is_copied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its old place, with its lock; and nothing of the new one stays open."""
    device = Device(tmp_path / "old.sqlite")
    device.put_all([b"0"])

    def fails(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    if is_copied:
        _into_another_file_system(monkeypatch)
        monkeypatch.setattr(sqlite_store.os, "fsync", fails)
    else:
        monkeypatch.setattr(sqlite_store.os, "rename", fails)
    counts = []
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output error"):
            device.store.move(tmp_path / "new.sqlite")
        assert device.store.writer is not None
        counts.append(descriptors())
    monkeypatch.undo()
    assert len(set(counts)) == 1
    assert sorted(one.name for one in tmp_path.iterdir() if one.suffix == ".sqlite") == [
        "old.sqlite"
    ]
    assert device.put_all([b"1"])[0].called
    device.stop()


@pytest.mark.parametrize("is_copied", [True, False])
def test_the_names_are_synchronised(
    is_copied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those in the new directory before an old file goes that was copied, and in the end those in
    both directories."""
    device = Device(tmp_path / "a" / "old.sqlite")
    synced: list[tuple[str, bool]] = []
    old = tmp_path / "a" / "old.sqlite"
    if is_copied:
        _into_another_file_system(monkeypatch)
    monkeypatch.setattr(
        sqlite_store, "sync_directory", lambda path: synced.append((path.name, old.exists()))
    )
    assert move(device, tmp_path / "b" / "new.sqlite") == [None]
    expected = [("b", False), ("a", False)]
    assert synced == ([("b", True), *expected] if is_copied else expected)
    device.stop()


@pytest.mark.usefixtures("_way")
def test_nothing_of_the_old_place_stays_open(tmp_path: Path) -> None:
    """Neither the lock of the old file nor a reader: what is committed at the new place is read
    there."""
    path = tmp_path / "old.sqlite"
    before = descriptors()
    store = SqliteStore(path, OutboxSettings(path=path))
    store.open()
    transaction = Transaction()
    transaction.insert(TELEMETRY, Row(1, b"0", True, 0, 0, 34))
    store.apply(transaction)

    def there() -> list[int]:
        return [row.row_id for row in store.page(TELEMETRY, Span(0, 99), 9, 99)[0]]

    assert there() == [1]
    opened = descriptors()
    store.move(tmp_path / "new.sqlite")
    transaction = Transaction()
    transaction.insert(TELEMETRY, Row(2, b"1", True, 0, 0, 34))
    store.apply(transaction)
    assert there() == [1, 2]
    assert descriptors() == opened
    store.check()
    store.close()
    assert descriptors() == before
    FileLock(tmp_path / "new.sqlite").release()
