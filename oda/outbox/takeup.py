"""Takes up rows of a store that an earlier process has left acknowledged; see ``marks``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from oda.model import MessageClass
from oda.outbox.marks import Fate, Mark, judge
from oda.outbox.queue import Amount, Batch, ClassQueue
from oda.outbox.reader import Reader
from oda.outbox.store import UNREADABLE


class Times(NamedTuple):
    """``off_ms`` is for how long no agent ran while the machine did."""

    off_ms: int
    linger_ms: int
    now_s: float


def take_up(
    queue: ClassQueue,
    message_class: MessageClass,
    marks: Sequence[Mark],
    reader: Reader | None,
    times: Times,
    is_late: bool,
) -> list[Batch]:
    """Let the rows of ``marks``, which are among those of ``queue``, rest or be sent again. Gives
    those that are neither: they are out of the queue and have to be let go.

    ``is_late``: newer rows are in the queue already, so nothing can rest.
    """
    gone: list[Batch] = []
    border = 0
    # Rows can only linger below all that are pending.
    are_oldest = not is_late
    for mark in marks:
        fate, left_ms = judge(mark, times.off_ms, times.linger_ms)
        amount = Amount()
        try:
            if reader is None or not border < mark.low <= mark.high:
                fate = Fate.OWED
            elif are_oldest:
                are_oldest = not reader.has_rows(message_class, border, mark.low)
            if fate is Fate.RESTING and not are_oldest:
                fate = Fate.OWED
            if fate is not Fate.OWED and reader is not None:
                amount = reader.amount(message_class, mark.low, mark.high)
        except UNREADABLE:
            fate = Fate.OWED
        if fate is Fate.OWED:
            are_oldest = False
            queue.marks.owe(mark)
        elif fate is Fate.RESTING:
            expires_s = times.now_s + left_ms / 1000
            queue.rest(mark.low, mark.high, mark.repeats, amount, expires_s)
        else:
            if is_late:
                queue.stored.subtract(amount)
            else:
                queue.discard_spilled(amount)
            if are_oldest:
                queue.head_hi = mark.high
            gone.append(Batch(mark.low, mark.high, amount))
        border = max(border, mark.high)
    return gone
