"""What an operator changes in an outbox, besides its settings: takes over another store, and works
on the outbox of a stopped agent. ``inspection`` only reads.

A store that its agent has left is taken over in batches. A batch is read from the source, put into
the target, and removed from the source once the target has committed it. So a process killed at any
moment loses nothing; at worst the running batch is in both stores, and is sent twice. The journal
comes first, so that no operation runs twice after a change of path; then the dead letters; then the
messages, in their order, behind those that are waiting in the target.

The source is locked, so that no agent uses it meanwhile. A worker reads and writes it batch by
batch; the reactor only puts. What has no room in the target stays in the source.

The outbox of a stopped agent is changed by the outbox code itself, on a clock that stands still. A
running agent gets the request through its control socket instead, see ``oda.upkeep``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.errors import OutboxError
from oda.interfaces import ICounters, IWallClock
from oda.log import Logger
from oda.model import MessageClass, OutgoingMessage
from oda.outbox.clock import Uptime, Watermark, this_machine
from oda.outbox.committer import State
from oda.outbox.inspection import is_outbox
from oda.outbox.outbox import Outbox
from oda.outbox.queue import Amount, Row, Span, amount_of, runs_of
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.store import Letter, StoredRecord, StoreError
from oda.outbox.transaction import CLASSES, Totals, Transaction
from oda.outbox.worker import InlineWorker, IWorker
from oda.settings import OutboxSettings
from oda.wording import counted

_log = Logger()
_T = TypeVar("_T")

#: The maximum content of one batch; a single message may be larger.
BATCH_ROWS = 512
BATCH_BYTES = 1024 * 1024

_Entry = tuple[StoredRecord, bytes | None]


class TakenOver(msgspec.Struct):
    """What was taken over, and what stays in the source. ``refusal`` says why some of it could not
    be taken over, "" if all was. ``is_durable`` is False for a target in memory."""

    messages: int = 0
    letters: int = 0
    operations: int = 0
    letters_left: int = 0
    refusal: str = ""
    is_durable: bool = True

    @property
    def is_complete(self) -> bool:
        """Whether nothing stays in the source."""
        return not (self.refusal or self.letters_left)

    def describe(self, path: Path) -> str:
        """One line for the log and for people."""
        text = (
            f"took over {counted(self.messages, 'message')}, {counted(self.letters, 'dead letter')}"
            f" and {counted(self.operations, 'operation')} from {path}"
        )
        if not self.is_durable:
            text += " into memory: what is not delivered when the agent ends is lost"
        if self.refusal:
            return f"{text}; the rest stays there: {self.refusal}"
        if self.letters_left:
            return (
                f"{text}; left there for lack of room: {counted(self.letters_left, 'dead letter')}"
            )
        return f"{text}; the file is empty now and can be deleted"


class Source:
    """The store at ``path``. Its methods do blocking disk I/O, raise ``OutboxError``, ``OSError``
    or ``StoreError``, and are called by one thread at a time."""

    def __init__(self, path: Path, settings: OutboxSettings, uptime: Uptime) -> None:
        self._path = path
        self._settings = settings
        self._uptime = uptime
        self._store = SqliteStore(path, settings)
        self._totals = Totals()
        self._after = dict.fromkeys(CLASSES, 0)
        self._records: deque[StoredRecord] = deque()
        self._letters: deque[int] = deque()

    def open(self) -> bool:
        """Lock and open the store; returns whether it must be recovered."""
        if not self._path.is_file():
            raise OutboxError(f"{self._path}: there is no such file")
        if not is_outbox(self._path):
            raise OutboxError(f"{self._path}: it is not an outbox, or it is this agent's own")
        if self._store.open().is_recovering:
            return True
        self._begin()
        return False

    def recover(self) -> bool:
        """Copy some more rows of a damaged store; returns whether there are more to copy."""
        if not self._store.recover().is_done:
            return True
        self._begin()
        return False

    def _begin(self) -> None:
        self._totals = self._store.open().totals
        self._records.extend(self._store.records())
        self._letters.extend(row_id for row_id, _ in self._store.letters())
        self._forget_acknowledged()

    def _forget_acknowledged(self) -> None:
        """Drop acknowledged rows, as a start of the agent would: see ``Watermark``."""
        totals = self._totals
        has_lingered = self._uptime.since_ms(totals.boot_id, totals.uptime_ms) >= int(
            self._settings.linger_s * 1000
        )
        transaction = Transaction()
        for message_class in CLASSES:
            mark = Watermark(totals.watermarks[message_class.value])
            high = max(mark.exhausted, mark.resting if has_lingered else 0)
            span = Span(0, high)
            gone = self._store.amount(message_class, span)
            if gone.rows:
                transaction.delete(message_class, span)
                self._count(message_class, gone)
                totals.delivered.add(gone.rows, gone.datapoints)
                totals.accepted.add(gone.rows, gone.datapoints)
        self._apply(transaction)

    # -- reading -----------------------------------------------------------------------------

    def next_records(self) -> list[_Entry]:
        """Some more records of the journal, with their answers."""
        entries: list[_Entry] = []
        size = 0
        while self._records and len(entries) < BATCH_ROWS and size < BATCH_BYTES:
            record = self._records.popleft()
            payload = self._store.answer(record.number) if record.answer_bytes else None
            size += len(payload or b"")
            if payload is None:
                record = record._replace(answer_bytes=None)
            entries.append((record, payload))
        return entries

    def next_letters(self) -> list[Letter]:
        """Some more dead letters."""
        letters: list[Letter] = []
        size = 0
        while self._letters and len(letters) < BATCH_ROWS and size < BATCH_BYTES:
            letter = self._store.letter(self._letters.popleft())
            if letter is not None:
                letters.append(letter)
                size += len(letter.row.payload)
        return letters

    def next_rows(self, message_class: MessageClass) -> tuple[list[Row], list[Letter]]:
        """Some more messages, in order, and the damaged ones among them, which can't be sent."""
        rows, damaged = self._store.page(
            message_class,
            Span(self._after[message_class] + 1, 1 << 62),
            BATCH_ROWS,
            BATCH_BYTES,
        )
        if rows:
            self._after[message_class] = rows[-1].row_id
        return (
            [row for row in rows if row.row_id not in damaged],
            [
                Letter(row, message_class.value, "damaged", False)
                for row in rows
                if row.row_id in damaged
            ],
        )

    # -- removing ----------------------------------------------------------------------------

    def remove_records(self, entries: Sequence[_Entry]) -> None:
        """Remove records that are now in another store."""
        transaction = Transaction()
        for record, _ in entries:
            transaction.records[record.number] = None
        self._apply(transaction)

    def remove_letters(self, letters: Sequence[Letter]) -> None:
        """Remove letters that are now in another store."""
        transaction = Transaction()
        for letter in letters:
            transaction.letters_gone.append(letter.row.row_id)
            for tally in (self._totals.dead, self._totals.accepted):
                tally.add(-1, -letter.row.datapoints)
        self._apply(transaction)

    def remove_rows(self, message_class: MessageClass, rows: Sequence[Row]) -> None:
        """Remove rows that are now in another store."""
        transaction = Transaction()
        for run in runs_of(rows):
            transaction.delete(message_class, Span(run[0].row_id, run[-1].row_id))
        self._count(message_class, amount_of(rows))
        self._apply(transaction)

    def _count(self, message_class: MessageClass, gone: Amount) -> None:
        stored = self._totals.stored[message_class.value]
        stored.rows -= gone.rows
        stored.cost -= gone.cost
        stored.datapoints -= gone.datapoints
        self._totals.accepted.add(-gone.rows, -gone.datapoints)

    def _apply(self, transaction: Transaction) -> None:
        if not transaction.is_empty:
            transaction.totals = msgspec.json.encode(self._totals)
            self._store.apply(transaction)

    def close(self) -> None:
        """Close everything."""
        self._store.close()


