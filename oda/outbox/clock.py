"""What goes on from one process to the next: the ids of rows, and the clock of their ages.

The time of day of a device may be set by years in one step, and a step must not make every row too
old. So ages are measured on a clock that starts at the time of day, runs with the monotonic clock
and is carried over a restart. The time the device was off counts where the time of day before and
after can be believed; where it can't, the clock goes on from where it stood.

Each message class has ids of its own, so that the rows of a class that were put one after the other
have consecutive ids. A process that can't open its store takes ids beyond those of any store, so
that the store's rows can be taken up later as the older ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic

from twisted.internet.interfaces import IReactorTime

from oda.interfaces import IWallClock
from oda.model import MessageClass
from oda.outbox.transaction import ANSWER, TELEMETRY, Totals

#: Earlier times of day come from a device that does not know the time (2020-01-01T00:00:00Z).
_BELIEVABLE_MS = 1_577_836_800_000
#: The first id of each class. The distance is for the reader of a log: an id tells its class.
FIRST_IDS = {TELEMETRY: 1, ANSWER: 1_000_000_000_000_001}
#: A process without a store begins at so many ids for each second since 1970.
_IDS_PER_S = 1 << 18
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Uptime:
    """How long the machine has been running. ``boot_id`` names this start of the machine, and is
    empty where it has no name. ``seconds`` runs from then on and is the same for all processes."""

    def __init__(self, boot_id: str, seconds: Callable[[], float]) -> None:
        self.boot_id = boot_id
        self._seconds = seconds

    def now_ms(self) -> int:
        """How long the machine has been running."""
        return int(self._seconds() * 1000)

    def since_ms(self, boot_id: str, uptime_ms: int) -> int:
        """The time since an earlier reading; 0 where nobody knows, or the machine was off."""
        if not boot_id or boot_id != self.boot_id:
            return 0
        return max(0, self.now_ms() - uptime_ms)


def this_machine(boot_id: Path = _BOOT_ID) -> Uptime:
    """The machine that this runs on. Only Linux names its starts."""
    try:
        name = boot_id.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        name = ""
    return Uptime(name, monotonic)


class OutboxClock:
    """The age clock and the ids. ``reactor`` gives monotonic ``seconds``.

    ``next_ids`` holds the id of the next row of each class: whoever uses it counts it on.
    """

    def __init__(self, reactor: IReactorTime, wall_clock: IWallClock, uptime: Uptime) -> None:
        self._reactor = reactor
        self._wall_clock = wall_clock
        self._uptime = uptime
        self._started_s = reactor.seconds()
        self._base_ms = wall_clock.now_ms()
        self.next_ids = dict(FIRST_IDS)
        self._first_ids = dict(FIRST_IDS)

    def now_ms(self) -> int:
        """Milliseconds on the age clock; never less than an earlier reading."""
        return self._base_ms + int((self._reactor.seconds() - self._started_s) * 1000)

    def begin_without_store(self) -> None:
        """The store can't be opened now: take ids beyond those of any store."""
        seconds = max(0, self._wall_clock.now_ms() // 1000)
        for message_class, first in FIRST_IDS.items():
            self.next_ids[message_class] = first + (seconds or 1) * _IDS_PER_S
        self._first_ids = dict(self.next_ids)

    def can_join(self, totals: Totals) -> bool:
        """Whether every row of a store that was opened late is older than the rows here."""
        return all(
            totals.last_ids[message_class.value] < first
            for message_class, first in self._first_ids.items()
        )

    def go_on_from(self, totals: Totals) -> None:
        """The store was opened, and there are no rows yet but its own."""
        for message_class in FIRST_IDS:
            self._continue_after(message_class, totals.last_ids[message_class.value])
        wall_ms = self._wall_clock.now_ms()
        if not totals.clock_ms:
            return
        self._started_s = self._reactor.seconds()
        self._base_ms = totals.clock_ms
        if totals.wall_ms >= _BELIEVABLE_MS and wall_ms >= totals.wall_ms:
            self._base_ms += wall_ms - totals.wall_ms

    def _continue_after(self, message_class: MessageClass, last_id: int) -> None:
        self.next_ids[message_class] = max(FIRST_IDS[message_class], last_id + 1)

    def off_ms(self, totals: Totals) -> int:
        """How long the machine has been running since ``totals`` were written; 0 where nobody
        knows."""
        return self._uptime.since_ms(totals.boot_id, totals.uptime_ms)

    def enter_into(self, totals: Totals) -> None:
        """Say in ``totals`` where the next process has to go on."""
        for message_class, next_id in self.next_ids.items():
            totals.last_ids[message_class.value] = next_id - 1
        totals.clock_ms = self.now_ms()
        totals.wall_ms = self._wall_clock.now_ms()
        totals.boot_id = self._uptime.boot_id
        totals.uptime_ms = self._uptime.now_ms()
