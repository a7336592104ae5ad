"""Verified doubles around the committer: a store that does as the test says, and its owner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from oda.model import MessageClass
from oda.outbox.committer import Committer, State
from oda.outbox.queue import Amount, Row, Span
from oda.outbox.store import MemoryStore, Opened, Recovered, StoreError, StoreMoved
from oda.outbox.transaction import TELEMETRY, Totals, Transaction
from tests.outbox.fakes import StepWorker, disk_full

#: A store of which a part is elsewhere.
RECOVERING = Opened(Totals(), "", "old", {TELEMETRY: ([Span(1, 2)], Amount())})
#: A committer that works: its state, whether rows can be read, whether the disk is trusted.
FINE = (State.OPEN, True, True)
#: How it ends.
CLOSING = ["close reader", "closing"]


class ChosenStore(MemoryStore):
    """A store that does as the test says, and writes down what is done to it."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events
        self.opened: list[Opened | Exception] = []
        self.replaced: list[Opened | Exception] = []
        self.wanted: list[Mapping[MessageClass, Sequence[Span]]] = []
        self.faults: list[StoreError] = []
        self.steps: list[Recovered | Exception] = []
        self.moves: list[Path] = []
        self.fails_to_move: Exception | None = None
        self.is_moved_away = False
        self.damaged: set[int] = set()
        self.pages: list[Span] = []
        self.fails_to_read: StoreError | None = None

    def page(
        self, message_class: MessageClass, span: Span, max_rows: int, max_bytes: int
    ) -> tuple[list[Row], set[int]]:
        self._read()
        self.pages.append(span)
        rows, _ = super().page(message_class, span, max_rows, max_bytes)
        return rows, {row.row_id for row in rows} & self.damaged

    def amount(self, message_class: MessageClass, span: Span) -> Amount:
        self._read()
        return super().amount(message_class, span)

    def _read(self) -> None:
        if self.fails_to_read is not None:
            raise self.fails_to_read

    def open(self) -> Opened:
        self.events.append("open")
        return self._next(self.opened) if self.opened else super().open()

    def replace(self, fault: StoreError, wanted: Mapping[MessageClass, Sequence[Span]]) -> Opened:
        self.events.append("replace")
        self.faults.append(fault)
        self.wanted.append({one: list(spans) for one, spans in wanted.items()})
        return self._next(self.replaced) if self.replaced else Opened(Totals())

    def recover(self) -> Recovered:
        self.events.append("recover")
        return self._next(self.steps)

    def move(self, path: Path) -> None:
        self.events.append("move")
        if self.fails_to_move is not None:
            raise self.fails_to_move
        self.moves.append(path)

    def check(self) -> None:
        if self.is_moved_away:
            raise StoreMoved("it is gone")

    def close_reader(self) -> None:
        self.events.append("close reader")

    def close(self) -> None:
        self.events.append("close")

    @staticmethod
    def _next(chosen: list[Any]) -> Any:
        one = chosen.pop(0)
        if isinstance(one, Exception):
            raise one
        return one


class Owner:
    """A verified double of the outbox as the committer knows it."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.joins = True
        self.totals: bytes | None = b"{}"
        self.spans: dict[MessageClass, list[Span]] = {}
        self.transactions: list[tuple[Transaction, object]] = []
        self.fired: list[tuple[Deferred[Any], Any]] = []
        self.on_tell: Callable[[], None] | None = None
        self.on_committed: Callable[[], None] | None = None

    def totals_for(self, transaction: Transaction, is_last: bool) -> bytes | None:
        self.events.append("last totals" if is_last else "totals")
        return self.totals

    def opened(self, opened: Opened, is_late: bool) -> bool:
        self.events.append("opened late" if is_late else "opened")
        return self.joins

    def committed(self, transaction: Transaction, used_bytes: int) -> None:
        self.events.append("committed")
        self.transactions.append((transaction, used_bytes))
        if self.on_committed is not None:
            self.on_committed()

    def failed(self, transaction: Transaction, unwritten: Sequence[Row]) -> None:
        self.events.append("failed")
        self.transactions.append((transaction, list(unwritten)))

    def detach(self) -> Mapping[MessageClass, Sequence[Span]]:
        self.events.append("detach")
        return self.spans

    def replaced(self, opened: Opened) -> None:
        self.events.append("replaced")

    def recovered(self, step: Recovered) -> None:
        self.events.append("recovered")

    def readable(self) -> None:
        self.events.append("readable")

    def fire(self, waiting: Deferred[Any], outcome: Any) -> None:
        self.events.append("fire")
        self.fired.append((waiting, outcome))

    def closing(self, problem: str) -> None:
        self.events.append("closing")

    def changed(self) -> None:
        self.events.append("changed")

    def tell(self) -> None:
        self.events.append("tell")
        if self.on_tell is not None:
            self.on_tell()


class NotingWorker(StepWorker):
    """Writes down which jobs are no commits."""

    def __init__(self) -> None:
        super().__init__()
        self.long: list[bool] = []
        self.waits = 0

    def run(
        self,
        job: Callable[[], Any],
        done: Callable[[Any], None],
        takes_long: bool = False,
        aside: bool = False,
    ) -> None:
        self.long.append(takes_long)
        super().run(job, done, takes_long, aside)

    def wait(self) -> bool:
        self.waits += 1
        return super().wait()


class Bench:
    """A committer with everything around it."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.events: list[str] = []
        self.store = ChosenStore(self.events)
        self.worker = NotingWorker()
        self.clock = Clock()
        self.owner = Owner(self.events)
        self.committer = Committer(self.store, self.worker, self.clock, self.owner)
        self._last = 0
        if is_open:
            self.committer.open()
            self.seen()

    def collect(self, message_class: MessageClass = TELEMETRY, is_held: bool = False) -> Row:
        """A row is put."""
        self._last += 1
        row = Row(self._last, b"x", True, 0, 0, 1, is_held=is_held)
        self.committer.uncommitted.collecting.insert(message_class, row)
        return row

    def seen(self) -> list[str]:
        """What happened since the last time."""
        events = list(self.events)
        self.events.clear()
        return events

    def timers(self) -> list[float]:
        """In how many seconds something will be done."""
        return [one.getTime() - self.clock.seconds() for one in self.clock.getDelayedCalls()]

    def into_trouble(self) -> None:
        """A commit fails."""
        self.collect()
        self.committer.submit()
        self.worker.fail(disk_full())
        self.seen()

    def lose_file(self) -> None:
        """The file is no longer at its place."""
        self.store.is_moved_away = True
        self.committer.check()
        self.store.is_moved_away = False

    @property
    def has_job(self) -> bool:
        return bool(self.worker.jobs)

    @property
    def condition(self) -> tuple[State, bool, bool]:
        """The state, whether rows can be read, and whether the disk is expected to work."""
        return self.committer.state, self.committer.can_read, self.committer.is_working
