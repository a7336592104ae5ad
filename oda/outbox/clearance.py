"""What an operator may ask of an outbox in use: to drop what it has, to try dead letters again."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from oda.errors import OutboxFull
from oda.model import MessageClass, OutgoingMessage
from oda.outbox.change import CLASSES
from oda.outbox.committer import Committer
from oda.outbox.records import LETTER_COLUMNS, read_letter
from oda.outbox.shedding import Shedding
from oda.outbox.stock import Stock
from oda.outbox.uncommitted import Uncommitted


def purge(stock: Stock, shedding: Shedding, uncommitted: Uncommitted) -> int:
    """Drop everything that is pending, and the dead letters; returns how many messages."""
    letters = stock.letters
    ids = letters.ids()
    uncommitted.collecting.dead_gone += ids
    for row_id in ids:
        letters.remove(row_id)
    stock.side_changed()
    purged = len(ids)
    for message_class in CLASSES:
        queue = stock.queues[message_class]
        while dropped := shedding.drop(
            message_class, 0, min(queue.pending_rows, 4096), "purged"
        ).rows:
            purged += dropped
    return purged


def retry_dead(
    stock: Stock, committer: Committer, put: Callable[[OutgoingMessage], Deferred[int]]
) -> int:
    """Put the sound dead letters behind everything that is pending; returns how many. Raises
    ``OutboxFull`` when the store can't be read, or where the room ends."""
    reader = committer.reader
    if reader is None:
        raise OutboxFull("the store can't be read now")
    letters = stock.letters
    retried = 0
    for row in reader.query(f"SELECT {LETTER_COLUMNS} FROM dead ORDER BY id"):
        letter = read_letter(row)
        kept = letter.kept
        if kept.row_id not in letters or not letter.is_sound:
            continue
        accepted = put(
            OutgoingMessage(
                payload=kept.payload,
                message_class=MessageClass(letter.table),
                is_text=kept.is_text,
                datapoints=kept.datapoints,
            )
        )
        if accepted.called:
            accepted.addErrback(lambda _: None)
            raise OutboxFull(f"there is room for {retried} dead letters only")
        stock.accounts.revived(kept.datapoints)
        letters.remove(kept.row_id)
        committer.uncommitted.collecting.dead_gone.append(kept.row_id)
        retried += 1
    stock.side_changed()
    return retried
