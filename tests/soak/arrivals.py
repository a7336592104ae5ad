"""Which numbers have arrived at the platform, looked up while the soak goes on: the platform's
memory is bounded, and a long soak sends more than it keeps."""

from __future__ import annotations

from oda.platform.testing import RunningPlatform
from tests.soak.agent import DEVICE
from tests.soak.load import EPOCH_MS

_WINDOW = 10_000


class Arrivals:
    """``copies`` counts datapoints that came again, ``wrong`` those with another value than was
    sent."""

    def __init__(self, platform: RunningPlatform) -> None:
        self._platform = platform
        self._open: dict[int, int] = {}
        self._next = 0
        self.arrived = 0
        self.copies = 0
        self.wrong = 0

    def look(self, accepted: int, final: bool = False) -> None:
        """Look for the numbers below ``accepted`` that had not arrived yet, in whole windows; with
        ``final`` also in the last, unfinished one. Raises ``OSError`` when nobody answers."""
        while self._next + (1 if final else _WINDOW) <= accepted:
            self._open[self._next] = min(_WINDOW, accepted - self._next)
            self._next += _WINDOW
        for first, wanted in list(self._open.items()):
            points = self._platform.datapoints(
                DEVICE, from_ms=EPOCH_MS + first, to_ms=EPOCH_MS + first + wanted
            )
            if len(points) >= wanted:
                del self._open[first]
                self.arrived += wanted
                self.copies += sum(point.copies - 1 for point in points)
                self.wrong += sum(
                    point.value != point.at_ms - EPOCH_MS or point.conflicts > 0 for point in points
                )

    def missing(self) -> int:
        """How many of the numbers looked for have not arrived."""
        total = 0
        for first, wanted in self._open.items():
            points = self._platform.datapoints(
                DEVICE, from_ms=EPOCH_MS + first, to_ms=EPOCH_MS + first + wanted
            )
            total += wanted - len(points)
        return total
