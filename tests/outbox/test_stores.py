"""The two stores keep one contract: what was committed is there, whatever else is."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from oda.model import MessageClass
from oda.outbox import sqlite_store as sqlite_store_module
from oda.outbox.database import (
    SCHEMA_VERSION,
    FileLock,
    connect,
    connect_read_only,
    find_fault,
    is_damage,
    read_row,
    read_totals,
    store_error,
    translated,
    write_totals,
)
from oda.outbox.limits import row_cost, wal_allowance
from oda.outbox.queue import END, Amount, Row, Span
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.store import (
    Letter,
    MemoryStore,
    StoreDamaged,
    StoredRecord,
    StoreError,
    StoreMoved,
    Table,
)
from oda.outbox.transaction import (
    ANSWER,
    CLASSES,
    TELEMETRY,
    Burial,
    Record,
    Stored,
    Tally,
    Totals,
    Transaction,
    checksum,
)
from oda.settings import OutboxSettings, OutboxSync
from tests.outbox.fakes import quick_directory

ALL = Span(0, END)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory without a slow disk."""
    directory = quick_directory()
    yield directory
    shutil.rmtree(directory)


def sqlite_store(place: Path) -> SqliteStore:
    path = place / "store.sqlite"
    return SqliteStore(path, OutboxSettings(path=path))


def memory_store(place: Path) -> MemoryStore:
    return MemoryStore()


each_store = pytest.mark.parametrize("make_store", [sqlite_store, memory_store])
MakeStore = Callable[[Path], Any]


def row_of(row_id: int, payload: bytes = b"abc", is_text: bool = True, datapoints: int = 2) -> Row:
    return Row(row_id, payload, is_text, datapoints, 1000 + row_id, row_cost(len(payload)))


def with_rows(*rows: Row, message_class: MessageClass = TELEMETRY) -> Transaction:
    transaction = Transaction()
    for row in rows:
        transaction.insert(message_class, row)
    return transaction


def page_of(store: Any, span: Span = ALL, message_class: MessageClass = TELEMETRY) -> list[Row]:
    rows, damaged = store.page(message_class, span, 1000, 1 << 30)
    assert damaged == set()
    return list(rows)


class Model:
    """What should be in a store."""

    def __init__(self) -> None:
        self.rows: dict[MessageClass, dict[int, Row]] = {one: {} for one in CLASSES}
        self.dead: dict[int, Burial] = {}
        self.records: dict[int, Record] = {}
        self.answers: dict[int, bytes] = {}

    def apply(self, transaction: Transaction) -> None:
        for one in CLASSES:
            for low, high in transaction.deleted[one]:
                for row_id in [at for at in self.rows[one] if low <= at <= high]:
                    del self.rows[one][row_id]
        for burial in transaction.burials:
            self.rows[burial.message_class].pop(burial.row.row_id, None)
            self.dead[burial.row.row_id] = burial
        for row_id in transaction.letters_gone:
            self.dead.pop(row_id, None)
        for number in transaction.answers_gone:
            self.answers.pop(number, None)
        for one in CLASSES:
            self.rows[one].update(transaction.rows[one])
        for number, record in transaction.records.items():
            if record is None:
                self.records.pop(number, None)
                self.answers.pop(number, None)
            else:
                self.records[number] = record
                if record.payload is not None:
                    self.answers[number] = record.payload

    def compare(self, store: Any, chance: random.Random) -> None:
        for one in CLASSES:
            low = chance.randint(0, 30)
            for span in (ALL, Span(low, low + chance.randint(0, 30))):
                rows = [self.rows[one][at] for at in sorted(self.rows[one])]
                rows = [row for row in rows if span.low <= row.row_id <= span.high]
                assert page_of(store, span, one) == rows
                assert store.amount(one, span) == Amount(
                    len(rows), sum(row.cost for row in rows), sum(row.datapoints for row in rows)
                )
        assert sorted(store.letters()) == [
            (row_id, len(self.dead[row_id].row.payload)) for row_id in sorted(self.dead)
        ]
        for row_id in range(40):
            burial = self.dead.get(row_id)
            expected = burial and Letter(
                burial.row, burial.message_class.value, burial.reason, not burial.is_damaged
            )
            assert store.letter(row_id) == expected
        assert sorted(store.records()) == [
            StoredRecord(
                number,
                one.request_id.encode(),
                one.name.encode(),
                one.content_type.encode(),
                one.echo,
                one.at_ms,
                one.has_ended,
                len(self.answers[number]) if number in self.answers else None,
            )
            for number, one in sorted(self.records.items())
        ]
        for number in range(12):
            assert store.answer(number) == self.answers.get(number)


