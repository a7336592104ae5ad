"""The worker's side: owns the file, and whatever may wait for the disk happens here.

A ``Disk`` is used by one thread at a time: first by the one that opens it, then by the worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from oda.model import MessageClass
from oda.outbox.change import CLASSES, Change, Tally, Totals
from oda.outbox.lock import StoreLock
from oda.outbox.queue import Amount, Kept
from oda.outbox.salvage import Salvaged, salvage
from oda.outbox.store import Store, StoreDamaged
from oda.settings import OutboxSettings


class Recovery(NamedTuple):
    """A damaged store was replaced; see ``Salvaged``."""

    reason: str
    set_aside: Path
    rows: int
    is_complete: bool
    lost: Tally


class Opened(NamedTuple):
    """The totals of the store that is open now, and how it had to be recovered, if so."""

    totals: Totals
    recovery: Recovery | None


class Healed(NamedTuple):
    """The store was replaced while running; ``amounts`` is what lies behind each border."""

    recovery: Recovery
    amounts: Mapping[MessageClass, Amount]


class Disk:
    """``seconds`` is a monotonic clock: it only limits how long recovering may take."""

    def __init__(self, path: Path, settings: OutboxSettings, seconds: Callable[[], float]) -> None:
        self.path = path
        self._settings = settings
        self._seconds = seconds
        self._lock = StoreLock(path)
        self._store: Store | None = None

    def open(self) -> Opened:
        """Take the lock and open the file, recovering it if it is damaged.

        Raises ``OutboxError`` when another process has it, and ``OSError`` or ``sqlite3.Error``
        when there can be no file now.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            self._store = Store(self.path, self._settings)
        except StoreDamaged as damage:
            salvaged = salvage(self.path, self._settings, self._seconds)
            self._store = salvaged.store
            return Opened(self._store.totals, _recovery(str(damage), salvaged))
        return Opened(self._store.totals, None)

    def commit(self, change: Change) -> int:
        """As ``Store.apply``; a store that failed before is opened again first."""
        if self._store is None:
            self._store = Store(self.path, self._settings)
        try:
            return self._store.apply(change)
        except BaseException:
            # After an error of the disk a connection may be of no use; a new one tells.
            self._close_store()
            raise

    def heal(
        self,
        reason: str,
        known: Mapping[MessageClass, Sequence[Kept]],
        borders: Mapping[MessageClass, int],
    ) -> Healed:
        """Replace a store that turned out to be damaged; ``known`` rows are in memory and are
        written again. Raises as ``open``."""
        self._close_store()
        salvaged = salvage(self.path, self._settings, self._seconds)
        store = self._store = salvaged.store
        try:
            store.execute("BEGIN IMMEDIATE")
            for message_class, rows in known.items():
                store.add_rows(message_class, rows)
            store.execute("COMMIT")
            amounts = {one: store.amount(one, borders[one]) for one in CLASSES}
        except BaseException:
            self._close_store()
            raise
        return Healed(_recovery(reason, salvaged), amounts)

    def close(self) -> None:
        """Close the file and let go of the lock."""
        self._close_store()
        self._lock.release()

    def _close_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()


def _recovery(reason: str, salvaged: Salvaged) -> Recovery:
    return Recovery(reason, salvaged.set_aside, salvaged.rows, salvaged.is_complete, salvaged.lost)
