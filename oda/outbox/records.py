"""What the rows of the tables say: each is checked against its checksum. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from oda.model import MessageClass
from oda.outbox.change import Totals, checksum
from oda.outbox.costs import row_cost
from oda.outbox.queue import Kept

#: The table of each class.
TABLES = {one: one.value for one in MessageClass}
#: What ``read_letter`` wants.
LETTER_COLUMNS = "id, class, is_text, datapoints, accepted_ms, crc, reason, payload"


class Letter(NamedTuple):
    """A dead letter as it is stored; only a sound one may be sent again."""

    kept: Kept
    table: str
    reason: str
    is_sound: bool


def read_letter(row: Sequence[Any]) -> Letter:
    """A row of the dead letters."""
    row_id, table, is_text, datapoints, accepted_ms, crc, reason, payload = row
    kept, is_sound = read_row((row_id, is_text, datapoints, accepted_ms, crc, payload))
    name = _as_text(table)
    return Letter(kept, name, _as_text(reason), is_sound and name in TABLES.values())


def _as_text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def read_row(row: Sequence[Any]) -> tuple[Kept, bool]:
    """A row of a message table, and whether it is as it was written."""
    row_id, is_text, datapoints, accepted_ms, crc, payload = row
    is_sound = (
        isinstance(payload, bytes)
        and isinstance(datapoints, int)
        and isinstance(accepted_ms, int)
        and is_text in (0, 1)
        and crc == checksum(row_id, is_text, datapoints, payload)
    )
    if not is_sound:
        payload = payload if isinstance(payload, bytes) else repr(payload).encode()
        datapoints = datapoints if isinstance(datapoints, int) else 0
        accepted_ms = accepted_ms if isinstance(accepted_ms, int) else 0
    kept = Kept(row_id, payload, bool(is_text), datapoints, accepted_ms, row_cost(len(payload)))
    return kept, is_sound


def read_totals(row: Sequence[Any] | None) -> Totals | None:
    """The totals in a row of that table; None when there is none or it was changed."""
    if row is None or not isinstance(row[0], bytes) or crc32(row[0]) != row[1]:
        return None
    try:
        return msgspec.json.decode(row[0], type=Totals)
    except msgspec.MsgspecError:
        return None
