"""What one transaction changes, and the totals it leaves behind.

Pure data. A change collects everything that happens while the one before it is being committed;
one that failed absorbs the next and is tried again as a whole, so nothing overtakes anything.
"""

from __future__ import annotations

import zlib

import msgspec

from oda.model import MessageClass
from oda.outbox.marks import Mark
from oda.outbox.queue import Kept

#: The message classes in the order in which they leave.
CLASSES = (MessageClass.RESPONSE, MessageClass.TELEMETRY)


class Tally(msgspec.Struct):
    """So many messages with so many datapoints."""

    messages: int = 0
    datapoints: int = 0

    def add(self, messages: int, datapoints: int) -> None:
        self.messages += messages
        self.datapoints += datapoints


class Stored(msgspec.Struct):
    """What a table holds; ``cost`` is bytes on disk."""

    rows: int = 0
    cost: int = 0
    datapoints: int = 0


class Totals(msgspec.Struct):
    """The sums over the tables, so that nobody has to count rows, and over all time.

    accepted = delivered + dropped + dead + what is stored, in messages and in datapoints.
    ``clock_ms`` and ``wall_ms`` are the readings of the age clock and of the time of day;
    ``uptime_ms`` is how long the machine had run since the start that ``boot_id`` names.
    The marks tell which rows linger, see ``marks``.
    """

    last_id: int = 0
    clock_ms: int = 0
    wall_ms: int = 0
    response: Stored = msgspec.field(default_factory=Stored)
    telemetry: Stored = msgspec.field(default_factory=Stored)
    accepted: Tally = msgspec.field(default_factory=Tally)
    delivered: Tally = msgspec.field(default_factory=Tally)
    dropped: Tally = msgspec.field(default_factory=Tally)
    dead: Tally = msgspec.field(default_factory=Tally)
    boot_id: str = ""
    uptime_ms: int = 0
    response_marks: list[Mark] = msgspec.field(default_factory=list)
    telemetry_marks: list[Mark] = msgspec.field(default_factory=list)

    def stored(self, message_class: MessageClass) -> Stored:
        return self.response if message_class is MessageClass.RESPONSE else self.telemetry

    def marks(self, message_class: MessageClass) -> list[Mark]:
        is_response = message_class is MessageClass.RESPONSE
        return self.response_marks if is_response else self.telemetry_marks


class Burial(msgspec.Struct, gc=False):
    """A row on its way to the dead letters."""

    message_class: MessageClass
    kept: Kept
    reason: str
    is_damaged: bool = False


class JournalRow(msgspec.Struct, gc=False):
    """An operation as it is stored; ``payload`` None while it runs."""

    seq: int
    request_id: str
    name: str
    content_type: str | None
    request: bytes | None
    at_ms: int
    payload: bytes | None


class Change:
    """``rows`` are new, ``gone`` are ranges of ids to delete, in each class.

    ``journal`` holds the newest state of operations by ``seq``, None to delete it.
    ``size_bytes`` is what the new rows keep in memory. ``has_marks``: rows were acknowledged, which
    the totals tell; that alone can wait for a while.
    """

    __slots__ = (
        "burials",
        "dead_gone",
        "gone",
        "has_marks",
        "journal",
        "rows",
        "size_bytes",
        "totals",
    )

    def __init__(self) -> None:
        self.rows: dict[MessageClass, dict[int, Kept]] = {one: {} for one in CLASSES}
        self.gone: dict[MessageClass, list[tuple[int, int]]] = {one: [] for one in CLASSES}
        self.burials: list[Burial] = []
        self.dead_gone: list[int] = []
        self.journal: dict[int, JournalRow | None] = {}
        self.size_bytes = 0
        self.has_marks = False
        self.totals = b""

    @property
    def is_empty(self) -> bool:
        return not (
            any(self.rows.values())
            or any(self.gone.values())
            or self.burials
            or self.journal
            or self.dead_gone
        )

    @property
    def is_overtaken(self) -> bool:
        """Whether answers in it are sent without waiting for the commit: the next requests come
        while it goes on."""
        return any(not kept.is_held for kept in self.rows[MessageClass.RESPONSE].values())

    def absorb(self, later: Change) -> list[Kept]:
        """Take over everything of a change that came after this one.

        Returns the rows of this one that the later one lets go: they need not be written.
        """
        unwritten: list[Kept] = []
        for message_class in CLASSES:
            for low, high in later.gone[message_class]:
                unwritten += self.forget(message_class, low, high)
            self.rows[message_class].update(later.rows[message_class])
        self.size_bytes += later.size_bytes
        for burial in later.burials:
            self.bury(burial)
        self.dead_gone += later.dead_gone
        self.journal.update(later.journal)
        self.has_marks = self.has_marks or later.has_marks
        return unwritten

    def bury(self, burial: Burial) -> None:
        """A row becomes a dead letter; if it is new in this change it is written only as such."""
        self.rows[burial.message_class].pop(burial.kept.row_id, None)
        self.burials.append(burial)

    def forget(self, message_class: MessageClass, low: int, high: int) -> list[Kept]:
        """The rows from ``low`` to ``high`` are not wanted any more.

        Those of this change need not be written at all: they are returned.
        """
        rows = self.rows[message_class]
        unwritten: list[Kept] = []
        if rows and high >= next(iter(rows)):
            unwritten = [kept for row_id, kept in rows.items() if low <= row_id <= high]
            for kept in unwritten:
                del rows[kept.row_id]
                self.size_bytes -= len(kept.payload)
            if unwritten and unwritten[0].row_id == low:
                return unwritten
        gone = self.gone[message_class]
        if gone and gone[-1][1] + 1 == low:
            gone[-1] = (gone[-1][0], high)
        else:
            gone.append((low, high))
        return unwritten


def checksum(row_id: int, is_text: int, datapoints: int, payload: bytes) -> int:
    """Of everything in a row that must not change unnoticed.

    The short columns are the start value of the payload's CRC, so a change in either shows.
    """
    seed = (row_id * 0x9E3779B1 ^ datapoints * 0x85EBCA6B ^ is_text) & 0xFFFFFFFF
    return zlib.crc32(payload, seed)