@inlineCallbacks
def take_over(
    path: Path,
    settings: OutboxSettings,
    target: Outbox,
    worker: IWorker,
    uptime: Uptime | None = None,
) -> Any:
    """Take over everything in the store at ``path`` into ``target``. Fires with ``TakenOver``, or
    fails with ``OutboxError`` when the store can't be used. ``worker`` does the disk I/O.
    ``uptime`` None means that of this machine."""
    source = Source(path, settings, uptime or this_machine())
    taken = TakenOver(is_durable=target.is_durable)
    try:
        is_recovering = yield _aside(worker, source.open)
        while is_recovering:
            is_recovering = yield _aside(worker, source.recover)
        yield _take_records(source, target, worker, taken)
        yield _take_letters(source, target, worker, taken)
        for message_class in CLASSES:
            yield _take_messages(message_class, source, target, worker, taken)
    except (StoreError, OSError) as error:
        raise OutboxError(f"{path}: it can't be used: {error}") from error
    except _Refused as refusal:
        taken.refusal = str(refusal)
    finally:
        yield _aside(worker, source.close)
    _log.info("{text}", text=taken.describe(path))
    return taken


class _Refused(Exception):  # noqa: N818 - ends a take-over, and is not an error
    """The target accepts nothing more now."""


@inlineCallbacks
def _take_records(source: Source, target: Outbox, worker: IWorker, taken: TakenOver) -> Any:
    while entries := (yield _aside(worker, source.next_records)):
        try:
            recorded = target.journal.take_over(entries)
        except OutboxError as error:
            raise _Refused(str(error)) from None
        _, refusal = yield _outcomes(recorded)
        if refusal:
            raise _Refused(refusal)
        taken.operations += len(recorded)
        yield _aside(worker, partial(source.remove_records, entries))
    target.journal.tell_interrupted()


