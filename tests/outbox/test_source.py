"""The source of a take-over by itself: what it gives, and what is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from oda.errors import OutboxError
from oda.outbox import maintenance
from oda.outbox.clock import Uptime
from oda.outbox.limits import row_cost
from oda.outbox.maintenance import BATCH_BYTES, BATCH_ROWS, Source, TakenOver
from oda.outbox.queue import END, Row, Span
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.transaction import (
    ANSWER,
    TELEMETRY,
    Burial,
    Record,
    Stored,
    Tally,
    Totals,
    Transaction,
)
from oda.settings import OutboxSettings
from tests.outbox.fakes import copy_store, quick_directory

PATH = Path("/data/old.sqlite")


@pytest.mark.parametrize(
    ("taken", "is_complete", "text"),
    [
        (TakenOver(3, 2, 1), True, "; the file is empty now and can be deleted"),
        (
            TakenOver(3, 2, 1, 4),
            False,
            "; left there for lack of room: 4 dead letters",
        ),
        (TakenOver(3, 2, 1, 4, "full"), False, "; the rest stays there: full"),
        (TakenOver(3, 2, 1, 0, "full"), False, "; the rest stays there: full"),
    ],
)
def test_what_was_taken_over_is_said(taken: TakenOver, is_complete: bool, text: str) -> None:
    """In numbers, and what stays behind, and why."""
    assert taken.is_complete is is_complete
    assert taken.describe(PATH) == (
        f"took over 3 messages, 2 dead letters and 1 operation from {PATH}{text}"
    )


def test_nothing_was_taken_over_at_first() -> None:
    """Every number is 0."""
    assert TakenOver() == TakenOver(0, 0, 0, 0, "")


def row_of(row_id: int, size: int = 3) -> Row:
    return Row(row_id, b"x" * size, True, 2, 1000, row_cost(size))


class Bench:
    """A store that an agent left, and the source made of it."""

    def __init__(self, linger_s: float = 30.0) -> None:
        self.path = quick_directory() / "old.sqlite"
        self.settings = OutboxSettings(path=self.path, linger_s=linger_s)
        self.store = SqliteStore(self.path, self.settings)
        self.store.open()
        self.uptime_s = 1000.0
        self.source = Source(self.path, self.settings, Uptime("boot", lambda: self.uptime_s))

    def commit(self, transaction: Transaction, **totals: Any) -> None:
        if totals:
            transaction.totals = msgspec.json.encode(Totals(**totals))
        self.store.apply(transaction)

    def rows(self, *sizes: int) -> Transaction:
        transaction = Transaction()
        for row_id, size in enumerate(sizes, 1):
            transaction.insert(TELEMETRY, row_of(row_id, size))
        return transaction

    def open(self) -> None:
        self.store.close()
        assert not self.source.open()

    def totals(self) -> Totals:
        """What the source says of itself when it is opened again."""
        self.source.close()
        totals = self.store.open().totals
        self.store.close()
        return totals


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.source.close()
    bench.store.close()


def test_messages_come_in_batches(bench: Bench) -> None:
    """So many, or so many bytes; in order, each once, and none of another class."""
    bench.commit(bench.rows(*[3] * (BATCH_ROWS + 2)))
    bench.open()
    batches = []
    while rows := bench.source.next_rows(TELEMETRY)[0]:
        batches.append([row.row_id for row in rows])
    assert [len(one) for one in batches] == [BATCH_ROWS, 2]
    assert [one for batch in batches for one in batch] == list(range(1, BATCH_ROWS + 3))
    assert bench.source.next_rows(ANSWER) == ([], [])


def test_a_batch_has_a_bound_in_bytes(bench: Bench) -> None:
    """The message that reaches it is the last one."""
    bench.commit(bench.rows(BATCH_BYTES // 2, BATCH_BYTES // 2, 3, BATCH_BYTES * 2, 3))
    bench.open()
    sizes = []
    while rows := bench.source.next_rows(TELEMETRY)[0]:
        sizes.append(len(rows))
    assert sizes == [2, 2, 1]


def test_changed_messages_are_given_apart(bench: Bench) -> None:
    """They can't be sent: they become dead letters, with the reason."""
    bench.commit(bench.rows(3, 3, 3))
    bench.store.writer.execute("UPDATE telemetry SET payload = x'61' WHERE id = 2")
    bench.open()
    rows, changed = bench.source.next_rows(TELEMETRY)
    assert [row.row_id for row in rows] == [1, 3]
    assert [(one.row.row_id, one.table, one.reason, one.is_sound) for one in changed] == [
        (2, "telemetry", "damaged", False)
    ]


def test_records_come_with_their_answers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they have one that was not changed; in batches, by number and by bytes."""
    transaction = Transaction()
    for number, payload in ((1, b"answer"), (2, None), (3, b"changed"), (4, b"x" * 90), (5, b"y")):
        transaction.records[number] = Record(
            number, str(number), "GET", "JSON", None, 5, payload is not None, payload
        )
    bench.commit(transaction)
    bench.store.writer.execute("UPDATE answer SET payload = x'61' WHERE number = 3")
    bench.open()
    monkeypatch.setattr(maintenance, "BATCH_ROWS", 4)
    batches = []
    while entries := bench.source.next_records():
        batches.append(
            [(record.number, record.answer_bytes, payload) for record, payload in entries]
        )
    assert batches == [
        [(1, 6, b"answer"), (2, None, None), (3, None, None), (4, 90, b"x" * 90)],
        [(5, 1, b"y")],
    ]


def test_a_batch_of_records_has_a_bound_in_bytes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer that reaches it is the last one."""
    transaction = Transaction()
    for number in range(1, 6):
        transaction.records[number] = Record(
            number, str(number), "GET", "JSON", None, 5, True, b"x" * 10
        )
    bench.commit(transaction)
    bench.open()
    monkeypatch.setattr(maintenance, "BATCH_BYTES", 20)
    assert len(bench.source.next_records()) == 2
    monkeypatch.setattr(maintenance, "BATCH_BYTES", 21)
    assert [len(bench.source.next_records()) for _ in range(2)] == [3, 0]