@each_store
@pytest.mark.parametrize("seed", range(12))
def test_a_store_has_what_was_committed(make_store: MakeStore, seed: int, place: Path) -> None:
    """After any order of transactions, the rows, dead letters, records and answers are those that a
    simple model has; also after the store was opened once more."""
    chance = random.Random(seed)
    store, model = make_store(place), Model()
    store.open()
    for _ in range(25):
        transaction = Transaction()
        for one in CLASSES:
            for _ in range(chance.randint(0, 4)):
                row_id = chance.randint(1, 40)
                known = model.rows[one].get(row_id)
                payload = bytes(chance.randint(0, 1200))
                transaction.rows[one][row_id] = known or row_of(
                    row_id, payload, chance.random() < 0.5, chance.randint(0, 3)
                )
            if chance.random() < 0.4:
                low = chance.randint(1, 40)
                span = Span(low, low + chance.randint(0, 5))
                transaction.deleted[one].append(span)
            wanted = sorted(set(model.rows[one]) - set(transaction.rows[one]))
            if wanted and chance.random() < 0.3:
                row = model.rows[one][chance.choice(wanted)]
                if row.row_id not in model.dead:
                    transaction.bury(Burial(one, row, "refused", chance.random() < 0.3))
        if model.dead and chance.random() < 0.3:
            transaction.letters_gone.append(chance.choice(sorted(model.dead)))
        for _ in range(chance.randint(0, 3)):
            number = chance.randint(1, 10)
            transaction.records[number] = chance.choice(
                [
                    None,
                    Record(number, "id", "NAME", "JSON", b'{"a":1}', 5),
                    Record(number, "id", "NAME", "CBOR", None, 6, True, b"answer"),
                    Record(number, "id", "NAME", "CBOR", None, 7, True),
                ]
            )
        if model.answers and chance.random() < 0.3:
            transaction.answers_gone.append(chance.choice(sorted(model.answers)))
        for number, record in transaction.records.items():
            if record is not None and record.payload is None and number in model.answers:
                transaction.answers_gone.append(number)
        store.apply(transaction)
        model.apply(transaction)
        model.compare(store, chance)
    store.close()
    store.open()
    model.compare(store, chance)
    store.close()


@each_store
def test_a_page_ends_with_the_row_that_fills_it(make_store: MakeStore, place: Path) -> None:
    """So many rows, or so many bytes; one row at least, however large it is."""
    store = make_store(place)
    store.open()
    store.apply(with_rows(*(row_of(row_id, bytes(10)) for row_id in range(1, 6))))

    def ids(max_rows: int, max_bytes: int) -> list[int]:
        rows, _ = store.page(TELEMETRY, ALL, max_rows, max_bytes)
        return [row.row_id for row in rows]

    assert ids(3, 1000) == [1, 2, 3]
    assert ids(9, 20) == [1, 2]
    assert ids(9, 21) == [1, 2, 3]
    assert ids(9, 1) == [1]
    store.close()


@each_store
def test_a_row_may_be_written_again_but_not_changed(make_store: MakeStore, place: Path) -> None:
    """A commit may have worked although it reported an error: the same rows are no error, among new
    ones too. An id that belongs to another message is one, and nothing of it is committed."""
    store = make_store(place)
    store.open()
    rows = [row_of(row_id) for row_id in range(1, 9)]
    store.apply(with_rows(*rows[2:5]))
    store.apply(with_rows(*rows))
    assert page_of(store) == rows
    with pytest.raises(StoreError, match="5 is taken"):
        store.apply(with_rows(row_of(5, b"another"), row_of(100)))
    assert page_of(store, Span(1, 50)) == rows
    store.close()


