"""Moves a store to another place while its outbox goes on.

The write-ahead log is folded into the file first, so that one name is all that changes. Within a
file system the file is renamed, and its lock goes with it. Into another one it is copied under a
name of its own, synchronised and locked before it gets the new name; the old file is deleted after
that. A process that is killed at any moment leaves the whole store at the old place, at the new
one, or (for a moment) at both.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from oda.outbox.database import FileLock, sync_directory
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.store import StoreError

#: The name of a copy that is not whole yet ends so.
_UNFINISHED = ".moving"


def move(store: SqliteStore, path: Path) -> None:
    """See ``IStore.move``. Raises ``StoreError`` or ``OSError`` with the store at its old place."""
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.parent.resolve() / path.name
    if path == store.path:
        return
    for suffix in ("", "-wal", "-journal"):
        if os.path.lexists(f"{path}{suffix}"):
            raise StoreError(f"there is a file {path}{suffix} already")
    store.check()
    old = store.path
    try:
        store.fold()
        lock = _rename(old, path)
    except BaseException:
        store.go_on_at(old)
        raise
    # Of an empty write-ahead log that another program had open.
    for suffix in ("-wal", "-shm") if lock is None else ("", "-wal", "-shm"):
        with suppress(OSError):
            Path(f"{old}{suffix}").unlink(missing_ok=True)
    sync_directory(path.parent)
    sync_directory(old.parent)
    store.go_on_at(path, lock)


def _rename(old: Path, path: Path) -> FileLock | None:
    """Give the file its new name; where that takes a copy, the lock of that, and the old file is
    still there."""
    try:
        os.rename(old, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return _copy(old, path)
    return None


def _copy(old: Path, path: Path) -> FileLock:
    unfinished = path.with_name(path.name + _UNFINISHED)
    unfinished.unlink(missing_ok=True)
    lock = FileLock(unfinished)
    try:
        # No connection is open: closing the old file drops no lock of SQLite.
        with open(old, "rb") as source, open(unfinished, "r+b") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        os.rename(unfinished, path)
        sync_directory(path.parent)  # before the old file goes
    except BaseException:
        lock.release()
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    return lock
