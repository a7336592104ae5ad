"""How much fits: what a row costs on disk, and the bounds of the outbox, shared out.

Of ``outboxMaxBytes`` a part is left to the write-ahead log and the file's own pages. Of the rest
telemetry may use three quarters. The other quarter belongs to answers, the dead letters and the
journal; answers may also use what telemetry leaves free.

A row's cost is a model of SQLite's table B-tree (file format, "B-tree Pages" and "Cell Payload
Overflow Pages") for rows that are added in the order of their ids, so that leaves are full: short
rows share a page, long ones have overflow pages of their own. The model is not exact for mixed
lengths; ``Limits.measured`` corrects it by what the file really uses.

Pure.
"""

from __future__ import annotations

from collections import OrderedDict

from oda.settings import OutboxSettings

#: A small page: a commit of one datapoint writes whole pages, and flash wears with each of them.
PAGE_BYTES = 1024
#: Record header, id, time, checksum and the other short columns, and the cell's own bookkeeping.
_ROW_OVERHEAD = 30
_PAGE_ROOM = PAGE_BYTES - 8
_MAX_LOCAL = PAGE_BYTES - 35
_MIN_LOCAL = (PAGE_BYTES - 12) * 32 // 255 - 23
_OVERFLOW_ROOM = PAGE_BYTES - 4

#: Pages of the file that hold no rows.
_FIXED_BYTES = 16 * PAGE_BYTES
#: The write-ahead log is folded back into the file when it has reached this size, in bytes.
_MAX_WAL_BYTES = 4 * 1024 * 1024
_MIN_WAL_BYTES = 64 * 1024
#: The share of the room that telemetry may use, as a fraction.
_TELEMETRY_SHARE = (3, 4)
#: The share of the room of the dead letters, of the journal's answers, and of memory: 1 in so many.
_SIDE_SHARE = 16
_MIN_MEMORY_BYTES = 64 * 1024
#: When something has to go, this share of the room is freed at once: 1 in so many.
_CHUNK = 128
#: The model of costs is not trusted to be wrong by more than this factor.
_MAX_SCALE = 2.0
#: The maximum number of dead letters.
MAX_LETTERS = 1000


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
    """The bytes on disk of a dead letter or of an answer in the journal: their texts add to a row's
    cost."""
    return row_cost(payload_bytes + 160)


def wal_allowance(settings: OutboxSettings) -> int:
    """How large the write-ahead log may become, in bytes."""
    return min(_MAX_WAL_BYTES, max(_MIN_WAL_BYTES, settings.max_bytes // 16))


def telemetry_share(room: int) -> int:
    """How much of ``room`` telemetry may use."""
    parts, whole = _TELEMETRY_SHARE
    return room * parts // whole


class Limits:
    """What may be in the outbox, in bytes as ``row_cost`` models them.

    ``total`` is for everything together, ``telemetry`` for telemetry alone. ``memory_bytes`` is how
    much may wait in memory for a disk that fails, ``transaction_bytes`` how much goes into one
    transaction. ``side_cost`` is what the dead letters and the journal cost now, ``side_bytes`` the
    most that each of them may cost.
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
        """Bytes and rows that have to go before a row of ``cost`` bytes fits into a class that has
        ``own_rows`` rows of ``own_cost`` bytes; not positive where there is room."""
        # A message larger than a transaction should be has to fit twice: into the write-ahead log
        # and into the file.
        own = own_cost + cost + max(0, cost - self.transaction_bytes)
        over = own + others_cost + self.side_cost - self.total
        if not is_answer:
            over = max(over, own - self.telemetry)
        return over, own_rows + 1 - self.max_rows

    def chunk(self, over: int, rows: int) -> tuple[int, int]:
        """How much to free when that much is missing: a little more, so that it does not have to be
        done for every message."""
        return (
            over + self._usable // _CHUNK if over > 0 else 0,
            rows + self.max_rows // _CHUNK if rows > 0 else 0,
        )

    def can_ever_hold(self, cost: int, is_answer: bool) -> bool:
        """Whether a row of that cost fits into an empty outbox."""
        return cost <= (self.total if is_answer else self.telemetry)


class DeadLetters:
    """The ids and costs of the dead letters, oldest first: at most ``MAX_LETTERS`` and, together,
    ``max_bytes``; at least one whatever its size."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._costs: OrderedDict[int, int] = OrderedDict()
        self.cost = 0

    def __len__(self) -> int:
        return len(self._costs)

    def __contains__(self, row_id: object) -> bool:
        return row_id in self._costs

    def add(self, row_id: int, cost: int) -> list[int]:
        """Add one; returns the ids of the oldest that have to go for it."""
        self.remove(row_id)
        self._costs[row_id] = cost
        self.cost += cost
        gone: list[int] = []
        while len(self._costs) > 1 and (
            len(self._costs) > MAX_LETTERS or self.cost > self._max_bytes
        ):
            oldest = next(iter(self._costs))
            self.remove(oldest)
            gone.append(oldest)
        return gone

    def has_room(self, cost: int) -> bool:
        """Whether one more can be added and none has to go for it."""
        return len(self._costs) < MAX_LETTERS and self.cost + cost <= self._max_bytes

    def remove(self, row_id: int) -> None:
        """Forget one; unknown ids are ignored."""
        self.cost -= self._costs.pop(row_id, 0)

    def ids(self) -> list[int]:
        """Oldest first."""
        return list(self._costs)
