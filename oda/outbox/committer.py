"""Brings changes to the disk: natural group commit, and patience with a disk that fails.

::

    NEW -> OPEN <-> TROUBLE        TROUBLE: the disk is full, read-only or gone. Changes stay in
            |                      memory and are tried again every few seconds.
            +-> HEALING            HEALING: the file is damaged and is being replaced.
    any -> CLOSED

What is ``uncommitted`` collects while the change before it is being committed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from oda.errors import OdaError
from oda.model import MessageClass
from oda.outbox.change import Change, Totals
from oda.outbox.disk import Disk, Healed, Opened, Recovery
from oda.outbox.queue import Kept
from oda.outbox.reader import Reader
from oda.outbox.store import UNREADABLE, StoreDamaged, is_damage
from oda.outbox.uncommitted import Uncommitted
from oda.outbox.worker import IWorker
from oda.settings import OutboxSettings

_log = Logger()

#: After so many seconds a disk that failed is tried again.
RETRY_S = 3.0

_encode = msgspec.json.Encoder().encode


class State(Enum):
    """What can be expected of the disk."""

    NEW = "new"
    OPEN = "open"
    TROUBLE = "trouble"
    HEALING = "healing"
    CLOSED = "closed"


class ICommitOwner(Protocol):
    """Who knows the rows; everything is called in the reactor's thread."""

    def totals(self) -> Totals:
        """The totals after everything that was collected so far."""

    def opened(self, opened: Opened, is_late: bool) -> bool:
        """A store was opened; False when its rows can't be joined with those in memory."""

    def committed(self, change: Change, used_bytes: int) -> None:
        """Everything in ``change`` is on disk."""

    def failed(self, change: Change) -> None:
        """``change`` is not on disk and will be tried again later."""

    def unwritten(self, kept: Kept) -> None:
        """A row was let go before it was written."""

    def known_rows(
        self,
    ) -> tuple[Mapping[MessageClass, Sequence[Kept]], Mapping[MessageClass, int]]:
        """The rows in memory that are on disk, and the ids beyond which rows are not in memory."""

    def healed(self, healed: Healed) -> None:
        """The store was replaced."""

    def closing(self) -> None:
        """Whatever is still collecting will never be committed."""


