"""The durable outbox: what was accepted survives the process, the crash and the reboot.

The rules are in ``queue`` (order) and ``room`` (bounds); ``stock`` and ``shedding`` apply them, the
disk is behind ``committer``. ``turn`` and ``tick`` are its timers: all that is put in one turn of
the reactor is committed together, and what comes while a commit is under way makes up the next one.
This module puts them together, and is the way of every message: in, out, and acknowledged.

A row can be sent before it is committed; it is *accepted*, and its Deferred fires, only after. But
the answer of an operation that acts waits for its commit: after a crash in between, the platform
would be told that the operation was interrupted, although it had read that it was successful.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from oda.errors import OutboxClosed, OutboxFull
from oda.interfaces import ICounters, IOutbox, IWallClock
from oda.model import MessageClass, OutboxRow, OutgoingMessage
from oda.outbox.accounts import Accounts
from oda.outbox.change import CLASSES, Change, Totals
from oda.outbox.clearance import purge, retry_dead
from oda.outbox.committer import Committer, State
from oda.outbox.continuity import Continuity
from oda.outbox.costs import row_cost
from oda.outbox.disk import Healed, Opened
from oda.outbox.journal import DurableJournal
from oda.outbox.pager import Pager
from oda.outbox.queue import HEAD_ROWS, Kept
from oda.outbox.room import Room
from oda.outbox.shedding import Shedding
from oda.outbox.stock import RESPONSE, TELEMETRY, Stock, accept
from oda.outbox.store import wal_allowance
from oda.outbox.tick import Tick
from oda.outbox.turn import Turn
from oda.outbox.uptime import Uptime
from oda.outbox.worker import AdaptiveWorker, IWorker, ThreadWorker
from oda.settings import OutboxSettings


@implementer(IOutbox)
class DurableOutbox:
    """Call ``open`` before use (and after any fork). ``reactor`` gives monotonic ``seconds``,
    ``callLater`` and, for the default ``worker`` (a thread), ``callFromThread``.

    ``journal`` is the journal of operations in the same file. ``head_rows`` of each class are in
    memory; more are read when they are needed. ``work_seconds`` is a monotonic clock that runs
    while work is done: it tells a slow disk, and limits the time of recovering a damaged store.
    ``uptime`` tells for how long no agent ran; without it that time does not count.
    """

    def __init__(
        self,
        settings: OutboxSettings,
        reactor: Any,
        wall_clock: IWallClock,
        counters: ICounters,
        worker: IWorker | None = None,
        head_rows: int = HEAD_ROWS,
        work_seconds: Callable[[], float] = monotonic,
        uptime: Uptime | None = None,
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._counters = counters
        self._continuity = Continuity(reactor, wall_clock, uptime or Uptime("", monotonic))
        if worker is None:
            worker = AdaptiveWorker(ThreadWorker(reactor.callFromThread), work_seconds)
        self._committer = Committer(settings.path, settings, reactor, worker, self, work_seconds)
        self._uncommitted = self._committer.uncommitted
        self._room = Room(settings, wal_allowance(settings))
        self._accounts = Accounts(counters)
        self._turn = Turn(reactor, self._committer, self._continuity.now_ms)
        self._stock = Stock(
            settings, self._room, self._accounts, self._committer, self._turn.changed, head_rows
        )
        self._pager = Pager(self._stock, self._committer, self._turn.changed, head_rows)
        self._shedding = Shedding(settings, self._stock, self._pager, self._committer)
        self._tick = Tick(
            settings,
            reactor,
            self._stock,
            self._shedding,
            self._uncommitted,
            self._turn,
            self._continuity.now_ms,
        )
        self._responses = self._stock.queues[RESPONSE]
        self._telemetry = self._stock.queues[TELEMETRY]
        self.journal = DurableJournal(
            settings,
            self._committer,
            self._continuity.now_ms,
            self._journal_changed,
            self._room.side_bytes,
        )

    def open(self) -> None:
        """Open the store and take up what is in it.

        Raises ``OutboxError`` when another process uses it. A damaged store is replaced, and one
        that can't be opened now is tried again while the outbox works from memory; both are logged.
        """
        self._turn.open()
        try:
            self._committer.open()
        except BaseException:
            self._turn.close()
            raise
        if self._committer.state is not State.OPEN:
            self._continuity.begin_without_store()
        self._tick.start()

    @property
    def state(self) -> State:
        """What can be expected of the disk."""
        return self._committer.state

    # -- IOutbox -----------------------------------------------------------------------------

    def put(self, message: OutgoingMessage) -> Deferred[int]:
        turn = self._turn
        if not turn.is_open:
            return fail(OutboxClosed("the agent is stopping, or was not started"))
        message_class, payload = message.message_class, message.payload
        size = len(payload)
        cost = row_cost(size)
        is_response = message_class is RESPONSE
        queue, others = self._telemetry, self._responses
        if is_response:
            queue, others = others, queue
        room, own = self._room, queue.stored.cost + cost
        # As ``room.missing``, written out: this is the way of every message.
        if (
            (
                (own > room.telemetry_limit and not is_response)
                or own + others.stored.cost + room.side_cost > room.limit
                or queue.stored.rows >= room.max_rows
                or cost > room.change_bytes
            )
            and not self._shedding.make_room(message_class, cost, self._reactor.seconds())
            and not (is_response and self._shedding.may_overdraw())
        ):
            return self._refuse(message_class, f"no room for {size} bytes")
        uncommitted = self._uncommitted
        if (
            uncommitted.collecting.size_bytes + size > room.change_bytes
            and not self._shedding.relieve(size, is_response)
        ):
            return self._refuse(message_class, f"the disk is too slow or fails: {size} bytes")
        accepted: Deferred[int] = Deferred()
        continuity = self._continuity
        row_id = continuity.next_id
        continuity.next_id = row_id + 1
        if turn.call is None:
            turn.begin()
        kept = Kept(
            row_id,
            payload,
            message.is_text,
            message.datapoints,
            turn.began_ms,
            cost,
            accepted,
            0,
            message.fresh_payload,
            message.fresh_until_s,
        )
        if is_response and payload in self.journal.uncommitted_answers:
            kept.is_held = self._committer.state is State.OPEN
        queue.append(kept)
        change = uncommitted.collecting
        change.rows[message_class][row_id] = kept
        change.size_bytes += size
        self._accounts.accepted(message.datapoints)
        turn.has_news = True
        return accepted

    def take(
        self, max_messages: int, max_bytes: int, only: MessageClass | None = None
    ) -> Sequence[OutboxRow]:
        self._turn.has_news = False
        stock = self._stock
        if stock.has_skipped and not stock.go_back():
            return ()
        rows: list[OutboxRow] = []
        now_s = self._reactor.seconds()
        for message_class in CLASSES if only is None else (only,):
            queue = stock.queues[message_class]
            while len(rows) < max_messages:
                if not queue.head and not self._pager.read_page(message_class):
                    break
                taken = queue.take(max_messages - len(rows), max_bytes, not rows)
                if not taken and queue.head[0].is_held:
                    break
                if not taken:
                    return rows
                for kept in taken:
                    payload = kept.payload
                    max_bytes -= len(payload)
                    if (
                        kept.fresh_payload is not None
                        and kept.attempts == 1
                        and now_s <= kept.fresh_until_s
                    ):
                        payload = kept.fresh_payload
                    rows.append(
                        OutboxRow(
                            kept.row_id,
                            payload,
                            message_class,
                            kept.is_text,
                            kept.datapoints,
                            kept.attempts,
                        )
                    )
        return rows

    def retire(self, row_ids: Sequence[int], linger_s: float | None = None) -> None:
        if linger_s is None:
            linger_s = self._settings.linger_s
        now_s = self._reactor.seconds()
        owed = self._stock.is_owing
        responses, telemetry = self._responses.in_flight, self._telemetry.in_flight
        of_telemetry: list[Kept] = []
        of_responses: list[Kept] = []
        for row_id in row_ids:
            kept = telemetry.pop(row_id, None)
            if kept is not None:
                of_telemetry.append(kept)
            else:
                of_responses.append(responses.pop(row_id))
        if self._committer.state is State.TROUBLE:
            # There is no telling when they can be committed, and the platform has them.
            for kept in (*of_telemetry, *of_responses):
                accept(kept)
        if of_telemetry:
            self._telemetry.retire(of_telemetry, now_s + linger_s)
        if of_responses:
            self._responses.retire(of_responses, now_s + linger_s)
        if linger_s <= 0:
            self._stock.expire(now_s)
            return
        self._uncommitted.collecting.has_marks = True
        if owed and not self._stock.is_owing:
            # Now, once in a life: agents that die soon after would repeat the same for ever.
            self._turn.commit_marks()
        if self._tick.call is None:
            self._tick.start()

    def rewind(self, replay_lingering: bool) -> None:
        self._stock.expire(self._reactor.seconds())
        has_skipped = self._stock.has_skipped
        for queue in self._stock.queues.values():
            if (replay_lingering and queue.lingering) or has_skipped:
                queue.restart()
                # Their time does not go on: they must not be forgotten by a start after it.
                self._uncommitted.collecting.has_marks = self._turn.are_marks_due = True
                self._turn.has_news = True
            elif queue.rewind():
                self._turn.has_news = True
        self._stock.has_skipped = False
        if self._turn.has_news:
            self._turn.changed()

    def bury(self, row_ids: Sequence[int], reason: str) -> None:
        for row_id in row_ids:
            message_class = TELEMETRY if row_id in self._telemetry.in_flight else RESPONSE
            kept = self._stock.queues[message_class].remove_in_flight(row_id)
            self._stock.bury(message_class, kept, reason)

    def subscribe(self, on_pending: Callable[[], None]) -> None:
        self._turn.on_pending = on_pending

    def answer_bytes(self) -> int:
        return self._responses.waiting_cost

    def counts(self) -> Mapping[str, int]:
        queues = self._stock.queues.values()
        now_ms = self._continuity.now_ms()
        oldest_ms = min((one for queue in queues if (one := queue.oldest_ms)), default=now_ms)
        return {
            "oldest_age_ms": max(0, now_ms - oldest_ms),
            "pending": sum(queue.pending_rows for queue in queues),
            "in_flight": sum(len(queue.in_flight) for queue in queues),
            "lingering": sum(queue.lingering_rows for queue in queues),
            "dead": len(self._stock.letters),
            "bytes": sum(queue.stored.cost for queue in queues) + self._room.side_cost,
            "uncommitted_bytes": self._uncommitted.size_bytes,
        }

    def close(self) -> Deferred[None]:
        if not self._turn.is_open:
            return succeed(None)
        self._turn.close()
        self._tick.stop()
        return self._committer.close()

    # -- beyond IOutbox ----------------------------------------------------------------------

    def settle(self) -> None:
        """The platform has closed the connection in good order (1000): what it acknowledged needs
        not be repeated any more."""
        self._stock.settle()

    def totals(self) -> Totals:
        """The totals after everything so far; they are what the next commit writes."""
        totals = self._stock.totals(self._reactor.seconds())
        self._continuity.enter_into(totals)
        return totals

    def purge(self) -> int:
        """Drop everything that is pending, and the dead letters; returns how many messages.

        What is in flight or lingering goes its way. Drops are counted with reason ``purged``.
        """
        purged = purge(self._stock, self._shedding, self._uncommitted)
        self._turn.changed()
        return purged

    def retry_dead(self) -> int:
        """Put the dead letters back, behind everything that is pending; returns how many.

        Damaged ones stay. Raises ``OutboxFull`` when the store can't be read now, or when there is
        no room for one of them; those before it are back.
        """
        retried = retry_dead(self._stock, self._committer, self.put)
        self._turn.changed()
        return retried

    def check_disk(self) -> None:
        """Try a disk that failed again, now."""
        self._committer.check_disk()

    # -- ICommitOwner ------------------------------------------------------------------------

    def opened(self, opened: Opened, is_late: bool) -> bool:
        totals = opened.totals
        if is_late and not self._continuity.can_join(totals):
            return False
        if not is_late:
            self._continuity.go_on_from(totals)
        if opened.recovery is not None:
            lost = opened.recovery.lost
            self._counters.increment("messages_dropped", lost.messages, reason="damaged")
            self._counters.increment("datapoints_dropped", lost.datapoints, reason="damaged")
        off_ms = self._continuity.off_ms(totals)
        self._stock.adopt(totals, is_late, off_ms, self._reactor.seconds())
        if self._stock.is_owing:
            # On disk, too, their time must not go on.
            self._uncommitted.collecting.has_marks = True
            self._turn.commit_marks()
        self.journal.opened()
        if any(queue.stored.rows for queue in self._stock.queues.values()):
            for message_class in CLASSES:
                self._pager.read_page(message_class)
            self._turn.has_news = True
            self._turn.changed()
        return True

    def committed(self, change: Change, used_bytes: int) -> None:
        self._release(change)
        self._stock.committed(change, used_bytes)
        self.journal.committed(change)

    def failed(self, change: Change) -> None:
        self._release(change)
        self.journal.failed(change)

    def unwritten(self, kept: Kept) -> None:
        accept(kept)

    def known_rows(
        self,
    ) -> tuple[Mapping[MessageClass, Sequence[Kept]], Mapping[MessageClass, int]]:
        return self._stock.known_rows()

    def healed(self, healed: Healed) -> None:
        self._stock.healed(healed.amounts)
        self._turn.has_news = True

    def closing(self) -> None:
        self._stock.close()

    # -- inside ------------------------------------------------------------------------------

    def _refuse(self, message_class: MessageClass, reason: str) -> Deferred[int]:
        self._counters.increment("messages_refused", message_class=message_class.value)
        return fail(OutboxFull(f"a {message_class.value} is not accepted: {reason}"))

    def _release(self, change: Change) -> None:
        """Held rows may go: they are committed, or there is no telling when they can be."""
        for kept in change.rows[RESPONSE].values():
            if kept.is_held:
                kept.is_held = False
                self._turn.has_news = True
                self._turn.changed()

    def _journal_changed(self, cost: int) -> None:
        self._stock.journal_cost = cost
        self._stock.side_changed()
        self._turn.changed()
