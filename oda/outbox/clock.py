"""What continues from one process to the next: row ids, the age clock, and the acknowledgements.

One step of a device's time of day may span years, and must not make every row too old. So ages are
measured on a clock that starts at the time of day, runs with the monotonic clock, and continues
after a restart. The time that the device was off counts if the time of day before and after is
believable; otherwise the clock continues from its last reading.

Each message class has its own ids, so rows of a class that were put in sequence have consecutive
ids. A process that can't open its store takes ids beyond those of any store, so the rows of the
store can be taken up later as the older ones.

Acknowledged rows linger in the store, because a pong does not prove a commit by the platform. A
start must know which of the rows that it finds were acknowledged: see ``Watermark``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from time import monotonic

from twisted.internet.interfaces import IReactorTime

from oda.interfaces import IWallClock
from oda.model import MessageClass
from oda.outbox.transaction import ANSWER, TELEMETRY, Totals

#: Earlier times of day show that the device does not know the time (2020-01-01T00:00:00Z).
_BELIEVABLE_MS = 1_577_836_800_000
#: The first id of each class, far apart: an id in a log shows its class.
FIRST_IDS = {TELEMETRY: 1, ANSWER: 1_000_000_000_000_001}
#: A process without a store starts with this many ids for each second since 1970.
_IDS_PER_S = 1 << 18
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: How many starts may send a row again after its acknowledgement.
MAX_REPEATS = 3


class Uptime:
    """How long the machine has been running. ``boot_id`` names the boot, and is empty where it has
    no name. ``seconds`` counts from the boot and is the same for all processes."""

    def __init__(self, boot_id: str, seconds: Callable[[], float]) -> None:
        self.boot_id = boot_id
        self._seconds = seconds

    def now_ms(self) -> int:
        """How long the machine has been running."""
        return int(self._seconds() * 1000)

    def since_ms(self, boot_id: str, uptime_ms: int) -> int:
        """The time since an earlier reading; 0 if unknown, or if the machine was off in between."""
        if not boot_id or boot_id != self.boot_id:
            return 0
        return max(0, self.now_ms() - uptime_ms)


def this_machine(boot_id: Path = _BOOT_ID) -> Uptime:
    """The machine of this process. Only Linux names its boots."""
    try:
        name = boot_id.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        name = ""
    return Uptime(name, monotonic)


class OutboxClock:
    """The age clock and the ids. ``reactor`` has monotonic ``seconds``.

    ``next_ids`` holds the id of the next row of each class; its user increments it.
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
        """Whether every row of a store that was opened late is older than the rows in memory."""
        return all(
            totals.last_ids[message_class.value] < first
            for message_class, first in self._first_ids.items()
        )

    def go_on_from(self, totals: Totals) -> None:
        """The store was opened before any new row: continue its clock and ids."""
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
        """How long the machine has been running since ``totals`` were written; 0 if unknown."""
        return self._uptime.since_ms(totals.boot_id, totals.uptime_ms)

    def enter_into(self, totals: Totals) -> None:
        """Record in ``totals`` where the next process must continue."""
        for message_class, next_id in self.next_ids.items():
            totals.last_ids[message_class.value] = next_id - 1
        totals.clock_ms = self.now_ms()
        totals.wall_ms = self._wall_clock.now_ms()
        totals.boot_id = self._uptime.boot_id
        totals.uptime_ms = self._uptime.now_ms()


class Watermark:
    """The acknowledgements of an earlier process in one class, and how often rows were repeated::

        resting <= counts[0] >= counts[1] >= counts[2] >= counts[3]

    Every row up to ``resting`` was acknowledged and only lingers. Every row up to ``counts[n]`` was
    acknowledged once, and since then ``n`` starts have sent it again and got another
    acknowledgement. Rows between ``resting`` and ``counts[0]`` must be sent again (their connection
    did not close cleanly).

    A start forgets rows up to ``resting`` if the linger time has passed since the watermark was
    written and the machine has been running all the time. Otherwise rows up to ``counts[3]``
    continue to linger, and all others are sent again. Time with the machine off does not count: a
    platform that lost power together with the device had no time to store what it had read.

    A watermark that is lost or late leads to repeats, never to a loss. It stays below any older row
    of the class that is still wanted.

    ``stored`` is what the store had at the start: ``resting``, then the counts; it may be empty.
    """

    def __init__(self, stored: Sequence[int] = ()) -> None:
        values = [max(0, one) for one in stored[: MAX_REPEATS + 2]]
        values += [0] * (MAX_REPEATS + 2 - len(values))
        self.resting = values[0]
        self._before = values[1:]
        self._proven = 0

    @property
    def owed(self) -> int:
        """The id up to which the store had rows that were acknowledged once."""
        return max(self._before[0], self._proven)

    @property
    def exhausted(self) -> int:
        """The id up to which no start sends rows again."""
        return self._before[-1]

    def is_owing(self, resting: int) -> bool:
        """Whether rows still must be sent again if every row up to ``resting`` is acknowledged."""
        return resting < self.owed

    def lower(self, row_id: int) -> None:
        """An unexpected older row was found: no row from this id on counts as acknowledged."""
        self._before = [min(one, row_id - 1) for one in self._before]
        self._proven = min(self._proven, row_id - 1)

    def to_store(self, resting: int) -> list[int]:
        """The watermark to store if every row up to ``resting`` is acknowledged."""
        proven = self._proven = max(self._proven, resting)
        before = self._before
        counts = [max(before[0], proven)]
        counts += [max(older, min(proven, newer)) for newer, older in pairwise(before)]
        return [resting, *counts]
