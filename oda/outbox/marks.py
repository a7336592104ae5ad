"""What the store remembers of acknowledged rows, so that a start knows which ones to send again.

Acknowledged rows linger, because a pong is not a commit by the platform. A row that is still in the
store at a start may have been acknowledged; a *mark* says so for a range of rows, how long ago the
last of them was, and how often they were repeated. From that::

    acknowledged longer ago than the linger time -> gone: not sent again
    repeated three times already                 -> resting: lingers for the rest of its time
    else                                         -> owed: sent again, lingers when acknowledged

The time while no agent ran counts only if the machine ran all the same: a platform that went down
with the machine, in the same power failure, has had no time to store what it had read. A repetition
counts when it is acknowledged (one that is not is of the window, which is small), so agents that
are killed again and again repeat each row three times and no more.

A row without a mark is sent again: a lost mark leads to repeats, never to a loss. So there are only
marks where it is certain that every row in the range was acknowledged, and only so many.

Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum

import msgspec

#: So often a row is sent again after its acknowledgement because of starts.
MAX_REPEATS = 3
#: So many marks of a class are kept: every commit writes them.
MAX_MARKS = 32
#: Into so many parts the linger time is divided; rows acknowledged in the same one share a mark.
SLOTS = 16
#: The age of rows that have to be sent again although they were acknowledged once.
OWED = -1


class Mark(msgspec.Struct, array_like=True, gc=False):
    """As stored: the rows from ``low`` to ``high`` that are still there were acknowledged, the last
    one ``age_ms`` ago (or ``OWED``), and ``repeats`` times once more, each after another start."""

    low: int
    high: int
    age_ms: int
    repeats: int


class Fate(Enum):
    """What a start does with marked rows."""

    GONE = "gone"
    RESTING = "resting"
    OWED = "owed"


def judge(mark: Mark, off_ms: int, linger_ms: int) -> tuple[Fate, int]:
    """The fate of the rows of a mark, and for how many milliseconds they go on to linger.

    ``off_ms`` is the time since the mark was written, 0 where nobody knows it.
    """
    elapsed_ms = 0 if mark.age_ms == OWED else max(0, mark.age_ms) + max(0, off_ms)
    left_ms = linger_ms - elapsed_ms
    if left_ms <= 0:
        return Fate.GONE, 0
    return (Fate.RESTING if mark.repeats >= MAX_REPEATS else Fate.OWED), left_ms


class _Span(msgspec.Struct, gc=False):
    """Lingering rows that share a mark; the first time is that of the first row acknowledged."""

    low: int
    high: int
    repeats: int
    first_expires_s: float
    expires_s: float


class _Debt(msgspec.Struct, gc=False):
    """Rows to be sent again. ``step`` is what their acknowledgement adds to ``repeats``: 1 after a
    start, 0 where the connection was lost (that has a rule of its own)."""

    low: int
    high: int
    repeats: int
    step: int


class Marks:
    """The marks of one class. Rows acknowledged within ``slot_s`` seconds may share one."""

    def __init__(self, slot_s: float) -> None:
        self._slot_s = slot_s
        self._spans: deque[_Span] = deque()
        self._owed: deque[_Debt] = deque()
        #: The lowest row that is owed, beyond all others without one.
        self.owed_from = _NONE

    @property
    def is_owing(self) -> bool:
        """True while rows have to be sent again that were acknowledged once."""
        return self.owed_from != _NONE

    def acknowledged(self, low: int, high: int, expires_s: float, repeats: int = 0) -> None:
        """Every row of the class from ``low`` to ``high`` lingers, and nothing older is wanted."""
        spans = self._spans
        if spans:
            last = spans[-1]
            if (
                last.high < low
                and last.repeats == repeats
                and expires_s - last.first_expires_s <= self._slot_s
            ):
                last.high = high
                last.expires_s = max(last.expires_s, expires_s)
                return
        spans.append(_Span(low, high, repeats, expires_s, expires_s))

    def let_go(self, low: int, high: int) -> None:
        """These rows don't linger any more; the longest acknowledged ones come first."""
        spans = self._spans
        if spans and spans[0].low <= low and high <= spans[0].high:
            if high == spans[0].high:
                spans.popleft()
            else:
                spans[0].low = high + 1

    def rewound(self) -> None:
        """All that lingers has to be sent again."""
        self._owe([_Debt(one.low, one.high, one.repeats, 0) for one in self._spans])
        self._spans.clear()

    def owe(self, mark: Mark) -> None:
        """After a start: the rows of the mark have to be sent again."""
        self._owe([_Debt(mark.low, mark.high, mark.repeats, 1)])

    def _owe(self, debts: Sequence[_Debt]) -> None:
        if debts:
            self._owed = deque(sorted((*debts, *self._owed), key=lambda debt: debt.low))
            self._find_lowest()

    def pay(self, row_ids: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """Rows are acknowledged (in order, nothing older is wanted) that may have been owed: gives
        the slices of ``row_ids``, from and to, that share their repeats, and these."""
        owed = self._owed
        start = 0
        while start < len(row_ids):
            first = row_ids[start]
            while owed and owed[0].high < first:
                owed.popleft()
            end = start + 1
            if owed and owed[0].low <= first:
                repeats, border = owed[0].repeats + owed[0].step, owed[0].high
            else:
                repeats, border = 0, owed[0].low - 1 if owed else _NONE
            while end < len(row_ids) and row_ids[end] <= border:
                end += 1
            yield start, end, repeats
            start = end
        last = row_ids[-1]
        while owed and owed[0].high <= last:
            owed.popleft()
        if owed and owed[0].low <= last:
            owed[0].low = last + 1
        self._find_lowest()

    def _find_lowest(self) -> None:
        self.owed_from = self._owed[0].low if self._owed else _NONE

    def stored(self, now_s: float, linger_s: float) -> list[Mark]:
        """The marks as they are to be stored, from the lowest row."""
        marks: list[Mark] = []
        for span in self._spans:
            if len(marks) == MAX_MARKS:
                return marks
            age_ms = max(0, int((linger_s - span.expires_s + now_s) * 1000))
            marks.append(Mark(span.low, span.high, age_ms, span.repeats))
        for debt in self._owed:
            if len(marks) == MAX_MARKS:
                return marks
            marks.append(Mark(debt.low, debt.high, OWED, debt.repeats))
        return marks


#: Higher than any id.
_NONE = 1 << 63
