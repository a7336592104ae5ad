"""The dead letters that are on disk: how many, how large, and which goes when there are too many.

Pure: only ids and sizes.
"""

from __future__ import annotations

from collections import OrderedDict

#: So many are kept for inspection.
MAX_LETTERS = 1000


class DeadLetters:
    """At most ``MAX_LETTERS`` and, together, ``max_bytes``; at least one whatever its size."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._costs: OrderedDict[int, int] = OrderedDict()
        self.cost = 0

    def __len__(self) -> int:
        return len(self._costs)

    def __contains__(self, row_id: object) -> bool:
        return row_id in self._costs

    def add(self, row_id: int, cost: int) -> list[int]:
        """One more; returns the ids of the oldest that have to go for it."""
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

    def remove(self, row_id: int) -> None:
        """It is not there any more."""
        self.cost -= self._costs.pop(row_id, 0)

    def ids(self) -> list[int]:
        """Oldest first."""
        return list(self._costs)
