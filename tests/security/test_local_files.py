"""What another user of the machine can do with the files that the agent keeps."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from oda.errors import OutboxError
from oda.outbox.database import FileLock
from oda.outbox.salvage import patch
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.transaction import Transaction
from oda.platform.database import Database, DatabaseUnusable
from oda.private_files import followed, make_private, may_use, secure
from oda.settings import OutboxSettings
from oda.telemetry.arrival import ArrivalClock
from oda.telemetry.history import History

OWN = os.geteuid()
OTHER = 54_321
needs_root = pytest.mark.skipif(OWN != 0, reason="only root can give files away")


@contextmanager
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


class _Still:
    """A wall clock that stands still."""

    def now_ms(self) -> int:
        return 1_700_000_000_000


def open_outbox(path: Path) -> Callable[[], None]:
    store = SqliteStore(path, OutboxSettings(path=path))
    store.open()
    store.apply(Transaction())
    return store.close


def open_history(path: Path) -> Callable[[], None]:
    return History(path, 10, ArrivalClock(Clock().seconds, _Still())).close


def open_platform(path: Path) -> Callable[[], None]:
    return Database(path).close


STORES = [
    pytest.param(open_outbox, id="outbox"),
    pytest.param(open_history, id="kept values"),
    pytest.param(open_platform, id="stand-in"),
]
#: What the stores raise for a file that is not to be used.
REFUSALS = (OSError, sqlite3.OperationalError, DatabaseUnusable)
Opener = Callable[[Path], Callable[[], None]]


def modes(directory: Path) -> dict[str, int]:
    return {one.name: stat.S_IMODE(one.stat().st_mode) for one in directory.iterdir()}


@pytest.mark.parametrize("opener", STORES)
def test_new_files_are_private(tmp_path: Path, opener: Opener) -> None:
    """Under the usual umask nobody but the owner reads the file, its -wal and its -shm."""
    with usual_umask():
        close = opener(tmp_path / "store")
        assert modes(tmp_path) == {"store": 0o600, "store-wal": 0o600, "store-shm": 0o600}
        close()


@pytest.mark.parametrize("opener", STORES)
def test_files_of_an_older_version_become_private(tmp_path: Path, opener: Opener) -> None:
    """A file that others could read is closed to them before anything is written to it, and what a
    killed process has left beside it, too."""
    with usual_umask():
        opener(tmp_path / "store")()
        for name in ("store", "store-wal", "store-shm"):
            (tmp_path / name).touch()
            (tmp_path / name).chmod(0o664)
        close = opener(tmp_path / "store")
        assert set(modes(tmp_path).values()) == {0o600}
        close()


def test_copies_of_a_damaged_outbox_are_private(tmp_path: Path) -> None:
    """What is rescued from a damaged file holds the same messages as that."""
    with usual_umask():
        open_outbox(tmp_path / "store")()
        patch(tmp_path / "store", OutboxSettings(path=tmp_path / "store"))
        assert modes(tmp_path)["store.patched"] == 0o600


def test_who_may_use_a_file() -> None:
    """Its owner; and root, where it belongs to the owner of its directory: a service's user could
    exchange it anyway. A third user's file is nobody's but theirs, also for root."""
    assert may_use(7, 7, lambda: 8)
    assert not may_use(8, 7, lambda: 8)
    assert not may_use(0, 7, lambda: 7)
    assert may_use(7, 0, lambda: 7)
    assert not may_use(8, 0, lambda: 7)
    assert may_use(0, 0, lambda: 7)


@needs_root
@pytest.mark.parametrize("opener", STORES)
def test_a_file_of_another_user_is_refused(tmp_path: Path, opener: Opener) -> None:
    """Whoever made it can read and change what the agent would put there. Nothing is written."""
    planted = tmp_path / "store"
    planted.write_bytes(b"")
    planted.chmod(0o666)
    os.chown(planted, OTHER, OTHER)
    with pytest.raises(REFUSALS, match=f"belongs to the user {OTHER}"):
        opener(planted)
    assert modes(tmp_path) == {"store": 0o666}
    assert planted.read_bytes() == b""


@needs_root
@pytest.mark.parametrize("opener", STORES)
def test_root_cares_for_the_files_of_a_service(tmp_path: Path, opener: Opener) -> None:
    """``sudo oda outbox ...`` works in the directory of the service's user; the file stays that
    user's."""
    place = tmp_path / "state"
    place.mkdir(0o700)
    opener(place / "store")()
    for one in (place, *place.iterdir()):
        os.chown(one, OTHER, OTHER)
    close = opener(place / "store")
    assert {one.stat().st_uid for one in place.iterdir()} == {OTHER}
    close()


@needs_root
@pytest.mark.parametrize("opener", STORES)
def test_a_link_of_another_user_is_not_followed(tmp_path: Path, opener: Opener) -> None:
    """It could lead to any file of the agent's user, which keeps its content and its mode."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    victim.chmod(0o644)
    link = tmp_path / "store"
    link.symlink_to(victim)
    os.lchown(link, OTHER, OTHER)
    with pytest.raises(REFUSALS, match=f"link of the user {OTHER}"):
        opener(link)
    assert victim.read_bytes() == b"precious"
    assert stat.S_IMODE(victim.stat().st_mode) == 0o644


def test_a_link_beside_the_file_is_not_followed(tmp_path: Path) -> None:
    """Nor where the file itself is one's own: its -wal and -shm are never links."""
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "store-wal").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="not a regular file"):
        make_private(tmp_path / "store")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    """A link to itself is an error, not a search without end."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match="symbolic links"):
        followed(tmp_path / "a")


def test_a_lock_changes_nothing_before_it_is_held(tmp_path: Path) -> None:
    """Neither content nor mode: the file may be another agent's."""
    path = tmp_path / "store"
    path.write_bytes(b"theirs")
    path.chmod(0o640)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(OutboxError, match="in use by another agent"):
            FileLock(path)
        assert path.read_bytes() == b"theirs"
        assert modes(tmp_path) == {"store": 0o640}
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        lock = FileLock(path)
        assert path.read_bytes() == b"theirs"
        assert modes(tmp_path) == {"store": 0o600}
        lock.release()
    finally:
        os.close(descriptor)


def test_a_lock_is_not_taken_through_a_link(tmp_path: Path) -> None:
    """``O_NOFOLLOW``: what the link leads to is not made, opened or changed."""
    (tmp_path / "store").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        FileLock(tmp_path / "store")
    assert not (tmp_path / "victim").exists()


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """What is no regular file is refused, without waiting for somebody at its other end."""
    os.mkfifo(tmp_path / "store")
    with pytest.raises(OSError, match="not a regular file"):
        make_private(tmp_path / "store")
    descriptor = os.open(tmp_path / "store", os.O_PATH)
    with pytest.raises(OSError, match="not a regular file"):
        secure(descriptor, tmp_path / "store")
    os.close(descriptor)