@each_store
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 6, 11, 12, 23, 24, 47, 48, 95, 96, 97, 200])
def test_any_number_of_rows_is_one_commit(make_store: MakeStore, rows: int, place: Path) -> None:
    """However they are cut into statements."""
    store = make_store(place)
    store.open()
    new = [row_of(row_id) for row_id in range(1, rows + 1)]
    store.apply(with_rows(*new))
    assert page_of(store) == new
    store.close()


@each_store
@pytest.mark.parametrize("numbers", [[], [4], [1, 2, 3], [1, 3, 3], [6, 1, 2, 5], [3, 3, 2]])
def test_exactly_the_numbers_that_are_gone_are_deleted(
    make_store: MakeStore, numbers: list[int], place: Path
) -> None:
    """In whatever order and however often they are named: no neighbour goes with them."""
    store = make_store(place)
    store.open()
    transaction = Transaction()
    for number in range(1, 7):
        transaction.records[number] = Record(number, "id", "NAME", "JSON", None, 6, True, b"answer")
    store.apply(transaction)
    transaction = Transaction()
    transaction.answers_gone += numbers
    store.apply(transaction)
    left = [number for number in range(1, 7) if number not in numbers]
    assert [number for number in range(1, 7) if store.answer(number)] == left
    transaction = Transaction()
    transaction.records = dict.fromkeys(numbers)
    store.apply(transaction)
    assert [one.number for one in store.records()] == left
    store.close()


@each_store
def test_the_totals_are_those_of_the_last_commit_that_had_some(
    make_store: MakeStore, place: Path
) -> None:
    """None leaves them as they are."""
    store = make_store(place)
    assert store.open().totals == Totals()
    transaction = Transaction()
    transaction.totals = msgspec.json.encode(Totals(accepted=Tally(3, 4), clock_ms=7))
    store.apply(transaction)
    store.apply(Transaction())
    store.close()
    totals = store.open().totals
    assert (totals.accepted, totals.clock_ms) == (Tally(3, 4), 7)
    store.close()


@each_store
def test_a_store_that_works_moves_and_checks_nothing(make_store: MakeStore, place: Path) -> None:
    """Closing twice does no harm; what is not known is not there."""
    store = make_store(place)
    store.open()
    store.check()
    assert store.letter(1) is None
    assert store.answer(1) is None
    assert store.is_durable is (make_store is sqlite_store)
    store.close()
    store.close()


def test_a_store_in_memory_has_no_place() -> None:
    """It can't be moved, replaced or recovered."""
    store = MemoryStore()
    assert (store.name, store.path) == ("memory", None)
    with pytest.raises(StoreError):
        store.move(Path("/new"))
    with pytest.raises(StoreDamaged):
        store.replace(StoreDamaged("torn"), {})
    step = store.recover()
    assert (step.is_done, step.rows, step.set_aside) == (True, 0, "")
    assert store.apply(Transaction()) == 0


def test_ids_that_are_gone_take_no_memory_for_ever() -> None:
    """The list of ids is cleared once it is longer than twice what is left, and some more."""
    table = Table()
    for row_id in range(1, 1001):
        table.add(row_of(row_id))
    table.delete(Span(1, 628))  # 1000 ids for 372 rows: just within the bound
    assert len(table._ids) == 1000
    table.delete(Span(629, 629))
    assert len(table._ids) == 371
    table.add(row_of(700, b"abc"))
    table.add(row_of(5))
    table.add(row_of(5))
    assert len(table._ids) == 372
    assert [row.row_id for row in table.read(Span(1, 631))] == [5, 630, 631]


# -- the file --------------------------------------------------------------------------------


