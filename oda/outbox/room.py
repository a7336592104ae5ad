"""How much there is room for: the bounds of the outbox, shared out.

Of ``outboxMaxBytes`` a part is left to the write-ahead log and the file's own pages. Of the rest
telemetry may use three quarters. The other quarter belongs to responses, the dead letters and the
journal; responses may also use what telemetry leaves free.

Pure.
"""

from __future__ import annotations

from oda.outbox.costs import PAGE_BYTES, row_cost
from oda.outbox.queue import ClassQueue
from oda.settings import OutboxSettings

#: Pages of the file that hold no rows.
_FIXED_BYTES = 8 * PAGE_BYTES
#: When something has to go, so much of the room is freed at once.
_CHUNK = 128
#: The model of costs is not trusted to be wrong by more than this factor.
_MAX_SCALE = 2.0


class Room:
    """Says what fits. ``wal_bytes`` is the allowance of the write-ahead log."""

    def __init__(self, settings: OutboxSettings, wal_bytes: int) -> None:
        self._usable = max(PAGE_BYTES, settings.max_bytes - wal_bytes - _FIXED_BYTES)
        self._telemetry = self._usable * 3 // 4
        self._max_rows = settings.max_rows
        self._scale = 1.0
        #: What the dead letters and the journal cost.
        self.side_cost = 0
        #: The most that dead letters, and that the journal, may cost.
        self.side_bytes = self._usable // 16
        #: How much may wait in memory for a disk that fails.
        self.memory_bytes = max(self._usable // 8, 1 << 16)

    def measured(self, used_bytes: int, modelled_bytes: int) -> None:
        """The file uses so much for rows that were modelled as that."""
        modelled = modelled_bytes + self.side_cost + _FIXED_BYTES
        self._scale = min(_MAX_SCALE, max(1.0, used_bytes / modelled))

    def missing(
        self, queue: ClassQueue, others: ClassQueue, cost: int, is_response: bool
    ) -> tuple[int, int]:
        """Bytes and rows that have to go before a row of ``cost`` bytes may come into ``queue``;
        not positive where there is room."""
        everything = queue.stored.cost + others.stored.cost + self.side_cost + cost
        over = int(everything * self._scale) - self._usable
        rows = queue.stored.rows + 1 - self._max_rows
        if not is_response:
            over = max(over, int((queue.stored.cost + cost) * self._scale) - self._telemetry)
        return over, rows

    def chunk(self, over: int, rows: int) -> tuple[int, int]:
        """How much to free when so much is missing: a little more, so that it isn't needed for
        every message."""
        return (
            over + self._usable // _CHUNK if over > 0 else 0,
            rows + self._max_rows // _CHUNK if rows > 0 else 0,
        )

    def can_ever_hold(self, cost: int, is_response: bool) -> bool:
        """Whether a row of that cost fits into an empty outbox."""
        return cost <= (self._usable if is_response else self._telemetry)


def side_cost(payload_bytes: int) -> int:
    """What a dead letter or a journal entry costs; they are larger than rows by their texts."""
    return row_cost(payload_bytes + 160)
