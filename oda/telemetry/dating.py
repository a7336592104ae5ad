"""Whether the time of day can be believed, and the dates of moments for which it could not.

A time of day before the year in which this software was built is wrong: the device has no battery
for its clock, and nothing has set it since its start. Where ``timeSync=true`` says that something
keeps the clock right, a time of day counts only after the first synchronisation. From then on it is
believed whatever happens to the network: the clock goes on by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from zope.interface import implementer

from oda.interfaces import IDating, IWallClock
from oda.log import Logger
from oda.model import Moment
from oda.telemetry.boots import Boot, Boots
from oda.timestamps import show

log = Logger()

#: Whether the clock is synchronised is asked so often, in milliseconds.
_LOOK_MS = 1000


@implementer(IDating)
class Dating:
    """``boot_id`` names this start of the machine, and ``uptime_ms()`` is the time since it.
    ``built_ms`` is when this software was built.

    ``must_sync()`` says whether the first synchronisation counts, and ``is_synchronised()`` whether
    the clock is synchronised (None if that is unknown: then the year alone counts).
    """

    def __init__(
        self,
        wall_clock: IWallClock,
        boot_id: str,
        uptime_ms: Callable[[], int],
        built_ms: int,
        must_sync: Callable[[], bool] = lambda: False,
        is_synchronised: Callable[[], bool | None] = lambda: None,
    ) -> None:
        self._wall_clock = wall_clock
        self._boot_id = boot_id
        self._uptime_ms = uptime_ms
        self._built_ms = built_ms
        self._must_sync = must_sync
        self._ask = is_synchronised
        self._was_synchronised = False
        self._next_look_ms = uptime_ms()
        self.earliest_ms = beginning_of_year(built_ms)
        self.boots = Boots((), boot_id, built_ms)

    def is_right(self) -> bool:
        """See ``IDating.is_right``."""
        if self._wall_clock.now_ms() < self.earliest_ms:
            return False
        return self._was_synchronised or not self._must_sync() or self._is_synchronised()

    def why(self) -> str:
        """What is wrong with the time of day, for people."""
        now_ms = self._wall_clock.now_ms()
        if now_ms < self.earliest_ms:
            return f"it says {show(now_ms)}"
        return "it is not synchronised yet, and timeSync=true"

    def moment(self) -> Moment:
        """See ``IDating.moment``."""
        return Moment(self._boot_id, self._uptime_ms())

    def date(self, moment: Moment) -> tuple[int, int | None] | None:
        """See ``IDating.date``."""
        return self.boots.date(moment)

    def clock_was_set(self) -> None:
        """The platform has set the clock: that is as good as a synchronisation."""
        self._was_synchronised = True

    def learn(self, known: list[Boot]) -> None:
        """Go on from the starts of the machine that a file knows."""
        self.boots = Boots(known, self._boot_id, self._built_ms)

    def enter(self) -> None:
        """Enter into ``boots`` how the clocks are now."""
        if self.is_right():
            self.boots.is_right(self._wall_clock.now_ms(), self._uptime_ms())
        else:
            self.boots.seen(self._uptime_ms())

    def _is_synchronised(self) -> bool:
        now_ms = self._uptime_ms()
        if now_ms < self._next_look_ms:
            return False
        self._next_look_ms = now_ms + _LOOK_MS
        state = self._ask()
        if state is None:
            log.warn(
                "timeSync=true, but the agent can't tell whether the clock is synchronised (the"
                " system call adjtimex is not allowed, see docs/time.md): a year that is not in the"
                " past counts as right"
            )
        self._was_synchronised = state is not False
        return self._was_synchronised


def beginning_of_year(at_ms: int) -> int:
    """The first millisecond of the year of that time."""
    year = datetime.fromtimestamp(at_ms / 1000, UTC).year
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1000
