"""What a row costs on disk, from the length of its payload.

A model of SQLite's table B-tree (file format, "B-tree Pages" and "Cell Payload Overflow Pages"),
for rows that are added in the order of their ids, so that leaves are full: short rows share a
page, long ones have overflow pages of their own. It is not exact for mixed lengths; the outbox
corrects it by what the file really uses.
"""

from __future__ import annotations

PAGE_BYTES = 4096
#: Record header, id, time, checksum and the other short columns, and the cell's own bookkeeping.
_ROW_OVERHEAD = 28
_PAGE_ROOM = PAGE_BYTES - 8
_MAX_LOCAL = PAGE_BYTES - 35
_MIN_LOCAL = (PAGE_BYTES - 12) * 32 // 255 - 23
_OVERFLOW_ROOM = PAGE_BYTES - 4


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


_SHORT = [_cost(length) for length in range(2 * PAGE_BYTES)]


def row_cost(length: int) -> int:
    """Bytes that a row with a payload of ``length`` bytes takes on disk."""
    return _SHORT[length] if length < 2 * PAGE_BYTES else _cost(length)