def test_letters_come_in_batches(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As records do."""
    transaction = Transaction()
    for row_id in range(1, 9):
        transaction.bury(Burial(TELEMETRY, row_of(row_id, 10), "refused"))
    bench.commit(transaction)
    bench.open()
    monkeypatch.setattr(maintenance, "BATCH_BYTES", 20)
    first = bench.source.next_letters()
    assert [one.row.row_id for one in first] == [1, 2]
    monkeypatch.setattr(maintenance, "BATCH_BYTES", 21)
    second = bench.source.next_letters()
    assert [one.row.row_id for one in second] == [3, 4, 5]
    monkeypatch.setattr(maintenance, "BATCH_BYTES", 1000)
    monkeypatch.setattr(maintenance, "BATCH_ROWS", 2)
    assert [len(bench.source.next_letters()) for _ in range(3)] == [2, 1, 0]


def test_what_was_taken_is_removed_and_the_sums_are_right(bench: Bench) -> None:
    """Messages, dead letters and records; what is left is what the totals say."""
    transaction = bench.rows(3, 3, 3, 3)
    for row_id in (7, 8):
        transaction.bury(Burial(TELEMETRY, row_of(row_id), "refused"))
    for number in (1, 2):
        transaction.records[number] = Record(number, "1", "GET", "JSON", None, 5, True, b"a")
    bench.commit(
        transaction,
        accepted=Tally(6, 12),
        dead=Tally(2, 4),
        stored={"telemetry": Stored(4, 4 * row_cost(3), 8), "response": Stored()},
        last_ids={"telemetry": 8, "response": 0},
    )
    bench.open()
    bench.source.remove_rows(TELEMETRY, [row_of(1), row_of(2), row_of(4)])
    bench.source.remove_letters(bench.source.next_letters()[:1])
    bench.source.remove_records(bench.source.next_records()[1:])
    totals = bench.totals()
    assert totals.stored["telemetry"] == Stored(1, row_cost(3), 2)
    assert totals.accepted == Tally(2, 4)
    assert totals.dead == Tally(1, 2)
    bench.store.open()
    assert [row.row_id for row in bench.store.page(TELEMETRY, Span(0, END), 9, 999)[0]] == [3]
    assert [row_id for row_id, _ in bench.store.letters()] == [8]
    assert [one.number for one in bench.store.records()] == [1]


@pytest.mark.parametrize(
    ("watermark", "off_s", "left"),
    [
        ([3, 3, 0, 0, 0], 30.0, [4, 5]),
        ([3, 3, 0, 0, 0], 29.999, [1, 2, 3, 4, 5]),
        ([1, 3, 3, 3, 3], 0.0, [4, 5]),
        ([3, 3, 2, 2, 2], 30.0, [4, 5]),
        ([0, 0, 0, 0, 0], 99.0, [1, 2, 3, 4, 5]),
    ],
)
def test_acknowledged_messages_are_forgotten_as_at_a_start(
    bench: Bench, watermark: list[int], off_s: float, left: list[int]
) -> None:
    """Those that have lingered, and those that were repeated often enough: they count as
    delivered."""
    bench.commit(
        bench.rows(3, 3, 3, 3, 3),
        accepted=Tally(5, 10),
        stored={"telemetry": Stored(5, 5 * row_cost(3), 10), "response": Stored()},
        last_ids={"telemetry": 5, "response": 0},
        watermarks={"telemetry": watermark, "response": []},
        boot_id="boot",
        uptime_ms=int((1000.0 - off_s) * 1000),
    )
    bench.open()
    rows, _ = bench.source.next_rows(TELEMETRY)
    assert [row.row_id for row in rows] == left
    totals = bench.totals()
    gone = 5 - len(left)
    assert totals.delivered == Tally(gone, 2 * gone)
    assert totals.accepted == Tally(5, 10)
    assert totals.stored["telemetry"] == Stored(len(left), len(left) * row_cost(3), 2 * len(left))


def test_a_damaged_store_is_recovered_first(bench: Bench) -> None:
    """In steps; then it gives what could be read."""
    bench.commit(bench.rows(*[900] * 40))
    bench.store.close()
    with open(bench.path, "r+b") as file:
        file.seek(60)
        file.write(b"\x7f" * 4)  # a version that nobody knows
    assert bench.source.open()
    steps = 1
    while bench.source.recover():
        steps += 1
    rows, _ = bench.source.next_rows(TELEMETRY)
    assert [row.row_id for row in rows] == list(range(1, 41))
    assert steps >= 1


def test_what_can_not_be_a_source(bench: Bench) -> None:
    """A path without a file, a file of another program, and the store of this agent: each is named,
    and nothing stays open."""
    settings = bench.settings
    missing = Source(bench.path.with_name("missing"), settings, Uptime("", lambda: 0.0))
    with pytest.raises(OutboxError, match="no such file"):
        missing.open()
    with pytest.raises(OutboxError, match="or it is this agent's own"):
        bench.source.open()
    other = bench.path.with_name("other")
    other.write_text("text")
    with pytest.raises(OutboxError, match="it is not an outbox"):
        Source(other, settings, Uptime("", lambda: 0.0)).open()
    copy_store(bench.path, bench.path.with_name("copy"))
    copied = Source(bench.path.with_name("copy"), settings, Uptime("", lambda: 0.0))
    assert not copied.open()
    copied.close()
