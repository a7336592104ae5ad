"""Passes transactions to the store: one job at a time, and retries while the disk fails.

::

    NEW -> OPEN <-> TROUBLE      TROUBLE: the disk is full, read-only or gone. Changes stay in
     |      |          |         memory, and are retried every few seconds.
     +------+----------+-> CLOSED

    job: None | COMMIT | OPEN | REPLACE | RECOVER | MOVE | CLOSE

While a ``job`` runs, no other job starts; changes that arrive meanwhile are collected. When it
ends, its outcome is entered first, then the next job starts (``_go_on``), then the callers are
notified (``ICommitOwner.tell``). So a notified caller finds a settled state, and can't start a
second commit.

If the store turns out to be damaged, or is no longer the file at its path, a new one replaces it.
What is in memory is written into the new store; the rest is copied in steps, between the commits.

A store is moved to another place between two commits, once no damaged store is left to copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from oda.errors import OutboxError
from oda.log import Logger
from oda.model import MessageClass
from oda.outbox.queue import Row, Span
from oda.outbox.store import IStore, Opened, Recovered, StoreDamaged, StoreError, StoreMoved
from oda.outbox.transaction import Transaction, Uncommitted
from oda.outbox.worker import IWorker

_log = Logger()

#: How long after a failure the disk is tried again, in seconds.
RETRY_S = 3.0
#: A commit that takes longer is reported as a trouble, in seconds.
HANGS_S = 5.0
#: How often a closing outbox replaces its store before it gives up on a disk that damages each one.
_LAST_REPLACEMENTS = 3


class State(Enum):
    """The state of the disk as far as the outbox knows."""

    NEW = "new"
    OPEN = "open"
    TROUBLE = "trouble"
    CLOSED = "closed"


class Job(Enum):
    """What the worker is doing."""

    COMMIT = "commit"
    OPEN = "open"
    REPLACE = "replace"
    RECOVER = "recover"
    MOVE = "move"
    CLOSE = "close"


class ICommitOwner(Protocol):
    """The owner of the rows. Every method is called in the reactor's thread. Only ``tell`` may call
    other code."""

    def totals_for(self, transaction: Transaction, is_last: bool) -> bytes | None:
        """The present totals, as JSON; None if those of the store are good enough for now.
        ``is_last``: the store is about to be closed."""

    def opened(self, opened: Opened, is_late: bool) -> bool:
        """A store was opened; returns False if its rows can't be joined with those in memory."""

    def committed(self, transaction: Transaction, used_bytes: int) -> None:
        """Everything in ``transaction`` is on disk."""

    def failed(self, transaction: Transaction, unwritten: Sequence[Row]) -> None:
        """``transaction`` is not on disk and will be retried, without the rows that were let go in
        the meantime."""

    def detach(self) -> Mapping[MessageClass, Sequence[Span]]:
        """The store is about to be replaced: collect what is in memory, and return the ranges of
        ids that only the old store has."""

    def replaced(self, opened: Opened) -> None:
        """There is a new store."""

    def recovered(self, step: Recovered) -> None:
        """A step of copying from a damaged store has ended."""

    def readable(self) -> None:
        """The store can be read again, after an interval in which it could not."""

    def fire(self, waiting: Deferred[Any], outcome: Any) -> None:
        """Fire ``waiting`` with ``outcome`` when all callers are notified."""

    def closing(self, problem: str) -> None:
        """Whatever is still collecting will never be committed, because of this ``problem``."""

    def changed(self) -> None:
        """There is work to do at the end of this turn of the reactor."""

    def tell(self) -> None:
        """The state is settled: notify the callers."""


