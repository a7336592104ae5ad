"""Brings transactions to the store: one job at a time, and patience with a disk that fails.

::

    NEW -> OPEN <-> TROUBLE      TROUBLE: the disk is full, read-only or gone. Changes stay in
     |      |          |         memory, and are tried again every few seconds.
     +------+----------+-> CLOSED

    job: None | COMMIT | OPEN | REPLACE | RECOVER | MOVE | CLOSE

While a ``job`` is under way nothing else begins; what comes meanwhile is collected. When it ends,
its outcome is entered first, then the next job begins (``_go_on``), then all are told
(``ICommitOwner.tell``). So whoever is told finds a settled state, and can't begin a second commit.

A store that turns out to be damaged, or that is no longer the file at its path, is replaced by a
new one. What is in memory is written into that; the rest is copied in steps, between the commits.

A store is moved to another place between two commits, once none of a damaged one is left to copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from oda.errors import OutboxError
from oda.model import MessageClass
from oda.outbox.queue import Row, Span
from oda.outbox.store import IStore, Opened, Recovered, StoreDamaged, StoreError, StoreMoved
from oda.outbox.transaction import Transaction, Uncommitted
from oda.outbox.worker import IWorker

_log = Logger()

#: After so many seconds a disk that failed is tried again.
RETRY_S = 3.0
#: A commit that takes longer is told as a trouble, in seconds.
HANGS_S = 5.0
#: While it is closed, a store is replaced so often; a disk that damages each is given up then.
_LAST_REPLACEMENTS = 3


class State(Enum):
    """What can be expected of the disk."""

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
    """Who knows the rows. Everything is called in the reactor's thread, and but for ``tell``
    nothing may call anybody else."""

    def totals_for(self, transaction: Transaction, is_last: bool) -> bytes | None:
        """The totals, as JSON, after everything that was collected so far; None where those of the
        store will do for now. ``is_last``: the store is about to be closed."""

    def opened(self, opened: Opened, is_late: bool) -> bool:
        """A store was opened; False when its rows can't be joined with those in memory."""

    def committed(self, transaction: Transaction, used_bytes: int) -> None:
        """Everything in ``transaction`` is on disk."""

    def failed(self, transaction: Transaction, unwritten: Sequence[Row]) -> None:
        """``transaction`` is not on disk and will be tried again later, without the rows that were
        let go in the meantime."""

    def detach(self) -> Mapping[MessageClass, Sequence[Span]]:
        """The store is about to be replaced: collect what is in memory, and give the ranges of ids
        that only the old store has."""

    def replaced(self, opened: Opened) -> None:
        """There is a new store."""

    def recovered(self, step: Recovered) -> None:
        """A step of copying from a damaged store has ended."""

    def readable(self) -> None:
        """The store can be read again, after a time in which it could not."""

    def fire(self, waiting: Deferred[Any], outcome: Any) -> None:
        """Fire ``waiting`` with ``outcome`` when all are told."""

    def closing(self, problem: str) -> None:
        """Whatever is still collecting will never be committed, because of this ``problem``."""

    def changed(self) -> None:
        """Something has to be done at the end of this turn of the reactor."""

    def tell(self) -> None:
        """The state is settled: tell everybody what happened."""