def test_rows_behind_the_totals_are_counted(place: Path) -> None:
    """A commit need not write the totals: the next start counts the rows after the last known id,
    and knows the highest id, be it that of a row or of a dead letter."""
    store = sqlite_store(place)
    store.open()
    transaction = with_rows(*(row_of(row_id) for row_id in range(1, 4)))
    totals = Totals(accepted=Tally(3, 6))
    totals.last_ids["telemetry"] = 3
    totals.stored["telemetry"] = Stored(3, 3 * row_cost(3), 6)
    transaction.totals = msgspec.json.encode(totals)
    store.apply(transaction)
    store.apply(with_rows(row_of(4), row_of(5, bytes(500))))
    store.apply(with_rows(row_of(7), message_class=ANSWER))
    transaction = Transaction()
    transaction.bury(Burial(TELEMETRY, row_of(9), "refused"))
    store.apply(transaction)
    store.close()
    totals = store.open().totals
    assert totals.accepted == Tally(6, 12)
    assert totals.last_ids == {"telemetry": 9, "response": 7}
    assert totals.stored["telemetry"] == Stored(5, 4 * row_cost(3) + row_cost(500), 10)
    assert totals.stored["response"] == Stored(1, row_cost(3), 2)
    store.close()


def test_the_used_bytes_are_those_of_the_pages_in_use(place: Path) -> None:
    """They grow with the rows, and shrink when rows are deleted, although the file does not."""
    store = sqlite_store(place)
    store.open()
    empty = store.apply(Transaction())
    full = store.apply(with_rows(*(row_of(row_id, bytes(900)) for row_id in range(1, 201))))
    assert full - empty >= 200 * 1024
    transaction = Transaction()
    transaction.deleted[TELEMETRY].append(Span(1, 200))
    assert store.apply(transaction) < empty + 20 * 1024
    store.close()


def test_a_changed_row_is_found_where_it_is_read(place: Path) -> None:
    """Any column: it is given with the others, and named as changed. So are letters and answers."""
    store = sqlite_store(place)
    store.open()
    transaction = with_rows(*(row_of(row_id) for row_id in range(1, 8)))
    for row_id in (20, 21):
        transaction.bury(Burial(TELEMETRY, row_of(row_id), "refused"))
    for number in (1, 2, 3):
        transaction.records[number] = Record(number, "id", "NAME", "JSON", None, 6, True, b"answer")
    store.apply(transaction)
    for statement in (
        "UPDATE telemetry SET payload = x'61' WHERE id = 2",
        "UPDATE telemetry SET datapoints = 3 WHERE id = 3",
        "UPDATE telemetry SET is_text = 0 WHERE id = 4",
        "UPDATE telemetry SET crc = crc + 1 WHERE id = 5",
        "UPDATE dead SET payload = x'61' WHERE id = 20",
        "UPDATE dead SET class = 'nothing' WHERE id = 21",
        "UPDATE answer SET payload = x'61' WHERE number = 1",
        "UPDATE answer SET crc = crc + 1 WHERE number = 2",
    ):
        store.writer.execute(statement)
    rows, damaged = store.page(TELEMETRY, ALL, 100, 1 << 20)
    assert [row.row_id for row in rows] == list(range(1, 8))
    assert damaged == {2, 3, 4, 5}
    letters = [store.letter(20), store.letter(21)]
    assert [one is not None and one.is_sound for one in letters] == [False, False]
    assert [store.answer(number) for number in (1, 2, 3)] == [None, None, b"answer"]
    store.close()


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [
        (1, 2, ("payload", b"abc")),
        (2, "two", ("datapoints", 0)),
        (2, None, ("datapoints", 0)),
        (3, b"now", ("accepted_ms", 0)),
        (5, "text", ("payload", b"'text'")),
        (5, None, ("payload", b"None")),
        (5, 7, ("payload", b"7")),
    ],
)
def test_a_row_of_anything_can_be_read(column: int, value: object, found: tuple[str, Any]) -> None:
    """SQLite keeps any type in any column: a row that is not what was written becomes one that can
    be handled, and says that it was changed."""
    values: list[Any] = [4, 1, 2, 1000, checksum(4, 1, 2, b"abc"), b"abc"]
    row, is_sound = read_row(values)
    assert is_sound
    assert row == Row(4, b"abc", True, 2, 1000, row_cost(3))
    values[column] = value
    row, is_sound = read_row(values)
    assert not is_sound
    assert getattr(row, found[0]) == found[1]
    assert row.row_id == 4
    assert row.cost == row_cost(len(row.payload))
    unchanged = {"payload": b"abc", "datapoints": 2, "accepted_ms": 1000}
    unchanged.pop(found[0])
    assert {name: getattr(row, name) for name in unchanged} == unchanged


