"""One agent per store: a lock file beside it that lasts as long as the process does."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from oda.errors import OutboxError


class StoreLock:
    """Holds ``<store>.lock``. The kernel lets go of it when the process ends, however it ends."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self.path = store.with_name(store.name + ".lock")
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        return self._descriptor is not None

    def acquire(self) -> None:
        """Raises ``OutboxError`` naming the file and the other process when there is one, and
        ``OSError`` when there can be no lock file."""
        if self._descriptor is not None:
            return
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise OutboxError(
                f"{self._store}: the outbox is in use by another agent (process {owner})"
            ) from None
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            # A full disk: the lock holds all the same, only its owner is not written down.
            return

    def is_taken(self) -> bool:
        """Whether somebody holds it now; nothing is changed by asking, also not who does."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
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

    def release(self) -> None:
        """Let go; the file stays, because deleting it could free a lock somebody else just took."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
