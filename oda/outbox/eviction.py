"""What goes when there is no room, and what goes because it is too old.

Acknowledged rows go first, which costs nothing but a repetition. Then, where the policy is to do
so, the oldest pending ones go. What is only in memory, because the disk is slow or fails, has a
bound of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from oda.model import MessageClass
from oda.outbox.backlog import Backlog
from oda.outbox.committer import Committer
from oda.outbox.limits import Limits
from oda.outbox.queue import Amount, Row, RowState
from oda.outbox.transaction import ANSWER, CLASSES, TELEMETRY
from oda.settings import OutboxPolicy, OutboxSettings

#: The maximum number of rows that are dropped at once because of their age.
_AGED_ROWS = 4096


class Eviction:
    """Chooses which rows of ``backlogs`` have to go."""

    def __init__(
        self,
        settings: OutboxSettings,
        backlogs: Mapping[MessageClass, Backlog],
        committer: Committer,
        limits: Limits,
    ) -> None:
        self._policy = settings.policy
        self._backlogs = backlogs
        self._committer = committer
        self._uncommitted = committer.uncommitted
        self._limits = limits

    def make_room(self, message_class: MessageClass, cost: int, now_s: float) -> bool:
        """Let acknowledged rows go, then drop the oldest pending ones where the policy is to do
        so. False when there is still no room for a row of ``cost`` bytes; then no telemetry was
        dropped for telemetry."""
        limits = self._limits
        is_answer = message_class is ANSWER
        if self.release(message_class, cost, now_s):
            return True
        if not limits.can_ever_hold(cost, is_answer) or self._policy is OutboxPolicy.REFUSE:
            return False
        over, rows = self._missing(message_class, cost)
        own = self._backlogs[message_class].queue
        if not is_answer and (over > own.pending_cost or rows > own.pending_rows):
            return False
        drops_answers = is_answer and not self.may_overdraw()
        for victim in (TELEMETRY, ANSWER) if drops_answers else (TELEMETRY,):
            if over > 0:
                self.drop(victim, *limits.chunk(over, 0), "full")
            over, rows = self._missing(message_class, cost)
        if rows > 0:
            self.drop(message_class, *limits.chunk(0, rows), "full")
            over, rows = self._missing(message_class, cost)
        return over <= 0 and rows <= 0

    def release(self, message_class: MessageClass, cost: int, now_s: float) -> bool:
        """Let acknowledged rows go, as far as needed; whether a row of ``cost`` bytes fits then."""
        if not self._limits.can_ever_hold(cost, message_class is ANSWER):
            return False
        own = self._backlogs[message_class]
        for backlog in self._backlogs.values():
            backlog.expire(now_s)
        for backlog in (own, *(one for one in self._backlogs.values() if one is not own)):
            over, rows = self._missing(message_class, cost)
            while (over > 0 or (rows > 0 and backlog is own)) and backlog.queue.lingering:
                backlog.evict(max(1, self._limits.chunk(over, rows)[0]))
                over, rows = self._missing(message_class, cost)
        over, rows = self._missing(message_class, cost)
        return over <= 0 and rows <= 0

    def _missing(self, message_class: MessageClass, cost: int) -> tuple[int, int]:
        is_answer = message_class is ANSWER
        own = self._backlogs[message_class].queue.stored
        others = self._backlogs[TELEMETRY if is_answer else ANSWER].queue.stored
        return self._limits.missing(own.cost, own.rows, others.cost, cost, is_answer)

    def may_overdraw(self) -> bool:
        """Whether one more answer is taken even where there is no room for it: a request that was
        read has to be answered. On a disk that works there is no other bound than the number of
        operations that run at once; otherwise the answers that wait may fill the outbox once."""
        if self._committer.is_working and self._committer.store.is_durable:
            return True
        waiting = self._backlogs[ANSWER].queue.waiting_cost
        return waiting + self._limits.side_cost < self._limits.total

    def fits_in_memory(self, size: int, is_answer: bool) -> bool:
        """Whether ``size`` bytes more may be only in memory, for a disk that fails or hangs.
        Acknowledged rows go for them, and then the oldest telemetry."""
        if not self._uncommitted.size_bytes:
            return True
        if self._has_memory(size) or (is_answer and self._release_memory(size)):
            return True
        return self._drop_from_memory(size) or (is_answer and self.may_overdraw())

    def drop(self, message_class: MessageClass, over: int, rows: int, reason: str) -> Amount:
        """Drop the oldest pending rows until ``over`` bytes and ``rows`` rows are free, or none is
        left that could be dropped."""
        backlog = self._backlogs[message_class]
        victims: list[Row] = []
        freed = 0
        while (freed < over or len(victims) < rows) and backlog.read_on():
            row = backlog.queue.pop_oldest()
            victims.append(row)
            freed += row.cost
        return backlog.drop(victims, reason)

    def drop_aged(self, before_ms: int) -> bool:
        """Drop pending rows accepted before ``before_ms``; True if there may be more of them."""
        more = False
        for backlog in self._backlogs.values():
            victims: list[Row] = []
            while len(victims) < _AGED_ROWS and backlog.read_on():
                if backlog.queue.head[0].accepted_ms >= before_ms:
                    break
                victims.append(backlog.queue.pop_oldest())
            backlog.drop(victims, "age")
            more = more or len(victims) == _AGED_ROWS
        return more

    def purge(self) -> int:
        """Drop everything that is pending; returns how many messages."""
        purged = 0
        for message_class in CLASSES:
            queue = self._backlogs[message_class].queue
            while dropped := self.drop(
                message_class, 0, min(queue.pending_rows, _AGED_ROWS), "purged"
            ).rows:
                purged += dropped
        return purged

    # -- memory ------------------------------------------------------------------------------

    def _release_memory(self, size: int) -> bool:
        """Let acknowledged rows go that may be nowhere but in memory."""
        chunk = max(size, self._limits.memory_bytes // 16)
        for backlog in self._backlogs.values():
            while backlog.queue.lingering and not self._has_memory(size):
                backlog.evict(chunk)
        return self._has_memory(size)

    def _drop_from_memory(self, size: int) -> bool:
        """Drop the oldest telemetry that is nowhere but in memory and was not sent yet, until
        ``size`` bytes are free."""
        if self._policy is OutboxPolicy.REFUSE:
            return False
        goal = size + self._limits.memory_bytes // 16
        victims: list[Row] = []
        freed = 0
        for row in self._uncommitted.collecting.rows[TELEMETRY].values():
            if row.attempts == 0 and row.state is RowState.PENDING:
                victims.append(row)
                freed += len(row.payload)
                if freed >= goal:
                    break
        telemetry = self._backlogs[TELEMETRY]
        telemetry.queue.discard_pending(victims)
        telemetry.drop(victims, "disk")
        return freed >= size

    def _has_memory(self, size: int) -> bool:
        return self._uncommitted.size_bytes + size <= self._limits.memory_bytes
