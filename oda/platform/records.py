"""Everything that is stored: the database, its writers, and the times of commits."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall

from oda.interfaces import IWallClock
from oda.platform.database import Database
from oda.platform.ledger import OperationLedger
from oda.platform.logger import PlatformLogger
from oda.platform.recording import Recording
from oda.platform.store import Store

log = PlatformLogger()

#: Messages read are committed at least this often, in seconds.
_COMMIT_EVERY_S = 0.25


class Bounds(msgspec.Struct, frozen=True):
    """How much is kept; of each kind the oldest goes first."""

    messages: int = 100_000
    message_bytes: int = 64 * 1024 * 1024
    datapoints: int = 500_000
    operations: int = 10_000


class Records:
    """The record of messages, devices with their datapoints, and operations, in one database.

    ``path`` None keeps everything in memory. ``durable`` data is committed in the reactor's next
    turn, before anything reports it; other data four times a second. Raises ``DatabaseUnusable``.
    """

    def __init__(
        self, reactor: Any, clock: IWallClock, path: Path | None, durable: bool, bounds: Bounds
    ) -> None:
        self.database = Database(path, durable)
        self.recording = Recording(self.database, clock, bounds.messages, bounds.message_bytes)
        self.store = Store(self.database, clock, bounds.datapoints)
        self.ledger = OperationLedger(self.database, clock, bounds.operations)
        self._reactor = reactor
        self._next_commit: IDelayedCall | None = None
        if self.database.durable:
            self.database.on_deferred(self._commit_soon)
        self._commits = LoopingCall(self._commit)
        self._commits.clock = reactor

    def start(self) -> None:
        """Start to commit regularly."""
        self._commits.start(_COMMIT_EVERY_S, now=False)

    def close(self) -> None:
        """Commit a last time and close the database."""
        if self._commits.running:
            self._commits.stop()
        self.database.on_deferred(lambda: None)
        if self._next_commit is not None:
            self._next_commit.cancel()
            self._next_commit = None
        self.database.close()

    def _commit_soon(self) -> None:
        if self._next_commit is None:
            self._next_commit = self._reactor.callLater(0, self._commit_now)

    def _commit_now(self) -> None:
        self._next_commit = None
        self._commit()

    def _commit(self) -> None:
        try:
            self.database.flush()
        except sqlite3.Error as error:
            log.error("the record can't be written: {error}", error=error)