def test_totals_that_were_changed_are_none(place: Path) -> None:
    """By a byte, by a key that is missing, or of another form; none is better than a wrong one."""
    store = sqlite_store(place)
    store.open()
    writer = store.writer
    assert read_totals(writer) is None
    totals = Totals(accepted=Tally(1, 2))
    write_totals(writer, msgspec.json.encode(totals))
    assert read_totals(writer) == totals
    for key in ("last_ids", "stored", "watermarks"):
        changed = msgspec.json.decode(msgspec.json.encode(totals))
        del changed[key]["telemetry"]
        write_totals(writer, msgspec.json.encode(changed))
        assert read_totals(writer) is None
    write_totals(writer, b"[]")
    assert read_totals(writer) is None
    write_totals(writer, msgspec.json.encode(totals))
    writer.execute("UPDATE totals SET body = body || ' '")
    assert read_totals(writer) is None
    store.close()


def test_a_store_is_its_own_file(place: Path) -> None:
    """A commit into a file that is no longer at its path is none; nor is one without a file."""
    store = sqlite_store(place)
    with pytest.raises(StoreError, match="not open"):
        store.apply(Transaction())
    with pytest.raises(StoreMoved):
        store.check()
    store.open()
    store.check()
    store.path.rename(place / "moved")
    with pytest.raises(StoreMoved, match=r"store\.sqlite"):
        store.apply(Transaction())
    store.close()


def test_opening_what_is_open_changes_nothing(place: Path) -> None:
    """It gives the totals once more."""
    store = sqlite_store(place)
    store.open()
    writer = store.writer
    store.apply(with_rows(row_of(1)))
    assert store.open().totals.accepted == Tally(1, 2)
    assert store.writer is writer
    store.close()


def test_a_commit_after_a_failure_opens_the_file_anew(place: Path) -> None:
    """A connection is not used again after an error; what was rolled back is not there."""
    store = sqlite_store(place)
    store.open()
    store.apply(with_rows(row_of(1, b"one")))
    first = store.writer
    with pytest.raises(StoreError):
        store.apply(with_rows(row_of(9), row_of(1, b"two")))
    with pytest.raises(StoreError, match="not open"):
        _ = store.writer
    store.apply(with_rows(row_of(2)))
    assert store.writer is not first
    assert [row.row_id for row in page_of(store)] == [1, 2]
    store.close()


def error_of(statement: str) -> sqlite3.Error:
    with closing(sqlite3.connect(":memory:")) as connection:
        with pytest.raises(sqlite3.Error) as raised:
            connection.executescript(statement)
        return raised.value


