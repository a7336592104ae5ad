"""The outbox: the entry point for every message, from ``put`` to its acknowledgement.

Work is batched per iteration of the reactor (a *turn*): all messages put in one turn are committed
together, those that arrive during a commit form the next one, and the connector is woken once. A
timer checks each second for expired rows, and that the store is still at its path; an outbox in
memory without a row has no timer.

A row may be sent before it is committed, but it is *accepted*, and its Deferred fires, only after
the commit. A message that ``waits_for_commit`` is the exception: otherwise, after a crash in
between, the platform could first read that an operation succeeded and later that it was
interrupted.

No method calls other code while it runs. Callers are notified at the end of the turn, or when a
commit has ended: see ``ledger``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from oda.errors import OutboxClosed, OutboxFull
from oda.interfaces import ICounters, IOutbox, IWallClock
from oda.log import Logger
from oda.model import MessageClass, OutboxRow, OutgoingMessage
from oda.outbox.backlog import Accounts, Backlog, Shares
from oda.outbox.clock import OutboxClock, Uptime, this_machine
from oda.outbox.committer import Committer, State
from oda.outbox.dead_letters import DeadLetters
from oda.outbox.journal import Journal
from oda.outbox.ledger import Ledger
from oda.outbox.limits import Eviction, Limits, row_cost
from oda.outbox.queue import HEAD_ROWS, Amount, Row, Span
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.store import IStore, Letter, MemoryStore, Opened, Recovered, StoreError
from oda.outbox.transaction import ANSWER, CLASSES, TELEMETRY, Totals, Transaction
from oda.outbox.worker import AdaptiveWorker, InlineWorker, IWorker, ThreadWorker
from oda.settings import OutboxKind, OutboxSettings
from oda.troubles import TroubleKind, Troubles
from oda.wording import counted

_log = Logger()

#: Seconds between two checks for expired rows.
TICK_S = 1.0
#: A small number of expired rows is deleted together with another commit, at most once in the first
#: time, and gets a commit of its own after the second, in seconds. A short linger time shortens
#: both: a killed agent may repeat the rows that are not yet deleted.
_EXPIRY_S = 30.0
_LONE_EXPIRY_S = 60.0
_FEW_ROWS = 1024
#: Below this size, a file's size depends more on its fixed pages than on its rows.
_MEASURABLE_BYTES = 1024 * 1024


@implementer(IOutbox)
class Outbox:
    """Call ``open`` before use (and after any fork). ``reactor`` has monotonic ``seconds`` and
    ``callLater``.

    ``journal`` is the journal of operations in the same store. Memory holds ``head_rows`` of each
    class; more are read when needed. ``uptime`` shows how long no agent was running; without it,
    that time does not count.
    """

    def __init__(
        self,
        settings: OutboxSettings,
        store: IStore,
        worker: IWorker,
        reactor: IReactorTime,
        wall_clock: IWallClock,
        counters: ICounters,
        uptime: Uptime | None = None,
        head_rows: int = HEAD_ROWS,
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._clock = OutboxClock(reactor, wall_clock, uptime or Uptime("", lambda: 0.0))
        self._next_ids = self._clock.next_ids
        self._ledger = Ledger(counters)
        self._limits = Limits(settings)
        self._committer = Committer(store, worker, reactor, self)
        self._letters = DeadLetters(self._committer, self._ledger, self._limits, self.changed)
        self._uncommitted = self._committer.uncommitted
        self.backlogs: dict[MessageClass, Backlog] = {
            one: Backlog(one, head_rows, self._committer, self._ledger, self._letters, self.changed)
            for one in CLASSES
        }
        self._answers = self.backlogs[ANSWER]
        self._telemetry = self.backlogs[TELEMETRY]
        self._shares = Shares(self._answers, self._telemetry)
        self._accounts = Accounts(
            settings.ack_commit_delay_s, reactor, self._clock, self._ledger, self.backlogs
        )
        self._eviction = Eviction(
            settings, self.backlogs, self._committer, self._ledger, self._limits, self.changed
        )
        self.journal = Journal(
            settings,
            self._committer,
            self._ledger,
            self._limits,
            self._clock.now_ms,
            self.changed,
        )
        self._is_open = False
        self._turn: IDelayedCall | None = None
        self._turn_ms = 0
        self._tick: IDelayedCall | None = None
        self._expired_s = 0.0
        self._on_pending: Callable[[], None] | None = None
        self._has_news = False
        self._modelled = 0
        #: Receives the troubles; the owner may replace it before ``open``.
        self.troubles = Troubles(reactor.seconds)
        self._reported: tuple[str, int] = ("", 0)

    @property
    def state(self) -> State:
        """The state of the disk as far as the outbox knows."""
        return self._committer.state

    @property
    def is_durable(self) -> bool:
        """Whether accepted messages outlive the process."""
        return self._committer.store.is_durable

    @property
    def path(self) -> Path | None:
        """The file of the store; None for a store in memory."""
        return self._committer.store.path

    @property
    def is_recovering(self) -> bool:
        """Whether rows of a damaged store are still to be copied."""
        return self._committer.is_recovering

    def open(self) -> None:
        """Open the store and take up its content.

        Raises ``OutboxError`` when another process uses it. Replaces a damaged store. If the store
        can't be opened now, the outbox works from memory and retries. Logs both.
        """
        if not self.is_durable:
            _log.warn(
                "outbox=memory: what is not delivered when the agent ends, or its machine loses"
                " power, is lost"
            )
        self._is_open = True
        try:
            self._committer.open()
        except BaseException:
            self._is_open = False
            raise
        if self._committer.state is State.TROUBLE:
            self._clock.begin_without_store()
            self.journal.begin_at(self._next_ids[TELEMETRY])
        self._expired_s = self._reactor.seconds()
        self._look_later()

    # -- IOutbox -----------------------------------------------------------------------------

    def put(self, message: OutgoingMessage) -> Deferred[int]:
        if not self._is_open:
            return fail(OutboxClosed("the agent is stopping, or was not started"))
        message_class, payload = message.message_class, message.payload
        is_answer = message_class is ANSWER
        size = len(payload)
        cost = row_cost(size)
        queue, others = self._telemetry.queue, self._answers.queue
        if is_answer:
            queue, others = others, queue
        limits = self._limits
        own_cost = queue.stored.cost + cost
        refusal: str | None = None
        # The first check of ``Eviction.admit``, repeated here for speed: there is room for most.
        if (
            (own_cost > limits.telemetry and not is_answer)
            or own_cost + others.stored.cost + limits.side_cost > limits.total
            or queue.stored.rows >= limits.max_rows
            or cost > limits.transaction_bytes
            or self._uncommitted.collecting.size_bytes + size > limits.transaction_bytes
        ):
            refusal = self._eviction.admit(message_class, size, cost, self._reactor.seconds())
        if message.record is not None:
            # After making room, which may commit: the record and the row share a transaction.
            self.journal.end(message.record, payload)
        if refusal is not None:
            self._ledger.refused(message_class)
            return fail(OutboxFull(f"a {message_class.value} is not accepted: {refusal}"))
        row_id = self._next_ids[message_class]
        self._next_ids[message_class] = row_id + 1
        if self._turn is None:
            self._begin_turn()
        accepted: Deferred[int] = Deferred()
        row = Row(
            row_id,
            payload,
            message.is_text,
            message.datapoints,
            self._turn_ms,
            cost,
            accepted,
            0,
            message.fresh_payload,
            message.fresh_until_s,
            message.waits_for_commit and self._committer.state is State.OPEN,
        )
        queue.append(row)
        collecting = self._uncommitted.collecting
        collecting.rows[message_class][row_id] = row
        collecting.size_bytes += size
        self._ledger.put(message.datapoints)
        self._has_news = True
        return accepted

    def take(
        self, max_messages: int, max_bytes: int, only: MessageClass | None = None
    ) -> Sequence[OutboxRow]:
        self._has_news = False
        now_s = self._reactor.seconds()
        if only is None:
            return self._shares.take(max_messages, max_bytes, now_s)
        rows: list[OutboxRow] = []
        self.backlogs[only].take(max_messages, max_bytes, rows, now_s)
        return rows

    def retire(self, row_ids: Sequence[int], linger_s: float | None = None) -> None:
        if linger_s is None:
            linger_s = self._settings.linger_s
        now_s = self._reactor.seconds()
        answers, telemetry = self._answers.queue, self._telemetry.queue
        of_telemetry: list[Row] = []
        of_answers: list[Row] = []
        for row_id in row_ids:
            row = telemetry.in_flight.pop(row_id, None)
            if row is not None:
                of_telemetry.append(row)
            else:
                of_answers.append(answers.in_flight.pop(row_id))
        if self._committer.state is State.TROUBLE:
            # Nobody knows when they can be committed, and the platform has them.
            self._ledger.accept(of_telemetry)
            self._ledger.accept(of_answers)
            self.changed()
        if of_telemetry:
            telemetry.retire(of_telemetry, now_s + linger_s)
        if of_answers:
            answers.retire(of_answers, now_s + linger_s)
        self._accounts.acknowledged(now_s)
        if self._accounts.must_commit:
            self.changed()
        if linger_s <= 0:
            for backlog in self.backlogs.values():
                backlog.expire(now_s)

    def rewind(self, replay_lingering: bool, max_bytes: int | None = None) -> None:
        now_s = self._reactor.seconds()
        for backlog in self.backlogs.values():
            backlog.expire(now_s)
            queue = backlog.queue
            if replay_lingering and queue.lingering:
                self._accounts.replayed()
                replayed = backlog.replay(max_bytes)
                if max_bytes is not None:
                    max_bytes -= replayed
                self._has_news = True
            elif queue.rewind():
                self._has_news = True
        if self._has_news:
            self.changed()

    def settle(self) -> None:
        for backlog in self.backlogs.values():
            backlog.evict(1 << 62)

    def bury(self, row_ids: Sequence[int], reason: str) -> None:
        for row_id in row_ids:
            backlog = (
                self._telemetry if row_id in self._telemetry.queue.in_flight else self._answers
            )
            row = backlog.queue.remove_in_flight(row_id)
            self._letters.bury(backlog.message_class, row, reason)
            if self._committer.state is State.TROUBLE:
                # As in ``retire``. A store that only the next start takes up is not retried: the
                # caller would wait for ever, and so would the end of the agent.
                self._ledger.accept([row])
                self.changed()

    def subscribe(self, on_pending: Callable[[], None]) -> None:
        self._on_pending = on_pending

    def answer_bytes(self) -> int:
        return self._answers.queue.waiting_cost

    def counts(self) -> Mapping[str, int]:
        queues = [one.queue for one in self.backlogs.values()]
        now_ms = self._clock.now_ms()
        oldest_ms = min((one for queue in queues if (one := queue.oldest_ms)), default=now_ms)
        return {
            "oldest_age_ms": max(0, now_ms - oldest_ms),
            "waiting": sum(queue.pending_rows for queue in queues),
            "in_flight": sum(len(queue.in_flight) for queue in queues),
            "lingering": sum(queue.lingering_rows for queue in queues),
            "recovering": sum(max(0, queue.recovering_amount.rows) for queue in queues),
            "dead": len(self._letters),
            "bytes": sum(queue.stored.cost for queue in queues) + self._limits.side_cost,
            "uncommitted_bytes": self._uncommitted.size_bytes,
        }

    def close(self) -> Deferred[None]:
        if not self._is_open:
            return succeed(None)
        for backlog in self.backlogs.values():
            backlog.expire(self._reactor.seconds())
        self._is_open = False
        for call in (self._turn, self._tick):
            if call is not None and call.active():
                call.cancel()
        self._turn = self._tick = None
        if not self.is_durable:
            self._eviction.give_up()
        return self._committer.close()

    def abandon(self) -> None:
        """Let ``close`` fire now, whatever the disk does. What is not on disk counts as lost: those
        who published it hear that it is not accepted."""
        self._committer.abandon()

    # -- beyond IOutbox ----------------------------------------------------------------------

    @property
    def busy_s(self) -> float:
        """How long the disk has been at work on the present job, in seconds."""
        return self._committer.busy_s

    def totals(self) -> Totals:
        """The totals at this moment."""
        return self._accounts.totals()

    def purge(self) -> int:
        """Drop everything that is pending, and the dead letters; returns how many messages.

        Rows in flight and lingering rows are not affected. Drops are counted as ``purged``.
        """
        return self._letters.purge() + self._eviction.purge()

    def retry_dead(self) -> int:
        """Put the dead letters back, behind everything that is pending; returns how many.

        Raises like ``DeadLetters.retry``.
        """
        return self._letters.retry(self.put)

    def take_over(self, message: OutgoingMessage) -> Deferred[int]:
        """Like ``put``, for a message of another outbox: no waiting message here is dropped for it.
        Fails with ``OutboxFull`` if there is no room, or while the disk fails."""
        if self._is_open and not self._committer.is_working:
            return fail(OutboxFull("the disk can't be written now"))
        size = len(message.payload)
        if self._is_open and not self._eviction.release(
            message.message_class, row_cost(size), self._reactor.seconds()
        ):
            return fail(OutboxFull(f"there is no room for {size} bytes"))
        return self.put(message)

    def take_over_letter(self, letter: Letter) -> Deferred[int] | None:
        """Keep a dead letter of another outbox; returns None if there is no room for it. The
        Deferred fires once the letter is committed."""
        if not self._is_open or not self._committer.is_working:
            return None
        return self._letters.take_over(letter, self._next_ids)

    def move(self, path: Path) -> Deferred[None]:
        """Move the store to ``path`` while the outbox stays in use; fires with None once done.

        Fails with ``OutboxError`` when a file already exists there, or the move fails for another
        reason; the store then stays where it is.
        """
        if not self._is_open:
            return fail(OutboxClosed("the agent is stopping, or was not started"))
        return self._committer.move(path)

    def check_disk(self) -> None:
        """Retry a failed disk now."""
        self._committer.check_disk()

    def check_invariants(self) -> None:
        """Raise ``AssertionError`` if an invariant of the package does not hold. Examines every row
        in memory: for tests."""
        for message_class, backlog in self.backlogs.items():
            backlog.queue.check()
            resting = backlog.resting(self._next_ids[message_class])
            assert resting < backlog.queue.lowest_wanted(), "a wanted row counts as acknowledged"
        self.totals().check()

    # -- turns and ticks ---------------------------------------------------------------------

    def changed(self) -> None:
        """There is something to commit or to notify at the end of the turn."""
        if self._turn is None and self._is_open:
            self._begin_turn()

    def _begin_turn(self) -> None:
        self._turn_ms = self._clock.now_ms()
        self._turn = self._reactor.callLater(0, self._end_turn)
        self._look_later()

    def _end_turn(self) -> None:
        self._turn = None
        must_commit, self._accounts.must_commit = self._accounts.must_commit, False
        if must_commit or not self._uncommitted.collecting.is_empty:
            self._expire(min(_EXPIRY_S, self._settings.linger_s / 2))
        self._committer.submit(must_commit)
        self.tell()

    def _look_later(self) -> None:
        if self._tick is None:
            self._tick = self._reactor.callLater(TICK_S, self._look)

    def _look(self) -> None:
        self._committer.check()
        self._report()
        lingering = sum(one.queue.lingering_rows for one in self.backlogs.values())
        lone_s = min(_LONE_EXPIRY_S, max(TICK_S, self._settings.linger_s))
        self._expire(TICK_S if lingering > _FEW_ROWS else lone_s)
        more = False
        max_age_s = self._settings.max_age_s
        if max_age_s > 0:
            more = self._eviction.drop_aged(self._clock.now_ms() - int(max_age_s * 1000))
        if self._accounts.is_due():
            self._accounts.commit_soon()
            self.changed()
        self._tick = None
        if more:
            self._tick = self._reactor.callLater(0, self._look)
        elif self.is_durable or any(one.queue.stored.rows for one in self.backlogs.values()):
            self._look_later()  # an empty outbox in memory has nothing to look at: no timer

    def _expire(self, after_s: float) -> None:
        """Let go of rows whose linger time has passed, if ``after_s`` seconds have passed since the
        last time."""
        now_s = self._reactor.seconds()
        if now_s - self._expired_s >= after_s:
            self._expired_s = now_s
            for backlog in self.backlogs.values():
                backlog.expire(now_s)

    # -- ICommitOwner ------------------------------------------------------------------------

    def tell(self) -> None:
        """See ``ICommitOwner.tell``."""
        if self._has_news and self._on_pending is not None and self._is_open:
            self._has_news = False
            self._ledger.call(self._on_pending)
        self._report()
        self._ledger.tell()

    @property
    def disk_trouble(self) -> str:
        """Why the outbox can't be written, "" where it can."""
        trouble = self._committer.trouble
        if not trouble:
            return ""
        return f"the outbox can't be written to {self._committer.store.name}: {trouble}"

    def _report(self) -> None:
        """Report troubles of the disk, and dead letters."""
        disk, letters = now = self.disk_trouble, len(self._letters)
        if now == self._reported:
            return
        self._reported = now
        self.troubles.set(TroubleKind.DISK, {"": disk} if disk else {})
        self.troubles.set(
            TroubleKind.DEAD_LETTERS,
            {"": f"{counted(letters, 'message')} set aside as dead letters: see 'oda outbox list'"}
            if letters
            else {},
        )

    def opened(self, opened: Opened, is_late: bool) -> bool:
        """See ``ICommitOwner.opened``."""
        totals = opened.totals
        if is_late and not self._clock.can_join(totals):
            return False
        if not is_late:
            self._clock.go_on_from(totals)
        self._ledger.join(totals)
        linger_ms = int(self._settings.linger_s * 1000)
        off_ms = self._clock.off_ms(totals)
        for message_class, backlog in self.backlogs.items():
            backlog.adopt(totals, off_ms, linger_ms, self._reactor.seconds())
            spans, amount = opened.missing.get(message_class, ((), Amount()))
            backlog.queue.begin_recovery(spans, amount)
        self._learn(is_late)
        self._has_news = any(one.queue.pending_rows for one in self.backlogs.values())
        self.changed()
        if self._accounts.is_owing():
            self._accounts.replayed()
        return True

    def _learn(self, is_late: bool) -> None:
        """Learn from the store which dead letters and journal records it has."""
        store = self._committer.store
        try:
            self._letters.learn(store.letters())
            self.journal.opened(store.records(), is_late)
        except StoreError as error:
            self._committer.read_failed(error)

    def committed(self, transaction: Transaction, used_bytes: int) -> None:
        """See ``ICommitOwner.committed``."""
        if used_bytes > _MEASURABLE_BYTES:
            self._limits.measured(used_bytes, self._modelled)
        self._release(transaction)
        self._ledger.committed(transaction)
        if transaction.records:
            self.journal.committed(transaction)

    def failed(self, transaction: Transaction, unwritten: Sequence[Row]) -> None:
        """See ``ICommitOwner.failed``."""
        self._accounts.count_anew()
        self._release(transaction)
        self._ledger.failed(transaction, unwritten)
        self.journal.failed(transaction)

    def _release(self, transaction: Transaction) -> None:
        """Release held rows: they are committed, or it is unknown when they can be."""
        for row in transaction.rows[ANSWER].values():
            if row.is_held:
                row.is_held = False
                self._has_news = True

    def totals_for(self, transaction: Transaction, is_last: bool) -> bytes | None:
        """See ``ICommitOwner.totals_for``."""
        self._modelled = sum(one.queue.stored.cost for one in self.backlogs.values())
        return self._accounts.totals_for(transaction, is_last)

    def detach(self) -> Mapping[MessageClass, Sequence[Span]]:
        """See ``ICommitOwner.detach``."""
        self.journal.write_again()
        return {
            message_class: backlog.detach(self._next_ids[message_class])
            for message_class, backlog in self.backlogs.items()
        }

    def replaced(self, opened: Opened) -> None:
        """See ``ICommitOwner.replaced``."""
        self._accounts.count_anew()
        self._has_news = True
        self._learn(is_late=True)
        if not opened.is_recovering:
            self._accounts.end_recovery()

    def recovered(self, step: Recovered) -> None:
        """See ``ICommitOwner.recovered``."""
        self._has_news = self._has_news or bool(step.restored)
        self._accounts.recovered(step)

    def readable(self) -> None:
        """See ``ICommitOwner.readable``."""
        self._has_news = True
        self.changed()

    def fire(self, waiting: Deferred[Any], outcome: Any) -> None:
        """See ``ICommitOwner.fire``."""
        self._ledger.fire(waiting, outcome)

    def closing(self, problem: str) -> None:
        """See ``ICommitOwner.closing``."""
        burials = self._uncommitted.collecting.burials
        self._ledger.refuse([one.row for one in burials], OutboxClosed("the agent is stopping"))
        for backlog in self.backlogs.values():
            backlog.close(problem)
        self.journal.closing()


def make_outbox(
    settings: OutboxSettings,
    reactor: Any,
    wall_clock: IWallClock,
    counters: ICounters,
    worker: IWorker | None = None,
) -> Outbox:
    """The outbox for ``settings``, with its store: a file, or memory. ``worker`` None means one
    that suits the disk; its thread needs the reactor's ``callFromThread``."""
    store: IStore
    if settings.kind is OutboxKind.DURABLE:
        store = SqliteStore(settings.path, settings)
        worker = worker or AdaptiveWorker(ThreadWorker(reactor.callFromThread), monotonic)
    else:
        store, worker = MemoryStore(), InlineWorker()
    return Outbox(settings, store, worker, reactor, wall_clock, counters, this_machine())