class Committer:
    """``reactor`` gives ``callLater``; ``owner`` is told what happened and asked for totals.

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
        self._is_finished = False  # while closing: nothing more will be committed
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

    # -- what can be expected ----------------------------------------------------------------

    @property
    def is_moving(self) -> bool:
        """Whether the store can't be read for a moment, and nothing is wrong with it."""
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
        """Whether what is collected now can be expected to be on disk soon: the disk works, the
        store is not being replaced, and the commit under way is not stuck."""
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

    # -- what is asked -----------------------------------------------------------------------

    def open(self) -> None:
        """Open the store, at once. Raises ``OutboxError`` when another process has it; any other
        trouble is logged, and the outbox works from memory until it is over."""
        try:
            opened = self.store.open()
        except (OSError, StoreError) as error:
            self._disturbed(error)
            return
        self._adopt(opened, is_late=False)

    def submit(self, even_without_rows: bool = False) -> None:
        """Begin to commit what was collected, unless a job is under way or the disk fails.
        ``even_without_rows``: also if rows were acknowledged and nothing else."""
        if self._job is not None or self.state is not State.OPEN:
            return
        if self._fault is None and (even_without_rows or not self.uncommitted.collecting.is_empty):
            self._commit()
        else:
            self._go_on()

    def relieve(self) -> bool:
        """Too much was collected: as long as the disk works, wait until that is being committed;
        False where it is not. The caller holds back whoever would be told."""
        if self._job is not None and self.is_working:
            # Once for each job: a disk that hangs must not hold up the reactor again and again.
            self._is_stuck = not self._worker.wait()
        self.submit()
        return self.is_working and not self.uncommitted.collecting.size_bytes

    def read_failed(self, error: Exception) -> None:
        """Reading raised ``error``. While a job is under way nothing is done: either its outcome
        tells, or whoever reads next meets the same."""
        if self._job is None and not self._is_given_up:
            self._disturbed(error)
            self._owner.changed()

    def check(self) -> None:
        """Look whether the store is still the file at its path."""
        if self._job is None and self.state is State.OPEN and self._fault is None:
            try:
                self.store.check()
            except StoreError as error:
                self._disturbed(error)
                self._owner.changed()

    def check_disk(self) -> None:
        """Try now what would be tried in a few seconds (the operator made room)."""
        if self._retry is not None:
            self._cancel_retry()
            self._try_again()

    def move(self, path: Path) -> Deferred[None]:
        """Move the store to ``path``, as soon as the disk works and nothing else is under way.

        Fails with ``OutboxError`` when it can't be done: the store stays where it is. It does not
        fire during this call.
        """
        if self._move is not None:
            self._owner.fire(self._move[1], Failure(OutboxError("it is moved elsewhere")))
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
            # What a new store can take is committed to that.
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
        """Begin the job that is due, if any; nothing while another one is under way."""
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
        """Whether the store went from its place after the last commit: then what was accepted is
        written into a new one, however short the time is in which the agent stops."""
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
        # After a replacement that failed, what was wanted then is still wanted.
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
            self._fault = None  # what failed now is the disk
            error = outcome.value
            # A new file that is damaged at once is a disk that can't be trusted: wait.
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
            # Even if nothing was collected: the totals tell another process that nothing is only
            # in the old store that this one had in memory, and which ids are given away.
            self._commit()
        self._go_on()
        self._owner.tell()

    def _tell_replacement(self, opened: Opened) -> None:
        if opened.reason and not opened.set_aside:
            _log.error(
                "the outbox {path} can't be used: {reason}; its content is written into a new file"
                " there",
                path=self.store.name,
                reason=opened.reason,
            )
        elif opened.reason:
            _log.error(
                "the outbox {path} can't be used: {reason}; it is kept as {set_aside}, and what can"
                " be read is taken over into a new one",
                path=self.store.name,
                reason=opened.reason,
                set_aside=opened.set_aside,
            )
        elif opened.is_recovering:
            _log.warn(
                "taking over messages of {set_aside} goes on",
                set_aside=opened.set_aside or "an outbox whose file was gone",
            )

    def _step_ended(self, outcome: Recovered | Failure) -> None:
        if isinstance(outcome, Failure):
            self._disturbed(outcome.value)
        else:
            self.is_recovering = not outcome.is_done
            self._owner.recovered(outcome)
        # The next step in another turn: what came in the meantime is committed before it.
        self._owner.changed()
        if self._closing is not None:
            self._go_on()
        self._owner.tell()

    # -- moving a store ----------------------------------------------------------------------

    def _begin_move(self) -> bool:
        """Begin to move the store, if it is to be moved and can be now."""
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
        """The end of ``close``, now: nobody waits for the job that is under way. What it was to
        commit counts as lost, although it may still reach the disk."""
        done = self._closing
        if done is None or done.called:
            return
        self._is_abandoned = True
        _log.error(
            "the disk has not answered in the time of a stop; nobody waits for the outbox {path}",
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
        """A job has ended after all, for nobody: leave neither a file nor a thread."""
        if ended is Job.CLOSE:
            self._worker.stop()
        else:
            self.store.close_reader()
            self._run(Job.CLOSE, self.store.close, lambda _: None)

    def _closed(self, outcome: Any) -> None:
        if isinstance(outcome, Failure):
            _log.error("the outbox was not closed well: {reason}", reason=outcome.getErrorMessage())
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
