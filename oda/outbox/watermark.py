"""What an earlier process had acknowledged: one watermark for each message class.

Acknowledged rows linger in the store, because a pong is not a commit by the platform. A start has
to know which of the rows it finds were acknowledged, and how often a start has repeated them::

    resting <= counts[0] >= counts[1] >= counts[2] >= counts[3]

Every row up to ``resting`` was acknowledged and only lingers. Every row up to ``counts[n]`` was
acknowledged at some time, and after that ``n`` starts have sent it again and had it acknowledged
again. Rows between ``resting`` and ``counts[0]`` have to be sent again (their connection ended
badly).

The rules of a start: rows up to ``resting`` are forgotten when the linger time has passed since the
watermark was written and the machine ran all the while. Otherwise rows up to ``counts[3]`` go on to
linger, and all others are sent again. The time in which the machine was off does not count: a
platform that lost power together with the device had no time to store what it had read.

A watermark that is lost or late leads to repeats, never to a loss. Where an older row of the class
is still wanted the watermark stays below that row.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

#: The number of times that starts send a row again after its acknowledgement.
MAX_REPEATS = 3


class Watermark:
    """The watermark of one class. ``stored`` is what the store had at the start: ``resting``, then
    the counts; it may be empty."""

    def __init__(self, stored: Sequence[int] = ()) -> None:
        values = [max(0, one) for one in stored[: MAX_REPEATS + 2]]
        values += [0] * (MAX_REPEATS + 2 - len(values))
        self.resting = values[0]
        self._before = values[1:]
        self._proven = 0

    @property
    def owed(self) -> int:
        """Up to this row the store had rows that were acknowledged at some time."""
        return max(self._before[0], self._proven)

    @property
    def exhausted(self) -> int:
        """No start sends rows up to this one again."""
        return self._before[-1]

    def is_owing(self, resting: int) -> bool:
        """Whether rows are left to be sent again, with every row up to ``resting`` acknowledged."""
        return resting < self.owed

    def lower(self, row_id: int) -> None:
        """An older row than was known turned up: nothing from it on counts as acknowledged."""
        self._before = [min(one, row_id - 1) for one in self._before]
        self._proven = min(self._proven, row_id - 1)

    def to_store(self, resting: int) -> list[int]:
        """The watermark to be stored, with every row up to ``resting`` acknowledged."""
        proven = self._proven = max(self._proven, resting)
        before = self._before
        counts = [max(before[0], proven)]
        counts += [max(older, min(proven, newer)) for newer, older in pairwise(before)]
        return [resting, *counts]
