"""How much fits into the outbox, and what leaves when it is full.

A part of ``outboxMaxBytes`` is reserved for the write-ahead log and the file's own pages. Of the
rest, telemetry may use three quarters. The other quarter belongs to answers, the dead letters and
the journal; answers may also use what telemetry leaves free.

The cost of a row models SQLite's table B-tree (file format, "B-tree Pages" and "Cell Payload
Overflow Pages") for rows added in the order of their ids, so that leaves are full: short rows share
a page, long ones have overflow pages of their own. The model is inexact for mixed lengths;
``Limits.measured`` corrects it by the real size of the file.

When there is no room, acknowledged rows leave first, which costs nothing but a possible repetition.
Then, if the policy says so, the oldest pending ones are dropped. Rows that are only in memory,
because the disk is slow or fails, have a bound of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from oda.log import Logger
from oda.model import MessageClass
from oda.outbox.queue import Amount, Row, RowState
from oda.outbox.transaction import ANSWER, CLASSES, TELEMETRY
from oda.settings import OutboxPolicy, OutboxSettings
from oda.wording import counted

if TYPE_CHECKING:
    from oda.outbox.backlog import Backlog
    from oda.outbox.committer import Committer
    from oda.outbox.ledger import Ledger

#: The maximum number of rows that are dropped at once because of their age.
_AGED_ROWS = 4096

_log = Logger()

#: Small, because a commit of one datapoint writes whole pages, and each write wears flash memory.
PAGE_BYTES = 1024
#: Record header, id, time, checksum and the other short columns, and the cell's own overhead.
_ROW_OVERHEAD = 30
_PAGE_ROOM = PAGE_BYTES - 8
_MAX_LOCAL = PAGE_BYTES - 35
_MIN_LOCAL = (PAGE_BYTES - 12) * 32 // 255 - 23
_OVERFLOW_ROOM = PAGE_BYTES - 4

#: Pages of the file that hold no rows.
_FIXED_BYTES = 16 * PAGE_BYTES
#: SQLite folds the write-ahead log back into the file at this size, in bytes.
_MAX_WAL_BYTES = 4 * 1024 * 1024
_MIN_WAL_BYTES = 64 * 1024
#: The share of the room that telemetry may use, as a fraction.
_TELEMETRY_SHARE = (3, 4)
#: The share of the dead letters, of the journal's answers, and of memory: 1 in this many.
_SIDE_SHARE = 16
_MIN_MEMORY_BYTES = 64 * 1024
#: When the outbox makes room, it frees at least this share at once: 1 in this many.
_CHUNK = 128
#: The correction of the cost model never exceeds this factor.
_MAX_SCALE = 2.0


def _cost(length: int) -> int:
    size = length + _ROW_OVERHEAD
    pages = 0
    if size > _MAX_LOCAL:
        local = _MIN_LOCAL + (size - _MIN_LOCAL) % _OVERFLOW_ROOM
        if local > _MAX_LOCAL:
            local = _MIN_LOCAL
        pages = (size - local + _OVERFLOW_ROOM - 1) // _OVERFLOW_ROOM
        size = local
    return PAGE_BYTES // max(1, _PAGE_ROOM // size) + pages * PAGE_BYTES


_SHORT = [_cost(length) for length in range(8 * PAGE_BYTES)]


def row_cost(length: int) -> int:
    """The bytes on disk of a row whose payload has ``length`` bytes."""
    return _SHORT[length] if length < 8 * PAGE_BYTES else _cost(length)


def side_cost(payload_bytes: int) -> int:
    """The bytes on disk of a dead letter or of an answer in the journal: a row's cost plus their
    texts."""
    return row_cost(payload_bytes + 160)


def wal_allowance(settings: OutboxSettings) -> int:
    """How large the write-ahead log may become, in bytes."""
    return min(_MAX_WAL_BYTES, max(_MIN_WAL_BYTES, settings.max_bytes // 16))


def telemetry_share(room: int) -> int:
    """How much of ``room`` telemetry may use."""
    parts, whole = _TELEMETRY_SHARE
    return room * parts // whole


class Limits:
    """How much the outbox may hold, in bytes as ``row_cost`` models them.

    ``total`` is the limit for everything, ``telemetry`` for telemetry alone. ``memory_bytes`` is
    how much may wait in memory for a failing disk, ``transaction_bytes`` how much goes into one
    transaction. ``side_cost`` is the present cost of the dead letters and the journal,
    ``side_bytes`` the maximum for each of them.
    """

    def __init__(self, settings: OutboxSettings) -> None:
        wal_bytes = wal_allowance(settings)
        self._usable = max(PAGE_BYTES, settings.max_bytes - wal_bytes - _FIXED_BYTES)
        self.max_rows = settings.max_rows
        self.total = self._usable
        self.telemetry = telemetry_share(self._usable)
        self.side_cost = 0
        self.side_bytes = self._usable // _SIDE_SHARE
        self.memory_bytes = max(self._usable // _SIDE_SHARE, _MIN_MEMORY_BYTES)
        self.transaction_bytes = wal_bytes // 2

    def measured(self, used_bytes: int, modelled_bytes: int) -> None:
        """Correct the limits: the file uses ``used_bytes`` for rows modelled as
        ``modelled_bytes``."""
        modelled = modelled_bytes + self.side_cost + _FIXED_BYTES
        scale = min(_MAX_SCALE, max(1.0, used_bytes / modelled))
        self.total = int(self._usable / scale)
        self.telemetry = telemetry_share(self.total)

    def missing(
        self, own_cost: int, own_rows: int, others_cost: int, cost: int, is_answer: bool
    ) -> tuple[int, int]:
        """The bytes and rows that must leave before a row of ``cost`` bytes fits into a class that
        has ``own_rows`` rows of ``own_cost`` bytes; not positive if there is room."""
        # A message larger than a normal transaction must fit twice: into the write-ahead log and
        # into the file.
        own = own_cost + cost + max(0, cost - self.transaction_bytes)
        over = own + others_cost + self.side_cost - self.total
        if not is_answer:
            over = max(over, own - self.telemetry)
        return over, own_rows + 1 - self.max_rows

    def chunk(self, over: int, rows: int) -> tuple[int, int]:
        """How much to free when this much is missing: a little more, so that not every message has
        to make room."""
        return (
            over + self._usable // _CHUNK if over > 0 else 0,
            rows + self.max_rows // _CHUNK if rows > 0 else 0,
        )

    def can_ever_hold(self, cost: int, is_answer: bool) -> bool:
        """Whether a row of that cost fits into an empty outbox."""
        return cost <= (self.total if is_answer else self.telemetry)


class Eviction:
    """Chooses which rows of ``backlogs`` leave. ``changed`` requests a commit at the end of the
    turn."""

    def __init__(
        self,
        settings: OutboxSettings,
        backlogs: Mapping[MessageClass, Backlog],
        committer: Committer,
        ledger: Ledger,
        limits: Limits,
        changed: Callable[[], None],
    ) -> None:
        self._policy = settings.policy
        self._backlogs = backlogs
        self._committer = committer
        self._uncommitted = committer.uncommitted
        self._ledger = ledger
        self._limits = limits
        self._changed = changed

    def admit(self, message_class: MessageClass, size: int, cost: int, now_s: float) -> str | None:
        """Make room if needed. Returns why a message of ``size`` bytes has no room, else None."""
        is_answer = message_class is ANSWER
        over, rows = self._missing(message_class, cost)
        if (
            (over > 0 or rows > 0)
            and not self.make_room(message_class, cost, now_s)
            and not (is_answer and self.may_overdraw())
        ):
            return f"no room for {size} bytes"
        if self._uncommitted.collecting.size_bytes + size > self._limits.transaction_bytes:
            # Wait for a slow disk: this holds back a producer that is too fast.
            self._ledger.hold()
            try:
                is_relieved = self._committer.relieve()
            finally:
                self._ledger.release()
                self._changed()
            if not is_relieved and not self.fits_in_memory(size, is_answer):
                return f"the disk is too slow or fails: {size} bytes"
        return None

    def make_room(self, message_class: MessageClass, cost: int, now_s: float) -> bool:
        """Let acknowledged rows go, then drop the oldest pending ones if the policy says so.
        Returns False if a row of ``cost`` bytes still has no room; in that case no telemetry was
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
        """Let acknowledged rows go as needed; returns whether a row of ``cost`` bytes now fits."""
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
        """Whether the outbox takes one more answer without room for it: the agent must answer
        every request that it has read. On a working disk, only the number of concurrent operations
        limits this; otherwise the waiting answers may fill the outbox once."""
        if self._committer.is_working and self._committer.store.is_durable:
            return True
        waiting = self._backlogs[ANSWER].queue.waiting_cost
        return waiting + self._limits.side_cost < self._limits.total

    def fits_in_memory(self, size: int, is_answer: bool) -> bool:
        """Whether ``size`` more bytes may be in memory only, for a disk that fails or hangs. Makes
        room among acknowledged rows, and then among the oldest telemetry."""
        if not self._uncommitted.size_bytes:
            return True
        if self._has_memory(size) or (is_answer and self._release_memory(size)):
            return True
        return self._drop_from_memory(size) or (is_answer and self.may_overdraw())

    def drop(self, message_class: MessageClass, over: int, rows: int, reason: str) -> Amount:
        """Drop the oldest pending rows until ``over`` bytes and ``rows`` rows are free, or none is
        left to drop."""
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

    def give_up(self) -> None:
        """The outbox is in memory and ends: drop what is not delivered."""
        lost = Amount()
        for message_class, backlog in self._backlogs.items():
            queue = backlog.queue
            rows = [queue.remove_in_flight(row_id) for row_id in list(queue.in_flight)]
            lost.add(backlog.drop(rows, "stopped"))
            lost.add(self.drop(message_class, 0, queue.pending_rows, "stopped"))
        if lost.rows:
            _log.warn(
                "lost {messages} that had not been delivered: the outbox is in memory",
                messages=counted(lost.rows, "message"),
                count=lost.rows,
            )

    # -- memory ------------------------------------------------------------------------------

    def _release_memory(self, size: int) -> bool:
        """Let acknowledged rows go that may be in memory only."""
        chunk = max(size, self._limits.memory_bytes // 16)
        for backlog in self._backlogs.values():
            while backlog.queue.lingering and not self._has_memory(size):
                backlog.evict(chunk)
        return self._has_memory(size)

    def _drop_from_memory(self, size: int) -> bool:
        """Drop the oldest telemetry that is in memory only and not yet sent, until ``size`` bytes
        are free."""
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