@inlineCallbacks
def _take_letters(source: Source, target: Outbox, worker: IWorker, taken: TakenOver) -> Any:
    while letters := (yield _aside(worker, source.next_letters)):
        kept = [(letter, target.take_over_letter(letter)) for letter in letters]
        taken.letters_left += sum(accepted is None for _, accepted in kept)
        done = [(letter, accepted) for letter, accepted in kept if accepted is not None]
        successes, refusal = yield _outcomes([accepted for _, accepted in done])
        moved = [letter for (letter, _), success in zip(done, successes, strict=True) if success]
        taken.letters += len(moved)
        yield _aside(worker, partial(source.remove_letters, moved))
        if refusal:
            raise _Refused(refusal)


@inlineCallbacks
def _take_messages(
    message_class: MessageClass,
    source: Source,
    target: Outbox,
    worker: IWorker,
    taken: TakenOver,
) -> Any:
    while True:
        rows, damaged = yield _aside(worker, partial(source.next_rows, message_class))
        if not rows and not damaged:
            return
        waiting: list[Deferred[int]] = []
        for row in rows:
            waiting.append(
                target.take_over(
                    OutgoingMessage(
                        payload=row.payload,
                        message_class=message_class,
                        is_text=row.is_text,
                        datapoints=row.datapoints,
                    )
                )
            )
            if waiting[-1].called:
                break  # refused; those behind it would be refused too
        kept = [(letter, target.take_over_letter(letter)) for letter in damaged]
        dead = [(letter.row, accepted) for letter, accepted in kept if accepted is not None]
        taken.letters_left += len(kept) - len(dead)
        successes, refusal = yield _outcomes([*waiting, *(accepted for _, accepted in dead)])
        tried = [*rows[: len(waiting)], *(row for row, _ in dead)]
        moved = [row for row, success in zip(tried, successes, strict=True) if success]
        taken.messages += sum(successes[: len(waiting)])
        taken.letters += sum(successes[len(waiting) :])
        if moved:
            moved.sort(key=lambda row: row.row_id)
            yield _aside(worker, partial(source.remove_rows, message_class, moved))
        if refusal:
            raise _Refused(refusal)


