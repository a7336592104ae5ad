"""One agent for each store: who holds the lock of a file, and who may know."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from oda.errors import OutboxError
from oda.outbox.database import FileLock, is_locked, lock_owner, sync_directory


@contextmanager
def another_process(path: Path, kind: str = "LOCK_EX") -> Iterator[int]:
    """A process that has locked the file at ``path``."""
    script = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'r+')\n"
        "fcntl.flock(file, getattr(fcntl, sys.argv[2]))\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-S", "-c", script, str(path), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"locked\n"
        yield process.pid
        process.stdin.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_lock_is_held_until_it_is_released(tmp_path: Path) -> None:
    """Whatever name leads to the file; this process must not even open it a second time."""
    path, link = tmp_path / "store", tmp_path / "link"
    before = descriptors()
    lock = FileLock(path)
    os.link(path, link)
    assert FileLock.is_held(path)
    assert FileLock.is_held(link)
    assert is_locked(link)
    opened = descriptors()
    for one in (path, link):
        with pytest.raises(OutboxError, match=rf"process {os.getpid()}, this one"):
            FileLock(one)
    assert descriptors() == opened
    assert lock.is_at(link)
    assert path.stat().st_mode & 0o777 == 0o600
    lock.release()
    assert not FileLock.is_held(path)
    assert not is_locked(path)
    assert descriptors() == before
    FileLock(path).release()


def test_another_process_is_named(tmp_path: Path) -> None:
    """Whoever asks, and whoever tries to lock the file: nothing of it stays open."""
    path, other = tmp_path / "store", tmp_path / "other"
    path.touch()
    other.touch()
    before = descriptors()
    with another_process(other), another_process(path) as process_id:
        inside = descriptors()
        assert is_locked(path)
        assert not FileLock.is_held(path)
        with pytest.raises(OutboxError, match=rf"\(process {process_id}\)"):
            FileLock(path)
        with open(path, "rb") as file:
            assert lock_owner(file.fileno()) == str(process_id)
        assert descriptors() == inside
    assert not is_locked(path)
    assert descriptors() == before
    with open(path, "rb") as file:
        assert lock_owner(file.fileno()) is None


def test_two_that_ask_do_not_see_each_other(tmp_path: Path) -> None:
    """Asking takes a lock for a moment that others may have as well."""
    path = tmp_path / "store"
    path.touch()
    with another_process(path, "LOCK_SH"):
        assert not is_locked(path)


def test_a_file_that_is_not_there_is_not_locked(tmp_path: Path) -> None:
    """It is made for a lock, unless that is not wanted; a link is not followed."""
    path = tmp_path / "store"
    assert not is_locked(path)
    assert not FileLock.is_held(path)
    with pytest.raises(FileNotFoundError):
        FileLock(path, create=False)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        FileLock(tmp_path / "link")
    lock = FileLock(path)
    path.rename(tmp_path / "moved")
    assert not lock.is_at(path)
    assert lock.is_at(tmp_path / "moved")
    path.touch()
    assert not lock.is_at(path)
    lock.release()


def test_a_file_system_without_locks_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as it is, and the file is closed."""
    before = descriptors()

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="No locks available"):
        FileLock(tmp_path / "store")
    assert descriptors() == before


def test_the_names_in_a_directory_are_synchronised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system can; nothing stays open either way."""
    synced: list[str] = []
    before = descriptors()

    def note(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        if len(synced) > 1:
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", note)
    sync_directory(tmp_path)
    sync_directory(tmp_path)
    sync_directory(tmp_path / "missing")
    assert synced == [str(tmp_path)] * 2
    assert descriptors() == before