class Committer:
    """``reactor`` gives ``callLater``. The owner is told what happened and asked for totals.

    ``seconds`` is a monotonic clock that runs while work is done, to limit it.
    """

    def __init__(
        self,
        path: Path,
        settings: OutboxSettings,
        reactor: Any,
        worker: IWorker,
        owner: ICommitOwner,
        seconds: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._worker = worker
        self._owner = owner
        self._disk = Disk(path, settings, seconds)
        self._reader: Reader | None = None
        self._retry: Any = None
        self._is_adopted = False
        self._closing: Deferred[None] | None = None
        self.state = State.NEW
        self.uncommitted = Uncommitted()

    @property
    def path(self) -> Path:
        return self._disk.path

    @property
    def reader(self) -> Reader | None:
        """The connection to read with, None while nothing can be read."""
        if self._reader is None and self.state in (State.OPEN, State.TROUBLE) and self._is_adopted:
            try:
                self._reader = Reader(self._disk.path, self._settings)
            except UNREADABLE as error:
                self._disturbed(error)
        return self._reader

    def open(self) -> None:
        """Open the store. Raises ``OutboxError`` when another process has it; any other trouble
        is logged, and the outbox works from memory until it is over."""
        try:
            opened = self._disk.open()
        except (OSError, sqlite3.Error, StoreDamaged) as error:
            self._disturbed(error)
            return
        self.state = State.OPEN
        self._is_adopted = True
        self._tell_recovery(opened.recovery)
        self._owner.opened(opened, False)

    def submit(self, even_marks: bool = False) -> None:
        """Begin to commit what was collected, unless a commit is under way or the disk fails.
        ``even_marks``: also if rows were acknowledged and nothing else."""
        if self.uncommitted.running is not None or self.state is not State.OPEN:
            return
        if not self.uncommitted.collecting.is_empty or (
            even_marks and self.uncommitted.collecting.has_marks
        ):
            self._commit()

    def relieve(self) -> None:
        """Too much was collected: as long as the disk works, wait until that is being committed."""
        if self.state is State.OPEN and self.uncommitted.running is not None:
            self._worker.wait()
        self.submit()

    def close(self) -> Deferred[None]:
        """Commit what can be committed, then close everything. Fires with None when no thread,
        timer or file is left; never fails."""
        if self._closing is None:
            self._closing = Deferred()
            self._cancel_retry()
            if self.uncommitted.running is None and self.state is not State.HEALING:
                if self.uncommitted.has_last_words and self._is_adopted:
                    self._commit()
                else:
                    self._finish_closing()
        return self._closing

    @property
    def is_adopted(self) -> bool:
        """True when the store's rows are among those that are sent."""
        return self._is_adopted

    @property
    def is_healing(self) -> bool:
        """True while the store is being replaced and nothing can be read."""
        return self.state is State.HEALING

    def read_failed(self, error: Exception) -> bool:
        """Reading raised ``error``. True when the store is damaged and being replaced, or the
        commit under way will find out; False when it can't be read for now."""
        self._close_reader()
        if self.uncommitted.running is not None:
            # The worker has the file now; whoever reads next meets the same.
            return True
        self._disturbed(error)
        return self.is_healing

    def check_disk(self) -> None:
        """Try now what would be tried in a few seconds (the operator made room)."""
        if self._retry is not None:
            self._cancel_retry()
            self._try_again()

    # -- inside ------------------------------------------------------------------------------

    def _commit(self) -> None:
        totals = _encode(self._owner.totals())
        change = self.uncommitted.begin()
        change.totals = totals
        self._worker.run(
            lambda: self._disk.commit(change), self._commit_ended, aside=change.is_overtaken
        )

    def _commit_ended(self, outcome: int | Failure) -> None:
        change = self.uncommitted.end()
        if isinstance(outcome, Failure):
            for kept in self.uncommitted.take_back(change):
                self._owner.unwritten(kept)
            self._disturbed(outcome.value)
            self._owner.failed(change)
            if self._closing is not None and self.state is not State.HEALING:
                self._finish_closing()
            return
        self._recovered()
        self._owner.committed(change, outcome)
        if self._closing is not None and not self.uncommitted.has_last_words:
            self._finish_closing()
        elif self._closing is not None or not self.uncommitted.collecting.is_empty:
            self._commit()

    def _disturbed(self, error: BaseException | None) -> None:
        if is_damage(error) and self._is_adopted:
            self._heal(str(error))
            return
        if not isinstance(error, OSError | sqlite3.Error | OdaError):
            _log.error("a defect in the outbox: {error!r}", error=error)
        if self.state is not State.TROUBLE:
            _log.error(
                "the outbox can't be written to {path}: {reason}; messages are kept in memory,"
                " as far as there is room, until it can",
                path=str(self.path),
                reason=str(error),
            )
        self.state = State.TROUBLE
        self._close_reader()
        if self._closing is None and self._retry is None:
            self._retry = self._reactor.callLater(RETRY_S, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        if self.uncommitted.running is not None:
            return
        if not self._is_adopted:
            self._worker.run(self._disk.open, self._opened_late, takes_long=True)
        else:
            self._commit()

    def _opened_late(self, outcome: Opened | Failure) -> None:
        if isinstance(outcome, Failure):
            self._disturbed(outcome.value)
            return
        self._tell_recovery(outcome.recovery)
        self._is_adopted = True
        if not self._owner.opened(outcome, True):
            self._is_adopted = False
            self._close_reader()
            _log.error("{path} is taken up at the next start", path=str(self.path))
            self._worker.run(self._disk.close, lambda _: None)
            return
        if self._closing is None:
            self._commit()

    def _recovered(self) -> None:
        if self.state is State.TROUBLE:
            _log.info("the outbox is written to {path} again", path=str(self.path))
        if self.state is not State.CLOSED:
            self.state = State.OPEN

    def _heal(self, reason: str) -> None:
        if self.state is State.HEALING:
            return
        self.state = State.HEALING
        self._close_reader()
        known, borders = self._owner.known_rows()
        self._worker.run(
            lambda: self._disk.heal(reason, known, borders), self._heal_ended, takes_long=True
        )

    def _heal_ended(self, outcome: Healed | Failure) -> None:
        self.state = State.OPEN
        if isinstance(outcome, Failure):
            error = outcome.value
            # A new file that is damaged at once is a disk that can't be trusted: wait.
            reason = OSError(str(error)) if is_damage(error) else error
            self._disturbed(reason)
        else:
            self._tell_recovery(outcome.recovery)
            self._owner.healed(outcome)
        if self._closing is not None:
            if self.state is State.OPEN and self.uncommitted.has_last_words:
                self._commit()
            else:
                self._finish_closing()
        else:
            self.submit()

    def _tell_recovery(self, recovery: Recovery | None) -> None:
        if recovery is None:
            return
        _log.error(
            "the outbox {path} can't be used: {reason}; it is kept as {set_aside},"
            " {rows} rows were taken over into a new one{limit}",
            path=str(self.path),
            reason=recovery.reason,
            set_aside=str(recovery.set_aside),
            rows=recovery.rows,
            limit="" if recovery.is_complete else " (there was no time for the rest)",
        )

    def _finish_closing(self) -> None:
        self.state = State.CLOSED
        self._cancel_retry()
        self._close_reader()
        self._owner.closing()
        self._worker.run(self._disk.close, self._closed)

    def _closed(self, outcome: Any) -> None:
        if isinstance(outcome, Failure):
            _log.error("the outbox was not closed well: {reason}", reason=outcome.getErrorMessage())
        self._worker.stop()
        done = self._closing
        if done is not None and not done.called:
            done.callback(None)

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _cancel_retry(self) -> None:
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        self._retry = None
