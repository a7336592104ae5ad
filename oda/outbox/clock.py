"""What goes on from one process to the next: the ids of rows, the clock of their ages, and which of
them were acknowledged.

The time of day of a device may be set by years in one step, and a step must not make every row too
old. So ages are measured on a clock that starts at the time of day, runs with the monotonic clock
and is carried over a restart. The time the device was off counts where the time of day before and
after can be believed; where it can't, the clock goes on from where it stood.

Each message class has ids of its own, so that the rows of a class that were put one after the other
have consecutive ids. A process that can't open its store takes ids beyond those of any store, so
that the store's rows can be taken up later as the older ones.

Acknowledged rows linger in the store, because a pong is not a commit by the platform. A start has
to know which of the rows it finds were acknowledged: see ``Watermark``.
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

#: Earlier times of day come from a device that does not know the time (2020-01-01T00:00:00Z).
_BELIEVABLE_MS = 1_577_836_800_000
#: The first id of each class. The distance is for the reader of a log: an id tells its class.
FIRST_IDS = {TELEMETRY: 1, ANSWER: 1_000_000_000_000_001}
#: A process without a store begins at so many ids for each second since 1970.
_IDS_PER_S = 1 << 18
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: The number of times that starts send a row again after its acknowledgement.
MAX_REPEATS = 3


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


class Watermark:
    """What an earlier process had acknowledged of one class, and how often it was repeated::

        resting <= counts[0] >= counts[1] >= counts[2] >= counts[3]

    Every row up to ``resting`` was acknowledged and only lingers. Every row up to ``counts[n]`` was
    acknowledged at some time, and after that ``n`` starts have sent it again and had it
    acknowledged again. Rows between ``resting`` and ``counts[0]`` have to be sent again (their
    connection ended badly).

    The rules of a start: rows up to ``resting`` are forgotten when the linger time has passed since
    the watermark was written and the machine ran all the while. Otherwise rows up to ``counts[3]``
    go on to linger, and all others are sent again. The time in which the machine was off does not
    count: a platform that lost power together with the device had no time to store what it had
    read.

    A watermark that is lost or late leads to repeats, never to a loss. Where an older row of the
    class is still wanted the watermark stays below that row.

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