def _outcomes(waiting: Sequence[Deferred[Any]]) -> Deferred[tuple[list[bool], str]]:
    """Which of them succeeded, and why the first of the others failed."""

    def gathered(results: list[tuple[bool, Any]]) -> tuple[list[bool], str]:
        refusals = [outcome.getErrorMessage() for success, outcome in results if not success]
        return [success for success, _ in results], next(iter(refusals), "")

    return DeferredList(list(waiting), consumeErrors=True).addCallback(gathered)


def _aside(worker: IWorker, job: Callable[[], _T]) -> Deferred[_T]:
    """The result of ``job``, run by the worker."""
    done: Deferred[_T] = Deferred()
    worker.run(job, done.callback, takes_long=True)
    return done


# -- the outbox of a stopped agent -----------------------------------------------------------


@implementer(ICounters)
class _NoCounters:
    """The totals of the store are enough."""

    def increment(self, name: str, amount: int = 1, **labels: str) -> None:
        """Not counted."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Not counted."""


@contextmanager
def offline(
    path: Path,
    settings: OutboxSettings,
    wall_clock: IWallClock,
    clock: Clock | None = None,
    must_exist: bool = True,
) -> Iterator[Outbox]:
    """The outbox at ``path``; closed and committed at the end. It runs on ``clock``.

    Raises ``OutboxError`` when there is no such file, an agent is running, or it can't be used.
    """
    if must_exist and not path.is_file():
        raise OutboxError(f"{path}: there is no such file")
    clock = clock or Clock()
    # A visit from outside forgets no lingering row, and drops no row for its age.
    settings = msgspec.structs.replace(settings, path=path, max_age_s=0.0)
    store = SqliteStore(path, settings)
    outbox = Outbox(
        settings, store, InlineWorker(), clock, wall_clock, _NoCounters(), this_machine()
    )
    outbox.open()
    try:
        if outbox.state is not State.OPEN:
            raise OutboxError(f"{path}: it can't be used")
        while outbox.is_recovering:
            clock.advance(0)
            if outbox.state is not State.OPEN:
                # The retry would come after a while, but this clock stands still.
                raise OutboxError(f"{path}: it is damaged, and can't be taken over into a new one")
        yield outbox
        clock.advance(0)
        if outbox.state is not State.OPEN:
            raise OutboxError(f"{path}: it can't be written")
    finally:
        outbox.close()


def purge(path: Path, settings: OutboxSettings, wall_clock: IWallClock) -> int:
    """Drop waiting messages and dead letters; returns how many. Raises like ``offline``."""
    return _changed(path, settings, wall_clock, Outbox.purge)


def retry_dead(path: Path, settings: OutboxSettings, wall_clock: IWallClock) -> int:
    """Put the dead letters behind all waiting messages; returns how many. Damaged ones stay.
    Raises like ``offline``, and ``OutboxFull`` when the room runs out."""
    return _changed(path, settings, wall_clock, Outbox.retry_dead)


def take_over_offline(
    source: Path, path: Path, settings: OutboxSettings, wall_clock: IWallClock
) -> TakenOver:
    """Take over the store at ``source`` into the one at ``path``, which need not exist yet. Raises
    like ``offline``."""
    clock = Clock()
    with offline(path, settings, wall_clock, clock, must_exist=False) as outbox:
        results: list[Any] = []
        taking = take_over(source, settings, outbox, InlineWorker())
        taking.addBoth(results.append)
        while not results:
            if outbox.state is not State.OPEN:
                taking.cancel()
                raise OutboxError(f"{path}: it can't be written")
            clock.advance(0)
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    taken: TakenOver = result
    return taken


def _changed(
    path: Path, settings: OutboxSettings, wall_clock: IWallClock, change: Callable[[Outbox], int]
) -> int:
    with offline(path, settings, wall_clock) as outbox:
        return change(outbox)
