"""Frees room for what is put, and drops what has become too old.

The bounds are in ``room``. Acknowledged rows go first, which costs nothing but a repetition; then,
where the policy is to do so, the oldest that are pending. What is only in memory, because the disk
is slow or fails, is bounded by itself.
"""

from __future__ import annotations

from oda.model import MessageClass
from oda.outbox.committer import Committer, State
from oda.outbox.pager import Pager
from oda.outbox.queue import Amount, Kept, amount_of
from oda.outbox.stock import RESPONSE, TELEMETRY, Stock
from oda.settings import OutboxPolicy, OutboxSettings

#: So many rows too old are dropped before others get their turn.
_AGED_ROWS = 4096


class Shedding:
    """Chooses which rows of ``stock`` have to go; ``pager`` brings those that are not in memory."""

    def __init__(
        self, settings: OutboxSettings, stock: Stock, pager: Pager, committer: Committer
    ) -> None:
        self._settings = settings
        self._stock = stock
        self._pager = pager
        self._committer = committer
        self._uncommitted = committer.uncommitted
        self._room = stock.room

    def make_room(self, message_class: MessageClass, cost: int, now_s: float) -> bool:
        """Let acknowledged rows go, then drop the oldest pending ones where the policy is to do
        so. False when there is still no room for a row of ``cost`` bytes."""
        room = self._room
        is_response = message_class is RESPONSE
        if not room.can_ever_hold(cost, is_response):
            return False
        queue = self._stock.queues[message_class]
        other_class = TELEMETRY if is_response else RESPONSE
        others = self._stock.queues[other_class]

        def missing() -> tuple[int, int]:
            return room.missing(queue, others, cost, is_response)

        self._stock.expire(now_s)
        for lingering in (queue, others):
            over, rows = missing()
            while (over > 0 or (rows > 0 and lingering is queue)) and lingering.lingering:
                gone_class = message_class if lingering is queue else other_class
                self._stock.deliver(gone_class, lingering.evict(max(1, room.chunk(over, rows)[0])))
                over, rows = missing()
        over, rows = missing()
        if self._settings.policy is OutboxPolicy.DROP_OLDEST:
            drops_answers = is_response and not self.may_overdraw()
            victims = (TELEMETRY, RESPONSE) if drops_answers else (TELEMETRY,)
            for victim in victims:
                if over > 0:
                    self.drop(victim, *room.chunk(over, 0), "full")
                over, rows = missing()
            if rows > 0:
                self.drop(message_class, *room.chunk(0, rows), "full")
                over, rows = missing()
        return over <= 0 and rows <= 0

    def may_overdraw(self) -> bool:
        """Whether one more answer is taken even where there is no room for it: a request that was
        read has to be answered. The answers that wait may fill the outbox once."""
        waiting = self._stock.queues[RESPONSE].waiting_cost
        return waiting + self._room.side_cost < self._room.limit

    def relieve(self, size: int, is_response: bool) -> bool:
        """Too much is only in memory to take ``size`` bytes more. A disk that is slow is waited
        for, which holds back whoever produces so fast; for one that fails there is a bound. False
        when they can't be taken."""
        self._committer.relieve()
        waiting = self._uncommitted.size_bytes
        if (
            self._committer.state is State.OPEN
            or not waiting
            or waiting + size <= self._room.memory_bytes
        ):
            return True
        if is_response and self._release_memory(size):
            return True
        return self._make_memory(size) or (is_response and self.may_overdraw())

    def drop(self, message_class: MessageClass, over: int, rows: int, reason: str) -> Amount:
        """Drop the oldest pending rows until ``over`` bytes and ``rows`` rows are free, or none is
        left that could be dropped."""
        queue = self._stock.queues[message_class]
        victims: list[Kept] = []
        freed = 0
        while freed < over or len(victims) < rows:
            if not queue.head and not self._pager.read_page(message_class):
                break
            kept = queue.pop_oldest()
            victims.append(kept)
            freed += kept.cost
        return self._drop(message_class, victims, reason)

    def drop_aged(self, before_ms: int) -> bool:
        """Drop pending rows accepted before ``before_ms``; True if there may be more of them."""
        more = False
        for message_class, queue in self._stock.queues.items():
            victims: list[Kept] = []
            while len(victims) < _AGED_ROWS:
                if not queue.head and not self._pager.read_page(message_class):
                    break
                if queue.head[0].accepted_ms >= before_ms:
                    break
                victims.append(queue.pop_oldest())
            self._drop(message_class, victims, "age")
            more = more or len(victims) == _AGED_ROWS
        return more

    def _release_memory(self, size: int) -> bool:
        """Let acknowledged rows go that may be nowhere but in memory, until ``size`` bytes are
        free. False when that can't be."""
        chunk = max(size, self._room.memory_bytes // 16)
        for message_class, queue in self._stock.queues.items():
            while queue.lingering and not self._has_memory(size):
                self._stock.deliver(message_class, queue.evict(chunk))
        return self._has_memory(size)

    def _make_memory(self, size: int) -> bool:
        """Drop the oldest telemetry that is nowhere but in memory and was not sent yet, until
        ``size`` bytes are free. False when that can't be."""
        if self._settings.policy is OutboxPolicy.REFUSE:
            return False
        change, queue = self._uncommitted.collecting, self._stock.queues[TELEMETRY]
        goal = size + self._room.memory_bytes // 16
        victims: list[Kept] = []
        freed = 0
        for kept in change.rows[TELEMETRY].values():
            if kept.attempts == 0:
                victims.append(kept)
                freed += len(kept.payload)
                if freed >= goal:
                    break
        in_head = {kept.row_id for kept in victims if kept.row_id <= queue.head_hi}
        queue.discard(in_head)
        queue.discard_spilled(amount_of(kept for kept in victims if kept.row_id not in in_head))
        for kept in victims:
            change.forget(TELEMETRY, kept.row_id, kept.row_id)
        self._stock.lose(TELEMETRY, victims, "disk")
        return freed >= size

    def _has_memory(self, size: int) -> bool:
        return self._uncommitted.size_bytes + size <= self._room.memory_bytes

    def _drop(self, message_class: MessageClass, victims: list[Kept], reason: str) -> Amount:
        if not victims:
            return Amount()
        forget = self._uncommitted.collecting.forget
        if self._stock.queues[message_class].has_gaps:
            for kept in victims:
                forget(message_class, kept.row_id, kept.row_id)
        else:
            # They were the oldest pending rows, so nothing that is wanted lies between them.
            forget(message_class, victims[0].row_id, victims[-1].row_id)
        return self._stock.lose(message_class, victims, reason)