class CodeError(sqlite3.DatabaseError):
    """An error of SQLite with a result code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.sqlite_errorcode = code


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CodeError(11), True),
        (CodeError(11 | 1 << 8), True),
        (CodeError(26), True),
        (CodeError(1), True),
        (CodeError(18), True),
        (CodeError(20), True),
        (CodeError(24), True),
        *((CodeError(code), False) for code in (2, 10, 12, 13, 14, 17, 19, 21, 23, 25, 27)),
        (CodeError(5), False),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), True),
        (sqlite3.DatabaseError("no text"), True),
        (sqlite3.ProgrammingError("closed"), False),
        (OSError(28, "no space"), False),
        (None, False),
    ],
)
def test_an_error_speaks_of_the_content_or_of_the_disk(
    error: BaseException | None, expected: bool
) -> None:
    """By SQLite's result code, whatever is behind its lower byte; what the module raises by itself
    is about the content, unless it is a mistake of ours."""
    assert is_damage(error) is expected
    if error is not None:
        assert isinstance(store_error(error), StoreDamaged) is expected
        assert str(store_error(error)) == str(error)


def test_errors_are_translated() -> None:
    """Those of SQLite; others pass."""
    with pytest.raises(StoreDamaged), translated():
        raise error_of("SELECT * FROM nothing")
    with pytest.raises(KeyError), translated():
        raise KeyError
    with translated():
        pass


def test_a_connection_has_our_options(place: Path) -> None:
    """Whatever the library's defaults are; one that only reads can't write."""
    path = place / "any.sqlite"
    with closing(connect(path, OutboxSettings(max_bytes=1 << 28))) as connection:
        for pragma, value in (
            ("cell_size_check", 1),
            ("trusted_schema", 0),
            ("temp_store", 2),
            ("secure_delete", 2),
        ):
            assert connection.execute(f"PRAGMA {pragma}").fetchone() == (value,)
        assert connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) == 1 << 29
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES ('text')")
        assert connection.execute("SELECT x FROM t").fetchone() == (b"text",)
    with closing(connect(path, OutboxSettings(max_bytes=1 << 20))) as connection:
        assert connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) == 1 << 27
    for is_immutable in (False, True):
        with closing(connect_read_only(path, is_immutable)) as connection:
            assert connection.execute("SELECT x FROM t").fetchone() == (b"text",)
            assert connection.execute("PRAGMA query_only").fetchone() == (1,)
            with pytest.raises(sqlite3.OperationalError):
                connection.execute("INSERT INTO t VALUES (2)")


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("PRAGMA application_id = 5", "not written by this agent"),
        (f"PRAGMA user_version = {SCHEMA_VERSION + 1}", "newer version"),
        ("PRAGMA user_version = -1", "schema number -1 is invalid"),
        ("CREATE TABLE other (x)", "not those of the outbox"),
        ("DROP TABLE answer", "not those of the outbox"),
    ],
)
def test_a_file_of_somebody_else_is_not_used(statement: str, text: str, place: Path) -> None:
    """It is set aside, and what can be read of it is taken over."""
    store = sqlite_store(place)
    store.open()
    store.apply(with_rows(row_of(1)))
    store.close()
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute(statement)
    opened = store.open()
    assert text in opened.reason
    assert opened.set_aside
    store.close()


def test_the_present_schema_is_left_as_it_is(place: Path) -> None:
    """A store that is up to date is not written anew: pages that are free stay so."""
    store = sqlite_store(place)
    store.open()
    store.apply(with_rows(*(row_of(row_id, bytes(900)) for row_id in range(1, 51))))
    transaction = Transaction()
    transaction.deleted[TELEMETRY].append(Span(1, 50))
    store.apply(transaction)
    store.close()
    opened = store.open()
    assert opened.reason == ""
    assert store.writer.execute("PRAGMA freelist_count").fetchone()[0] >= 40
    store.close()


@pytest.mark.parametrize(("sync", "expected"), [(OutboxSync.FULL, 2), (OutboxSync.NORMAL, 1)])
def test_a_commit_is_synchronised_as_the_settings_say(
    sync: OutboxSync, expected: int, place: Path
) -> None:
    """Each, or with the next one that folds the log; the log has its bounds, and the reader reads
    only."""
    path = place / "store.sqlite"
    settings = OutboxSettings(path=path, sync=sync, max_bytes=16 << 20)
    store = SqliteStore(path, settings)
    store.open()
    wal_bytes = wal_allowance(settings) // 2
    for pragma, value in (
        ("synchronous", expected),
        ("journal_mode", b"wal"),
        ("wal_autocheckpoint", wal_bytes // 1024),
        ("journal_size_limit", wal_bytes),
        ("page_size", 1024),
    ):
        assert store.writer.execute(f"PRAGMA {pragma}").fetchone() == (value,)
    assert store.query("PRAGMA query_only") == [(1,)]
    store.close()


def test_a_store_that_can_not_be_opened_leaves_nothing_open(place: Path) -> None:
    """Neither its file nor its lock: the next try is like the first."""
    store = sqlite_store(place)
    store.open()
    store.close()
    before = len(os.listdir("/proc/self/fd"))

    def fails() -> Totals:
        raise StoreError("no")

    store._read_totals = fails  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="no"):
        store.open()
    assert len(os.listdir("/proc/self/fd")) == before
    del store._read_totals  # type: ignore[method-assign]
    assert store.open().reason == ""
    store.close()


def test_what_is_open_is_marked_in_the_file(place: Path) -> None:
    """A file without its write-ahead log that was not closed may lack the newest messages: the next
    start says so. One that was closed has no mark."""
    store = sqlite_store(place)
    store.open()
    store.apply(with_rows(row_of(1)))
    copy = place / "copy.sqlite"
    copy.write_bytes(store.path.read_bytes())
    store.close()
    opened = SqliteStore(copy, OutboxSettings(path=copy)).open()
    assert "was not closed" in opened.reason
    assert store.open().reason == ""
    store.close()


def test_a_log_without_its_file_is_a_damage(place: Path) -> None:
    """What was committed is in the log, and belongs to a file that is not there."""
    store = sqlite_store(place)
    store.path.with_name("store.sqlite-wal").write_bytes(b"x" * 100)
    assert "missing beside its write-ahead log" in store.open().reason
    store.close()
    empty = SqliteStore(place / "empty.sqlite", OutboxSettings())
    empty.path.with_name("empty.sqlite-wal").write_bytes(b"")
    assert empty.open().reason == ""
    empty.close()


def test_the_name_of_a_new_file_is_synchronised(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the file: a power failure must not leave messages without a name. An old one has it."""
    synced: list[Path] = []
    monkeypatch.setattr(sqlite_store_module, "sync_directory", synced.append)
    for expected in (1, 1):
        store = sqlite_store(place)
        store.open()
        store.close()
        assert synced == [store.path.parent] * expected


