"""What happens to the store's files from outside: deleted, moved, replaced, cut off, linked."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from twisted.logger import capturedLogs

from oda.errors import OutboxError
from oda.outbox import inspection
from oda.outbox.committer import State
from oda.outbox.queue import Row
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.store import StoreError
from oda.outbox.transaction import TELEMETRY, Transaction
from oda.settings import OutboxSettings
from tests.outbox.fakes import Device, StepWorker, copy_store


def payloads(device: Device) -> list[bytes]:
    return [row.payload for row in device.take_all()]


def numbered(start: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(start, end)]


def delete(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def delete_the_file_only(path: Path) -> None:
    path.unlink()


def rename(path: Path) -> None:
    path.rename(path.with_name("moved"))


def replace_by_another_store(path: Path) -> None:
    """As when a partition is mounted over the directory."""
    other = Device(path.with_name("other"))
    other.put_all([b"of the other store"])
    other.stop()
    for suffix in ("", "-wal", "-shm"):
        one = Path(f"{path}{suffix}")
        if one.exists():
            one.rename(f"{path}.hidden{suffix}")
    path.with_name("other").rename(path)


def delete_the_directory(path: Path) -> None:
    shutil.rmtree(path.parent)


EVENTS: list[Callable[[Path], None]] = [
    delete,
    delete_the_file_only,
    rename,
    replace_by_another_store,
    delete_the_directory,
]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("is_met_by", ["a commit", "the look"])
def test_the_store_is_gone_while_it_is_open(
    is_met_by: str, event: Callable[[Path], None], tmp_path: Path
) -> None:
    """What was accepted before, and what comes after, is in a new store at the path, which is
    said; nothing is accepted in the meantime that is in the old one only."""
    path = tmp_path / "data" / "outbox.sqlite"
    device = Device(path, head_rows=3)
    device.put_all(numbered(0, 20))
    event(path)
    with capturedLogs() as logs:
        late = []
        if is_met_by == "a commit":
            late = device.put_all([b"late"])
        device.clock.advance(1.0)
        device.turn()
        device.recover()
    assert any("can't be used" in str(one.get("log_format")) for one in logs)
    assert all(put.called for put in late)
    assert device.outbox.state is State.OPEN
    device.outbox.check_invariants()
    expected = numbered(0, 20) + ([b"late"] if late else [])
    assert inspection.verify(path) == []
    device.crash()
    assert payloads(device) == expected
    device.stop()


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("has_news", [False, True])
@pytest.mark.parametrize("is_between", [False, True])
def test_the_store_is_gone_when_the_agent_stops(
    event: Callable[[Path], None], has_news: bool, is_between: bool, tmp_path: Path
) -> None:
    """What was accepted is in a new store at the path before the agent ends, whether the file goes
    before its last commit or during it; what was put last is accepted or refused, and said so."""
    path = tmp_path / "data" / "outbox.sqlite"
    device = Device(path, StepWorker, head_rows=3)
    accepted = device.put_all(numbered(0, 20))
    device.worker.finish()
    accepted += [device.put(b"late")] if has_news else []
    done = device.outbox.close()
    if is_between:
        device.worker.work()
    event(path)
    device.worker.finish()
    assert done.called
    assert all(isinstance(put.result, int) for put in accepted)
    assert device.outbox.totals().dropped.messages == 0
    device.start()
    device.recover()
    assert payloads(device) == numbered(0, 20) + ([b"late"] if has_news else [])
    device.stop()


def test_a_store_that_goes_away_again_and_again_does_not_keep_the_agent_from_stopping(
    tmp_path: Path,
) -> None:
    """After some new stores the end comes, and what was lost is said."""
    path = tmp_path / "data" / "outbox.sqlite"
    device = Device(path, StepWorker)
    device.put_all([b"one"])
    done = device.outbox.close()
    with capturedLogs() as logs:
        for _ in range(20):
            if not device.worker.jobs:
                break
            if path.exists():
                delete(path)
            device.worker.step()
    assert done.called
    assert any(", which could not be written: " in str(one.get("log_format")) for one in logs)


def test_acceptance_waits_for_the_new_store(tmp_path: Path) -> None:
    """A commit into a file that was deleted is none: its messages are accepted when they are in
    the new store."""
    path = tmp_path / "data" / "outbox.sqlite"
    device = Device(path, StepWorker)
    put = device.put_all([b"one"])[0]
    delete(path)
    device.worker.step()
    assert not put.called
    device.worker.finish()
    assert put.called
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT payload FROM telemetry").fetchall() == [(b"one",)]
    device.recover()
    device.stop()


def test_a_second_agent_can_not_use_the_file_that_was_put_there(tmp_path: Path) -> None:
    """After it was replaced, the lock is on the new file."""
    path = tmp_path / "outbox.sqlite"
    device = Device(path)
    path.unlink()
    device.clock.advance(1.0)
    device.recover()
    with pytest.raises(OutboxError, match="in use"):
        SqliteStore(path, OutboxSettings(path=path)).open()
    device.stop()


def test_an_empty_file_beside_a_whole_log(tmp_path: Path) -> None:
    """A power failure can leave it so: the rows of the log are taken over, and it is said."""
    device = Device(tmp_path / "outbox.sqlite")
    device.put_all(numbered(0, 5))

    def cut(path: Path) -> None:
        os.truncate(path, 0)

    with capturedLogs() as logs:
        device.crash(cut)
        device.recover()
    assert any("is missing beside" in str(one.get("reason")) for one in logs)
    assert payloads(device) == numbered(0, 5)
    device.stop()


def test_a_file_that_is_missing_beside_its_log(tmp_path: Path) -> None:
    """The same, where the name of the file was lost."""
    device = Device(tmp_path / "outbox.sqlite")
    device.put_all(numbered(0, 5))
    with capturedLogs() as logs:
        device.crash(lambda path: path.unlink())
        device.recover()
    assert any("is missing beside" in str(one.get("reason")) for one in logs)
    device.put_all([b"new"])
    assert payloads(device) == [*numbered(0, 5), b"new"]
    device.stop()


def test_a_log_that_is_missing_after_a_kill(tmp_path: Path) -> None:
    """What is in the file is taken over, and it is said that the newest may be lost; ids are not
    used again. After a stop in good order there is no log, and nothing to say."""
    device = Device(tmp_path / "outbox.sqlite")
    device.put_all(numbered(0, 5))
    with capturedLogs() as logs:
        device.restart()
        device.turn()
    assert not any("missing" in str(one.get("reason")) for one in logs)
    device.put_all(numbered(5, 10))
    with capturedLogs() as logs:
        device.crash(lambda path: Path(f"{path}-wal").unlink())
        device.recover()
    assert any("write-ahead log is missing" in str(one.get("reason")) for one in logs)
    assert payloads(device) == numbered(0, 5)
    assert len(list(tmp_path.glob("*.damaged-1"))) == 1
    device.stop()


@pytest.mark.parametrize("kind", ["symlink", "hard link", "symlink to the directory"])
def test_a_link_to_a_store_in_use_is_refused(kind: str, tmp_path: Path) -> None:
    """Two agents never share a store, by whatever name they know it."""
    place = tmp_path / "data"
    path = place / "outbox.sqlite"
    device = Device(path)
    device.put_all(numbered(0, 3))
    link = tmp_path / "link.sqlite"
    if kind == "symlink":
        link.symlink_to(path)
    elif kind == "hard link":
        link.hardlink_to(path)
    else:
        (tmp_path / "elsewhere").symlink_to(place)
        link = tmp_path / "elsewhere" / "outbox.sqlite"
    with pytest.raises(OutboxError, match="in use"):
        Device(link)
    assert all(put.called for put in device.put_all([b"more"]))
    device.crash()
    assert payloads(device) == [*numbered(0, 3), b"more"]
    device.stop()


def test_a_symlink_is_a_way_to_a_store(tmp_path: Path) -> None:
    """An agent that is alone may have its store behind one; the link stays."""
    real, link = tmp_path / "real.sqlite", tmp_path / "link.sqlite"
    link.symlink_to(real)
    device = Device(link)
    device.put_all(numbered(0, 3))
    device.restart()
    assert payloads(device) == numbered(0, 3)
    assert link.is_symlink()
    assert real.exists()
    device.stop()


def test_an_id_that_is_taken_is_told(tmp_path: Path) -> None:
    """A row never takes the place of another one, and never vanishes behind it; the same row once
    more is no harm."""
    path = tmp_path / "outbox.sqlite"
    with closing(SqliteStore(path, OutboxSettings(path=path))) as store:
        store.open()

        def apply(payload: bytes) -> None:
            transaction = Transaction()
            transaction.insert(TELEMETRY, Row(7, payload, False, 1, 0, 10))
            store.apply(transaction)

        apply(b"mine")
        apply(b"mine")
        with pytest.raises(StoreError, match="7 is taken"):
            apply(b"another")
        rows = store.query("SELECT id, payload FROM telemetry")
    assert rows == [(7, b"mine")]


def test_the_copy_of_a_store_is_a_store(tmp_path: Path) -> None:
    """Whoever copies the files of an agent that runs gets what was committed."""
    device = Device(tmp_path / "outbox.sqlite")
    device.put_all(numbered(0, 5))
    copy_store(device.settings.path, tmp_path / "copy.sqlite")
    copy = Device(tmp_path / "copy.sqlite")
    assert payloads(copy) == numbered(0, 5)
    copy.stop()
    device.stop()


def test_a_store_that_another_agent_uses_is_left_alone(tmp_path: Path) -> None:
    """Where a store in use stands at the path now, it stays there: this agent works from memory and
    says so, instead of pulling the file from under the other one."""
    device = Device(tmp_path / "o.sqlite", StepWorker)
    device.put_all([b"one"])
    device.worker.finish()
    device.turn()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{device.settings.path}{suffix}").unlink(missing_ok=True)
    descriptor = os.open(device.settings.path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        identity = os.fstat(descriptor).st_ino
        put = device.put(b"two")
        device.turn()
        with capturedLogs() as logs:
            device.worker.finish()
        assert device.outbox.state is State.TROUBLE
        assert "another agent" in str([event.get("reason") for event in logs])
        assert not put.called
        assert device.settings.path.stat().st_ino == identity
        assert [row.payload for row in device.take_all()][-1] == b"two"
    finally:
        os.close(descriptor)
    device.settings.path.unlink()
    device.outbox.check_disk()
    device.worker.finish()
    device.turn()
    device.worker.finish()
    assert put.called
    device.stop()
