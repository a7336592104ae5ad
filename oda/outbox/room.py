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
    """Says what fits. ``wal_bytes`` is the allowance of the write-ahead log.

    ``limit`` is for everything together and ``telemetry_limit`` for telemetry alone, both in bytes
    as ``costs`` models them; ``memory_bytes`` is how much may wait in memory for a disk that fails.
    """

    def __init__(self, settings: OutboxSettings, wal_bytes: int) -> None:
        self._usable = max(PAGE_BYTES, settings.max_bytes - wal_bytes - _FIXED_BYTES)
        self.max_rows = settings.max_rows
        self.limit = self._usable
        self.telemetry_limit = self._usable * 3 // 4
        #: What the dead letters and the journal cost.
        self.side_cost = 0
        #: The most that the dead letters, and that the journal, may cost.
        self.side_bytes = self._usable // 16
        self.memory_bytes = max(self._usable // 16, 1 << 16)
        #: What goes into one transaction, and so into the write-ahead log; see ``store``.
        self.change_bytes = wal_bytes // 2

    def measured(self, used_bytes: int, modelled_bytes: int) -> None:
        """The file uses so much for rows that were modelled as that: correct the limits."""
        modelled = modelled_bytes + self.side_cost + _FIXED_BYTES
        scale = min(_MAX_SCALE, max(1.0, used_bytes / modelled))
        self.limit = int(self._usable / scale)
        self.telemetry_limit = self.limit * 3 // 4

    def missing(
        self, queue: ClassQueue, others: ClassQueue, cost: int, is_response: bool
    ) -> tuple[int, int]:
        """Bytes and rows that have to go before a row of ``cost`` bytes may come into ``queue``;
        not positive where there is room."""
        # A message that is larger than a transaction should be has to fit twice: it is in the
        # write-ahead log and in the file.
        cost += max(0, cost - self.change_bytes)
        own = queue.stored.cost + cost
        over = own + others.stored.cost + self.side_cost - self.limit
        if not is_response:
            over = max(over, own - self.telemetry_limit)
        return over, queue.stored.rows + 1 - self.max_rows

    def chunk(self, over: int, rows: int) -> tuple[int, int]:
        """How much to free when so much is missing: a little more, so that it isn't needed for
        every message."""
        return (
            over + self._usable // _CHUNK if over > 0 else 0,
            rows + self.max_rows // _CHUNK if rows > 0 else 0,
        )

    def can_ever_hold(self, cost: int, is_response: bool) -> bool:
        """Whether a row of that cost fits into an empty outbox."""
        return cost <= (self.limit if is_response else self.telemetry_limit)


def side_cost(payload_bytes: int) -> int:
    """What a dead letter or a journal entry costs; they are larger than rows by their texts."""
    return row_cost(payload_bytes + 160)