def test_a_file_that_is_replaced_while_it_is_locked_is_locked_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock has to be on the file at the path; the other one is let go."""
    is_at = FileLock.is_at
    looks: list[bool] = []

    def moves(lock: FileLock, path: Path) -> bool:
        looks.append(True)
        if len(looks) == 1:
            path.rename(place / "away")
        return is_at(lock, path)

    monkeypatch.setattr(FileLock, "is_at", moves)
    store = sqlite_store(place)
    store.open()
    assert FileLock.is_held(store.path)
    assert not FileLock.is_held(place / "away")
    store.close()


def test_a_file_that_can_not_be_opened_again_is_tried_by_the_next_commit(place: Path) -> None:
    """Nothing half open is left of the try."""
    store = sqlite_store(place)
    store.open()
    store.apply(with_rows(row_of(1, b"one")))
    with pytest.raises(StoreError):
        store.apply(with_rows(row_of(1, b"two")))

    def fails() -> Totals:
        raise StoreError("no")

    store._read_totals = fails  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="no"):
        store.apply(with_rows(row_of(2)))
    with pytest.raises(StoreError, match="not open"):
        _ = store.writer
    del store._read_totals  # type: ignore[method-assign]
    store.apply(with_rows(row_of(2)))
    assert [row.row_id for row in page_of(store)] == [1, 2]
    store.close()


def test_a_store_does_not_go_on_where_its_file_is_not(place: Path) -> None:
    """It is told as gone, and no file is made there."""
    store = sqlite_store(place)
    store.open()
    store.release_file()
    with pytest.raises(StoreMoved):
        store._go_on_at(place / "elsewhere")
    assert not (place / "elsewhere").exists()
    store.close()


def test_looking_for_a_fault_leaves_nothing_beside_the_file(place: Path) -> None:
    """A look would otherwise make the write-ahead log whose absence it looks for."""
    store = sqlite_store(place)
    store.open()
    store.close()
    assert find_fault(place / "store.sqlite") is None
    assert [one.name for one in place.iterdir()] == ["store.sqlite"]
