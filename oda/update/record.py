"""The file that holds how far an update is, and the directory around it.

A state is on disk when ``write`` returns: a new file takes the place of the one before, and file
and directory are synchronised. One process at a time uses a directory: two would roll back each
other's updates.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from contextlib import suppress
from enum import Enum
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec

from oda.errors import OperationFailed
from oda.model import DeploymentElement, Step
from oda.private_files import make_directory, secure

FILE = "update.json"
DOWNLOADS = "downloads"
_LOCK = "lock"
#: More is no record of this agent's.
_MAX_BYTES = 16 * 1024 * 1024
VERSION = 1
#: Why an update is taken back that an earlier process did not finish.
INTERRUPTED = "the agent's process ended before the update was confirmed"


class Phase(Enum):
    """How far an update is; see the package."""

    PREPARING = "preparing"
    CHANGING = "changing"
    CONFIRMING = "confirming"
    RESTARTED = "restarted"
    ROLLING_BACK = "rollingBack"
    COMMITTED = "committed"
    ROLLED_BACK = "rolledBack"
    BROKEN = "broken"

    @property
    def is_over(self) -> bool:
        """Nothing is left to be done."""
        return self in (Phase.COMMITTED, Phase.ROLLED_BACK)


class Item(msgspec.Struct):
    """One element: the name of its installer, and what the installer noted for ``restore``.
    ``is_restored``: that is done, and what is there since is somebody else's."""

    element: DeploymentElement
    installer: str
    note: Any = None
    is_restored: bool = False


class Record(msgspec.Struct):
    """One update. ``token`` tells it from all others; ``has_changed``: ``CHANGING`` was reached, so
    that there may be something to restore. ``reason`` is why it is rolled back; ``is_clean``:
    nothing of it is left beside the places of its elements."""

    token: str
    items: list[Item]
    phase: Phase = Phase.PREPARING
    has_changed: bool = False
    steps: list[Step] = []
    reason: str = ""
    is_clean: bool = False
    version: int = VERSION


class UpdateDirectory:
    """The directory ``updateDirectory``, private to the agent's user."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._writing = Lock()

    @property
    def downloads(self) -> Path:
        """Where files are downloaded to."""
        return self.path / DOWNLOADS

    def exists(self) -> bool:
        """Whether there is a record."""
        return (self.path / FILE).exists()

    def acquire(self) -> None:
        """Make the directory, and keep others out until ``release``. Raises ``OperationFailed``."""
        if self._lock is not None:
            return
        try:
            make_directory(self.path)
            os.chmod(self.path, 0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            lock = os.open(self.path / _LOCK, flags, 0o600)
        except OSError as error:
            raise OperationFailed(f"updateDirectory can't be used: {error}") from error
        try:
            secure(lock, self.path / _LOCK)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise OperationFailed(f"another agent uses {self.path}: give it another one") from None
        except OSError as error:
            os.close(lock)
            raise OperationFailed(f"updateDirectory can't be used: {error}") from error
        self._lock = lock

    def release(self) -> None:
        """Let others in."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(self) -> Record | None:
        """The record, None where there is none. Raises ``OperationFailed`` for one that can't be
        read."""
        try:
            descriptor = os.open(self.path / FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OperationFailed(f"the record of updates can't be read: {error}") from error
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise OperationFailed("the record of updates is no file")
            data = stream.read(_MAX_BYTES + 1)
        try:
            record = msgspec.json.decode(data, type=Record)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise OperationFailed(f"the record of updates is damaged: {error}") from error
        if record.version != VERSION:
            raise OperationFailed(f"the record of updates has the version {record.version}")
        return record

    def write(self, record: Record) -> None:
        """Put the record on disk. Raises ``OSError``. The end of the agent may write while a thread
        does: one after the other, and each what the record is by then."""
        new = self.path / f"{FILE}.new"
        with self._writing:
            with suppress(FileNotFoundError):
                os.unlink(new)
            write_synchronised(new, msgspec.json.encode(record))
            os.rename(new, self.path / FILE)
            synchronise(self.path)

    def empty_downloads(self) -> None:
        """Delete what was downloaded."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.downloads)
        self.downloads.mkdir(mode=0o700, exist_ok=True)


def write_synchronised(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Make a file that is on disk when this returns. Raises ``OSError``, also where it exists."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, mode), "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def synchronise(directory: Path) -> None:
    """Put the names in a directory on disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