class Committer:
    """``reactor`` has ``callLater``; ``owner`` receives the outcomes and supplies the totals.

    ``is_recovering``: rows of a damaged store are still to be copied.
    """

    def __init__(
        self, store: IStore, worker: IWorker, reactor: IReactorTime, owner: ICommitOwner
    ) -> None:
        self.store = store
        self.uncommitted = Uncommitted()
        self.state = State.NEW
        self._worker = worker
        self._reactor = reactor
        self._owner = owner
        self._job: Job | None = None
        self._retry: IDelayedCall | None = None
        self._is_adopted = False
        self._is_finished = False  # while closing: there is nothing more to commit
        self._is_given_up = False
        self._last_replacements = _LAST_REPLACEMENTS
        self._fault: StoreError | None = None
        self._wanted: Mapping[MessageClass, Sequence[Span]] | None = None
        self.is_recovering = False
        self._move: tuple[Path, Deferred[None]] | None = None
        self._closing: Deferred[None] | None = None
        self._is_stuck = False
        self._is_abandoned = False
        self._job_since_s = 0.0
        #: Why the disk can't be used, while it can't.
        self.problem = ""

    # -- the state of the disk ---------------------------------------------------------------

    @property
    def is_moving(self) -> bool:
        """Whether the store can't be read for a moment although nothing is wrong with it."""
        return self._job is Job.MOVE

    @property
    def can_read(self) -> bool:
        """Whether rows can be read from the store now."""
        return (
            self._is_adopted
            and self._fault is None
            and self._job not in (Job.REPLACE, Job.MOVE)
            and self.state in (State.OPEN, State.TROUBLE)
        )

    @property
    def is_working(self) -> bool:
        """Whether changes collected now will probably be on disk soon: the disk works, the store is
        not being replaced, and the running commit is not stuck."""
        return (
            self.state is State.OPEN
            and self._fault is None
            and self._job is not Job.REPLACE
            and not self._is_stuck
        )

    @property
    def trouble(self) -> str:
        """Why the disk can't be used, "" where it can."""
        if self.problem or self._job is not Job.COMMIT:
            return self.problem
        hangs = self._reactor.seconds() - self._job_since_s > HANGS_S
        return "the disk does not answer" if hangs else ""

    @property
    def busy_s(self) -> float:
        """How long the present job has been under way, in seconds."""
        return 0.0 if self._job is None else self._reactor.seconds() - self._job_since_s

    # -- requests ----------------------------------------------------------------------------

    def open(self) -> None:
        """Open the store at once. Raises ``OutboxError`` when another process uses it. Any other
        trouble is logged, and the outbox works from memory until the trouble ends."""
        try:
            opened = self.store.open()
        except (OSError, StoreError) as error:
            self._disturbed(error)
            return
        self._adopt(opened, is_late=False)

    def submit(self, even_without_rows: bool = False) -> None:
        """Start to commit what was collected, unless a job is running or the disk fails.
        ``even_without_rows``: even if acknowledgements are all there is to commit."""
        if self._job is not None or self.state is not State.OPEN:
            return
        if self._fault is None and (even_without_rows or not self.uncommitted.collecting.is_empty):
            self._commit()
        else:
            self._go_on()

    def relieve(self) -> bool:
        """Too much was collected: if the disk works, wait until it is being committed; otherwise
        return False. The caller must hold back notifications."""
        if self._job is not None and self.is_working:
            # Once for each job: a disk that hangs must not block the reactor again and again.
            self._is_stuck = not self._worker.wait()
        self.submit()
        return self.is_working and not self.uncommitted.collecting.size_bytes

    def read_failed(self, error: Exception) -> None:
        """Reading raised ``error``. Does nothing while a job is running: either its outcome shows
        the trouble, or the next read fails again."""
        if self._job is None and not self._is_given_up:
            self._disturbed(error)
            self._owner.changed()

    def check(self) -> None:
        """Check that the store is still the file at its path."""
        if self._job is None and self.state is State.OPEN and self._fault is None:
            try:
                self.store.check()
            except StoreError as error:
                self._disturbed(error)
                self._owner.changed()

    def check_disk(self) -> None:
        """Retry now instead of in a few seconds (the operator made room)."""
        if self._retry is not None:
            self._cancel_retry()
            self._try_again()

    def move(self, path: Path) -> Deferred[None]:
        """Move the store to ``path`` as soon as the disk works and no job is running.

        Fails with ``OutboxError`` if that is impossible; the store then stays where it is. Does not
        fire during this call.
        """
        if self._move is not None:
            self._owner.fire(self._move[1], Failure(OutboxError("a later move replaces it")))
        waiting: Deferred[None] = Deferred()
        self._move = (path, waiting)
        self._owner.changed()
        return waiting

    def close(self) -> Deferred[None]:
        """Commit what can be committed, then close everything. Fires with None when no thread,
        timer or file is left; never fails."""
        if self._closing is None:
            self._closing = Deferred()
            self._cancel_retry()
            self._is_finished = not self._is_adopted
            self._go_on()
        return self._closing

    # -- commits -----------------------------------------------------------------------------

    def _commit(self) -> None:
        is_last = self._closing is not None
        totals = self._owner.totals_for(self.uncommitted.collecting, is_last)
        transaction = self.uncommitted.begin()
        transaction.totals = totals
        self._run(
            Job.COMMIT,
            lambda: self.store.apply(transaction),
            self._commit_ended,
            # The timers of a stop go on while the last commit waits for the disk.
            aside=is_last or transaction.is_overtaken,
        )

    def _run(
        self,
        kind: Job,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        takes_long: bool = False,
        aside: bool = False,
    ) -> None:
        def ended(outcome: Any) -> None:
            self._job, self._is_stuck = None, False  # the next one may begin
            if self._is_abandoned:
                self._leave(kind)
            else:
                done(outcome)

        self._job, self._job_since_s = kind, self._reactor.seconds()
        self._worker.run(work, ended, takes_long, aside)

    def _commit_ended(self, outcome: int | Failure) -> None:
        if isinstance(outcome, Failure):
            transaction, unwritten = self.uncommitted.failed()
            self._disturbed(outcome.value)
            self._owner.failed(transaction, unwritten)
            # A new store may still take what this one could not.
            self._is_finished = self._closing is not None and self._fault is None
        else:
            transaction = self.uncommitted.committed()
            if self.state is State.TROUBLE:
                _log.info("the outbox is written to {path} again", path=self.store.name)
            self.state, self.problem = State.OPEN, ""
            self._owner.committed(transaction, outcome)
            self._is_finished = self._closing is not None and self.uncommitted.collecting.is_empty
        self._go_on()
        self._owner.tell()

    def _go_on(self) -> None:
        """Start the next job that is due, if any; does nothing while a job is running."""
        if self._job is not None or self.state is State.CLOSED:
            return
        if self._fault is not None and self._closing is not None:
            if not self._last_replacements:
                self._fault, self._is_finished = None, True
            self._last_replacements -= 1
        if self._fault is not None:
            if self._retry is None:
                self._replace()
        elif self._closing is not None:
            if not self._is_finished:
                self._commit()
            elif not self._begin_move() and not self._is_gone():
                self._finish_closing()
        elif self.state is State.OPEN:
            if self._begin_move():
                return
            if not self.uncommitted.collecting.is_empty:
                self._commit()
            elif self.is_recovering:
                self._run(Job.RECOVER, self.store.recover, self._step_ended, takes_long=True)

    def _is_gone(self) -> bool:
        """Whether the store left its place after the last commit. If so, the accepted rows are
        written into a new store, even while the agent is stopping."""
        if self.state is not State.OPEN or self._last_replacements <= 0:
            return False
        try:
            self.store.check()
        except StoreError as error:
            self._is_finished = False
            self._disturbed(error)
            self._go_on()
            return True
        return False

    # -- trouble -----------------------------------------------------------------------------

    def _disturbed(self, error: BaseException | None) -> None:
        if isinstance(error, StoreDamaged | StoreMoved) and self._is_adopted:
            self._fault = error
            return
        if not isinstance(error, OSError | StoreError | OutboxError):
            _log.error("a defect in the outbox: {error!r}", error=error)
        if self.state is not State.TROUBLE:
            _log.error(
                "the outbox can't be written to {path}: {reason}; messages are kept in memory,"
                " as far as there is room, until it can (see outboxPath in"
                " es.amplia.oda.connector.websocket.cfg)",
                path=self.store.name,
                reason=str(error),
            )
        self.state = State.TROUBLE
        self.problem = str(error)
        self.store.close_reader()
        self._plan_retry()

    def _plan_retry(self) -> None:
        if self._closing is None and self._retry is None and not self._is_given_up:
            self._retry = self._reactor.callLater(RETRY_S, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        if self._job is not None:
            return
        if self._fault is not None:
            self._go_on()
        elif self._is_adopted:
            self._commit()
        else:
            self._run(Job.OPEN, self.store.open, self._opened_late, takes_long=True)

    def _opened_late(self, outcome: Opened | Failure) -> None:
        if isinstance(outcome, Failure):
            self._disturbed(outcome.value)
        elif not self._adopt(outcome, is_late=True):
            self._is_given_up = True
            self.state = State.TROUBLE
            _log.error("{path} is taken up at the next start", path=self.store.name)
            self._run(Job.CLOSE, self.store.close, self._given_up)
        self._go_on()
        self._owner.tell()

    def _given_up(self, _: Any) -> None:
        self._go_on()

    def _adopt(self, opened: Opened, is_late: bool) -> bool:
        self.state, self.problem = State.OPEN, ""
        self._is_adopted = True
        self._tell_replacement(opened)
        if not self._owner.opened(opened, is_late):
            self._is_adopted = False
            return False
        if is_late:
            _log.info("the outbox is written to {path} again", path=self.store.name)
        self.is_recovering = opened.is_recovering
        if self.is_recovering:
            self._owner.changed()
        return True

    # -- replacing a store -------------------------------------------------------------------

    def _replace(self) -> None:
        fault = self._fault
        assert fault is not None
        wanted: dict[MessageClass, list[Span]] = {}
        # If a replacement failed before, its rows are still wanted.
        for earlier in (self._wanted or {}, self._owner.detach()):
            for message_class, spans in earlier.items():
                wanted.setdefault(message_class, []).extend(spans)
        self._wanted = wanted
        self.store.close_reader()
        self._run(
            Job.REPLACE,
            lambda: self.store.replace(fault, wanted),
            self._replaced,
            takes_long=True,
        )

    def _replaced(self, outcome: Opened | Failure) -> None:
        if isinstance(outcome, Failure):
            fault = self._fault
            self._fault = None  # this time the disk failed, not the store
            error = outcome.value
            # A new file that is damaged at once shows that the disk can't be trusted: wait.
            self._disturbed(StoreError(str(error)) if isinstance(error, StoreError) else error)
            self._fault = fault
            if self._closing is not None:
                self._fault, self._is_finished = None, True
        else:
            self._fault = self._wanted = None
            self.state, self.problem = State.OPEN, ""
            self._tell_replacement(outcome)
            self._owner.replaced(outcome)
            self.is_recovering = outcome.is_recovering
            # Even if nothing was collected: the totals tell a later process that no row of this
            # one's memory is only in the old store, and which ids are used.
            self._commit()
        self._go_on()
        self._owner.tell()

    def _tell_replacement(self, opened: Opened) -> None:
        if opened.reason and not opened.set_aside:
            _log.error(
                "the outbox {path} can't be used: {reason}; the agent writes its content into a new"
                " file there",
                path=self.store.name,
                reason=opened.reason,
            )
        elif opened.reason:
            _log.error(
                "the outbox {path} can't be used: {reason}; it is kept as {set_aside}, and its"
                " readable content is taken over into a new one",
                path=self.store.name,
                reason=opened.reason,
                set_aside=opened.set_aside,
            )
        elif opened.is_recovering:
            _log.warn(
                "taking over messages of {set_aside} continues",
                set_aside=opened.set_aside or "an outbox whose file was gone",
            )

    def _step_ended(self, outcome: Recovered | Failure) -> None:
        if isinstance(outcome, Failure):
            self._disturbed(outcome.value)
        else:
            self.is_recovering = not outcome.is_done
            self._owner.recovered(outcome)
        # The next step runs in another turn, after a commit of what came in the meantime.
        self._owner.changed()
        if self._closing is not None:
            self._go_on()
        self._owner.tell()

    # -- moving a store ----------------------------------------------------------------------

    def _begin_move(self) -> bool:
        """Start to move the store if a move was requested and is possible now."""
        if self._move is None or self.state is not State.OPEN or self.is_recovering:
            return False
        (path, waiting), self._move = self._move, None
        self.store.close_reader()
        self._run(
            Job.MOVE,
            lambda: self.store.move(path),
            lambda outcome: self._moved(outcome, path, waiting),
            takes_long=True,
        )
        return True

    def _moved(self, outcome: Failure | None, path: Path, waiting: Deferred[None]) -> None:
        if isinstance(outcome, Failure):
            error = outcome.value
            if not isinstance(error, OSError | StoreError | OutboxError):
                _log.error("a defect in the outbox: {error!r}", error=error)
            if isinstance(error, StoreDamaged | StoreMoved):
                self._disturbed(error)
            problem = f"the outbox {self.store.name} can't be moved to {path}: {error}"
            self._owner.fire(waiting, Failure(OutboxError(problem)))
        else:
            _log.info("the outbox is in {path} now", path=self.store.name)
            self._owner.fire(waiting, None)
        self._owner.readable()
        self._go_on()
        self._owner.tell()

    # -- the end -----------------------------------------------------------------------------

    def _finish_closing(self) -> None:
        self.state = State.CLOSED
        self._cancel_retry()
        self.store.close_reader()
        self._give_up_move()
        self._owner.closing(self.problem)
        self._run(Job.CLOSE, self.store.close, self._closed, aside=True)

    def abandon(self) -> None:
        """End ``close`` now, without waiting for the running job. What it was to commit counts as
        lost, although it may still reach the disk."""
        done = self._closing
        if done is None or done.called:
            return
        self._is_abandoned = True
        _log.error(
            "the disk has not answered within the time of a stop; the agent ends without the"
            " outbox {path}",
            path=self.store.name,
        )
        if self._job is Job.COMMIT:
            transaction, unwritten = self.uncommitted.failed()
            self._owner.failed(transaction, unwritten)
        if self.state is not State.CLOSED:
            self.state = State.CLOSED
            self._give_up_move()
            self._owner.closing(self.problem or "the disk does not answer")
        self._owner.tell()
        done.callback(None)

    def _leave(self, ended: Job) -> None:
        """An abandoned job has ended after all: leave neither a file nor a thread."""
        if ended is Job.CLOSE:
            self._worker.stop()
        else:
            self.store.close_reader()
            self._run(Job.CLOSE, self.store.close, lambda _: None)

    def _closed(self, outcome: Any) -> None:
        if isinstance(outcome, Failure):
            _log.error("closing the outbox failed: {reason}", reason=outcome.getErrorMessage())
        self._worker.stop()
        done = self._closing
        assert done is not None
        self._owner.tell()
        done.callback(None)

    def _give_up_move(self) -> None:
        if self._move is not None:
            problem = f"the outbox {self.store.name} was not moved: the agent is stopping"
            self._owner.fire(self._move[1], Failure(OutboxError(problem)))
            self._move = None

    def _cancel_retry(self) -> None:
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        self._retry = None
