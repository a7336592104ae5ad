"""Says which datastreams have times that seem to be no milliseconds, once for each."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from oda.model import Event
from oda.timestamps import SURE_FROM_MS, SURE_TO_MS, doubt, show

#: So many datastreams are remembered; of more nothing is said.
MAX_NAMES = 1000

#: A time so near to that of the machine is doubted as little as the machine's clock is.
_NEAR_MS = 86_400_000

log = Logger()


class TimeDoubts:
    """``now_ms`` tells the machine's time: a device whose clock was never set lives in 1970, where
    seconds of our time lie."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._told: set[str] = set()

    def consider(self, event: Event) -> None:
        """Warn if the event's times are doubtful, and this was not said of its datastream."""
        for time_ms in (event.at_ms, event.from_ms):
            if time_ms is None or SURE_FROM_MS <= time_ms <= SURE_TO_MS:
                continue
            other = doubt(time_ms)
            if (
                other is None
                or event.datastream_id in self._told
                or len(self._told) == MAX_NAMES
                or abs(time_ms - self._now_ms()) < _NEAR_MS
            ):
                continue
            self._told.add(event.datastream_id)
            log.warn(
                "a datapoint of {datastream_id} has the time {time_ms}, which seems to be {other}:"
                " in milliseconds since 1970 it is {day}. It is sent as it is",
                datastream_id=event.datastream_id,
                time_ms=time_ms,
                other=other,
                day=show(time_ms),
            )
