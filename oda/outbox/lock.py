"""One agent for each store: a lock on the file itself.

So no link, however it is spelt, leads a second agent to the same rows.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from oda.errors import OutboxError
from oda.private_files import secure


class FileLock:
    """A lock on a file itself, by whatever name it was opened. The kernel lets go of it when the
    process ends, however it ends.

    It is a ``flock``, which SQLite does not use. Closing the descriptor drops the locks that SQLite
    holds on the same file in this process (POSIX locks belong to the process): so it is closed
    last, and a file that is locked by this process is not opened a second time.
    """

    _held: ClassVar[set[tuple[int, int]]] = set()

    def __init__(self, path: Path, create: bool = True) -> None:
        """The file becomes private once it is locked; nothing else of it changes.

        Raises ``OutboxError`` naming the other process when there is one, and ``OSError``, also for
        a link and for a file of another user.
        """
        if FileLock.is_held(path):
            raise OutboxError(
                f"{path}: the outbox is in use by another agent (process {os.getpid()}, this one)"
            )
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        self._descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            secure(self._descriptor, path)
            self._identity = _identity(os.fstat(self._descriptor))
            FileLock._held.add(self._identity)
        except BlockingIOError:
            owner = lock_owner(self._descriptor) or "unknown"
            os.close(self._descriptor)
            raise OutboxError(
                f"{path}: the outbox is in use by another agent (process {owner})"
            ) from None
        except BaseException:
            os.close(self._descriptor)
            raise

    @staticmethod
    def is_held(path: Path) -> bool:
        """Whether this process has locked the file at ``path``: it must not open it then."""
        try:
            return _identity(os.stat(path)) in FileLock._held
        except OSError:
            return False

    def is_at(self, path: Path) -> bool:
        """Whether the locked file is the one at ``path``."""
        try:
            return _identity(os.stat(path)) == self._identity
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let go of the file."""
        FileLock._held.discard(self._identity)
        os.close(self._descriptor)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def lock_owner(descriptor: int) -> str | None:
    """The process that holds a ``flock`` on the file of ``descriptor``, where the kernel says
    so."""
    inode = os.fstat(descriptor).st_ino
    with suppress(OSError):
        for line in Path("/proc/locks").read_text("ascii").splitlines():
            fields = line.split()
            if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                return fields[4]
    return None


def is_locked(path: Path) -> bool:
    """Whether an agent has the store at ``path`` now. Nothing is changed by asking."""
    if FileLock.is_held(path):
        return True
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Shared, so that two who ask don't see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power failure; not every file system can."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
