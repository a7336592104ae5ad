"""The journal by itself: what is on record, what is forgotten, and what a store tells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from oda.errors import OutboxError
from oda.model import ContentType, JournalEntry, OperationRequest
from oda.outbox.committer import Committer, State
from oda.outbox.journal import Journal
from oda.outbox.ledger import Ledger
from oda.outbox.limits import Limits, side_cost
from oda.outbox.store import StoredRecord
from oda.outbox.transaction import Record
from oda.settings import OutboxSettings
from tests.outbox.chosen import ChosenStore, NotingWorker, Owner
from tests.outbox.fakes import FakeCounters, disk_full

JSON, CBOR = ContentType.JSON, ContentType.CBOR
#: A record costs so much besides its id and its name.
RECORD_BYTES = 64


class Bench:
    """A journal whose commits the test chooses."""

    def __init__(self, max_entries: int = 1000, max_age_s: float = 100.0) -> None:
        settings = OutboxSettings(
            max_bytes=4 << 20, journal_max_entries=max_entries, journal_max_age_s=max_age_s
        )
        self.events: list[str] = []
        self.store = ChosenStore(self.events)
        self.worker = NotingWorker()
        self.clock = Clock()
        self.owner = Owner(self.events)
        self.committer = Committer(self.store, self.worker, self.clock, self.owner)
        self.counters = FakeCounters()
        self.ledger = Ledger(self.counters)
        self.limits = Limits(settings)
        self.now_ms = 1_000_000
        self.changes = 0
        self.told = 0
        self.journal = Journal(
            settings,
            self.committer,
            self.ledger,
            self.limits,
            lambda: self.now_ms,
            self._changed,
        )
        self.owner.on_committed = lambda: self.journal.committed(self.owner.transactions[-1][0])
        self.owner.on_tell = self.ledger.tell
        self.committer.open()

    def _changed(self) -> None:
        self.changes += 1

    def subscribe(self) -> None:
        def on_interrupted() -> None:
            self.told += 1

        self.journal.subscribe(on_interrupted)

    @property
    def records(self) -> dict[int, Record | None]:
        """What the next commit writes."""
        return self.committer.uncommitted.collecting.records

    def commit(self) -> None:
        self.committer.submit()
        self.worker.finish()
        self.ledger.tell()

    def fail(self) -> None:
        self.committer.submit()
        self.worker.fail(disk_full())
        self.journal.failed(self.owner.transactions[-1][0])
        self.ledger.tell()

    def run(self, request_id: str, payload: bytes = b"answer", name: str = "GET") -> int:
        """An operation that only reads, from its beginning to its end."""
        number = self.journal.begin(request_id, name, False)
        assert isinstance(number, int)
        self.journal.end(number, payload)
        return number

    def is_known(self, request_id: str, name: str = "GET") -> bool:
        return any(key[:2] == (request_id, name) for key in self.journal._by_key)


def outcome(waiting: object) -> object:
    assert isinstance(waiting, Deferred)
    found: list[Any] = []
    waiting.addBoth(found.append)
    return getattr(found[0], "value", found[0]) if found else "nothing yet"


def id_cost(request_id: str, name: str = "GET") -> int:
    return RECORD_BYTES + len(request_id) + len(name)


# -- the same request, and another one ---------------------------------------------------------

REQUEST = OperationRequest("1", "SET", "dev", "dev", ("gw",), {"a": [1, {"b": None}], "c": "x"}, 17)


def restarted(bench: Bench) -> Bench:
    """A journal that learns what ``bench`` has committed."""
    later = Bench()
    later.journal.opened(
        [
            StoredRecord(
                one.number,
                one.request_id,
                one.name,
                one.content_type,
                one.echo,
                one.at_ms,
                one.has_ended,
                None if one.payload is None else len(one.payload),
            )
            for one in bench.records.values()
            if one is not None
        ],
        is_late=False,
    )
    return later


@pytest.mark.parametrize(
    "other",
    [
        {"device_id": "another"},
        {"path": ()},
        {"parameters": {}},
        {"parameters": {"a": [1, {"b": 0}], "c": "x"}},
        {"parameters": {"a": [1, {}], "c": "x"}},
        {"parameters": {"a": ["1", {"b": None}], "c": "x"}},
    ],
    ids=repr,
)
@pytest.mark.parametrize("has_ended", [False, True])
@pytest.mark.parametrize("is_restarted", [False, True])
def test_another_request_with_the_same_id(
    other: dict[str, Any], has_ended: bool, is_restarted: bool
) -> None:
    """It gets a record of its own, also after a restart: test suites use one id for all of theirs.
    The earlier one stays what it is."""
    bench = Bench()
    bench.journal.begin("1", "SET", True, REQUEST)
    if has_ended:
        bench.journal.end(1, b"first")
    if is_restarted:
        bench = restarted(bench)
    bench.journal.begin("1", "SET", True, msgspec.structs.replace(REQUEST, **other))
    assert 2 in bench.journal._running
    again = bench.journal.begin("1", "SET", True, REQUEST)
    assert isinstance(again, JournalEntry)
    assert again.has_ended is has_ended


@pytest.mark.parametrize("has_ended", [False, True])
@pytest.mark.parametrize("is_restarted", [False, True])
def test_the_same_request_again(has_ended: bool, is_restarted: bool) -> None:
    """The order of members, what the request calls the device, and when it says it was made, make
    no difference: the platform repeats what it did not see answered."""
    bench = Bench()
    bench.journal.begin("1", "SET", True, REQUEST)
    if has_ended:
        bench.journal.end(1, b"first")
    if is_restarted:
        bench = restarted(bench)
    again = msgspec.structs.replace(
        REQUEST,
        parameters={"c": "x", "a": [1, {"b": None}]},
        requested_device_id="",
        timestamp_ms=18,
    )
    entry = bench.journal.begin("1", "SET", True, again)
    assert isinstance(entry, JournalEntry)
    assert entry.has_ended is has_ended


def test_a_record_of_an_earlier_version_is_that_of_every_such_request() -> None:
    """It has no fingerprint: whatever has this id and name was executed once already."""
    bench = Bench()
    bench.journal.opened([stored(1, b"1", 999_999)], is_late=False)
    assert isinstance(bench.journal.begin("1", "SET", True, REQUEST), JournalEntry)


def test_the_ids_that_are_used_are_forgotten_with_their_records() -> None:
    """Nothing is kept of an id that has no record any more."""
    bench = Bench(max_entries=1)
    for number in range(1, 6):
        bench.journal.begin(
            "1", "SET", True, msgspec.structs.replace(REQUEST, device_id=f"{number}")
        )
        bench.journal.end(number, b"x")
    assert len(bench.journal) == 1
    assert bench.journal._uses == {"1": 1}


# -- beginning -------------------------------------------------------------------------------


def test_what_acts_waits_for_its_record() -> None:
    """A commit is asked for, and its end tells the number; what only reads gets its number at once
    and writes nothing."""
    bench = Bench()
    request = OperationRequest("1", "SET", "dev", "child", ("gw",), {"a": 1}, 17)
    begun = bench.journal.begin("1", "SET", True, request, CBOR)
    assert bench.changes == 1
    (record,) = bench.records.values()
    assert record is not None
    assert record.echo is not None
    echo = msgspec.json.decode(record.echo)
    assert len(echo.pop("fingerprint")) == 16
    assert echo == {
        "device_id": "dev",
        "requested_device_id": "child",
        "path": ["gw"],
        "timestamp_ms": 17,
    }
    assert record == Record(1, "1", "SET", "CBOR", record.echo, 1_000_000)
    assert bench.journal.begin("2", "GET", False) == 2
    assert (bench.changes, list(bench.records)) == (1, [1])
    assert bench.journal.begin("1", "SET", True) == JournalEntry("SET")
    assert bench.journal.begin("1", "SET", False) == JournalEntry("SET")
    bench.commit()
    assert outcome(begun) == 1
    assert len(bench.journal) == 2
    assert bench.journal.cost == id_cost("1") + 16 + id_cost("2")


def test_an_id_that_is_no_text_is_refused() -> None:
    """It could not be written; nothing of it is remembered."""
    bench = Bench()
    for request_id, name in (("\ud800", "SET"), ("1", "\ud800")):
        assert isinstance(outcome(bench.journal.begin(request_id, name, False)), OutboxError)
    assert len(bench.journal) == bench.journal.cost == 0
    assert bench.journal.begin("ä", "SET", False) == 1


def test_nothing_acts_without_a_disk() -> None:
    """A record that could not be written is forgotten: the request may come again. What only reads
    goes on."""
    bench = Bench()
    first = bench.journal.begin("1", "SET", True)
    reading = bench.journal.begin("2", "GET", False)
    bench.fail()
    assert isinstance(outcome(first), OutboxError)
    assert not bench.is_known("1", "SET")
    assert bench.records == {1: None}
    assert isinstance(outcome(bench.journal.begin("3", "SET", True)), OutboxError)
    assert not bench.is_known("3", "SET")
    assert bench.journal.cost == id_cost("2")
    assert isinstance(reading, int)
    bench.journal.end(reading, b"read")
    bench.clock.advance(10.0)
    bench.commit()
    assert bench.store.answers == {reading: b"read"}
    assert list(bench.store.journal) == [reading]
    again = bench.journal.begin("1", "SET", True)
    bench.commit()
    assert outcome(again) == 3


def test_an_operation_that_ended_before_its_record_was_refused_stays() -> None:
    """It has an answer: that is kept, whoever waited for the beginning."""
    bench = Bench()
    begun = bench.journal.begin("1", "SET", True)
    bench.journal.end(1, b"stopping")
    bench.fail()
    assert isinstance(outcome(begun), OutboxError)
    assert bench.journal.begin("1", "SET", True) == JournalEntry("SET", b"stopping", JSON, True)


def test_the_end_of_the_agent_refuses_what_waits() -> None:
    """With the reason; nothing of it has run."""
    bench = Bench()
    begun = bench.journal.begin("1", "SET", True)
    bench.journal.closing()
    bench.ledger.tell()
    assert "stopping" in str(outcome(begun))
    assert not bench.is_known("1", "SET")


# -- ending ----------------------------------------------------------------------------------


def test_the_end_is_written_with_its_answer() -> None:
    """It replaces the beginning. Until it is committed the answer comes from memory, after that
    from the store; where that has none, the entry has none."""
    bench = Bench()
    number = bench.journal.begin("1", "GET", False, None, CBOR)
    assert number == 1
    bench.now_ms += 5
    bench.journal.end(1, b"answer")
    assert bench.records == {1: Record(1, "1", "GET", "CBOR", None, 1_000_005, True, b"answer")}
    assert bench.journal.cost == id_cost("1") + side_cost(6)
    expected = JournalEntry("GET", b"answer", CBOR, has_ended=True)
    assert bench.journal.begin("1", "GET", True) == expected
    bench.commit()
    assert bench.journal.begin("1", "GET", True) == expected
    bench.store.answers[1] = b"of the store"
    assert bench.journal.begin("1", "GET", True) == JournalEntry("GET", b"of the store", CBOR, True)
    bench.store.answers.clear()
    with capturedLogs() as logs:
        entry = bench.journal.begin("1", "GET", True)
    assert entry == JournalEntry("GET", None, CBOR, True)
    assert [one["operation"] for one in logs] == ["GET"]


def test_a_number_ends_once() -> None:
    """One that has ended, or that nobody knows, is ignored."""
    bench = Bench()
    bench.run("1", b"first")
    bench.journal.end(1, b"second")
    bench.journal.end(77, b"unknown")
    assert bench.journal.begin("1", "GET", False) == JournalEntry("GET", b"first", JSON, True)
    assert list(bench.records) == [1]


def test_a_newer_end_is_not_taken_for_a_committed_one() -> None:
    """The beginning is on disk, and the end came meanwhile: its answer is still only in memory."""
    bench = Bench()
    begun = bench.journal.begin("1", "SET", True)
    bench.committer.submit()
    bench.journal.end(1, b"answer")
    bench.worker.step()
    assert outcome(begun) == 1
    assert bench.store.answers == {}
    assert bench.journal.begin("1", "SET", True) == JournalEntry("SET", b"answer", JSON, True)


@pytest.mark.parametrize("fails", [True, False])
def test_an_answer_that_can_not_be_read_now_is_told_from_one_that_is_gone(fails: bool) -> None:
    """The store fails, which it tells of, or is not to be read for a while; the operation is not
    run again."""
    bench = Bench()
    bench.run("1")
    bench.commit()

    def answer(number: int) -> bytes:
        raise disk_full()

    bench.store.answer = answer  # type: ignore[method-assign]
    if not fails:
        bench.committer.move(Path("/new"))
        bench.committer.submit()
    expected = JournalEntry("GET", None, JSON, True, is_unreadable=True)
    assert bench.journal.begin("1", "GET", False) == expected
    assert bench.committer.state is (State.TROUBLE if fails else State.OPEN)


# -- forgetting ------------------------------------------------------------------------------


def test_so_many_that_have_ended_are_kept() -> None:
    """The oldest goes for one too many, which is counted; what runs is not counted among them."""
    bench = Bench(max_entries=3)
    bench.journal.begin("running", "GET", False)
    for number in range(3):
        bench.run(str(number))
    assert bench.counters.sums == {}
    bench.run("3")
    assert [bench.is_known(one) for one in ("running", "0", "1", "3")] == [True, False, True, True]
    assert bench.records[2] is None
    assert bench.counters.sums == {"journal_entries_forgotten": 1}
    assert bench.journal.cost == id_cost("running") + 3 * (id_cost("1") + side_cost(6))


def test_so_long_they_are_kept() -> None:
    """Up to the very millisecond; then the next request finds them gone, and a commit is due."""
    bench = Bench(max_age_s=100.0)
    bench.run("1")
    bench.now_ms += 10
    bench.run("2")
    bench.now_ms += 99_990
    assert isinstance(bench.journal.begin("1", "GET", False), JournalEntry)
    bench.commit()
    bench.now_ms += 1
    before = bench.changes
    assert bench.journal.begin("1", "GET", False) == 3
    assert bench.is_known("2")
    assert bench.records == {1: None}
    assert bench.changes == before + 1


def test_answers_together_have_a_bound() -> None:
    """The oldest goes for a byte too many, also from a commit that is not made yet; its id stays.
    One answer is kept whatever its size. That is counted each time, and said once."""
    bench = Bench()
    half = bench.limits.side_bytes // 2
    size = half - 4096
    while side_cost(size + 1) <= half:
        size += 1
    bench.run("1", bytes(size))
    bench.run("2", bytes(size))
    assert bench.counters["journal_answers_forgotten"] == 0
    with capturedLogs() as logs:
        bench.run("3", b"")
        assert bench.counters["journal_answers_forgotten"] == 1
        assert bench.records[1] == Record(1, "1", "GET", "JSON", None, 1_000_000, True, None)
        assert bench.committer.uncommitted.collecting.answers_gone == [1]
        assert bench.journal.begin("1", "GET", False) == JournalEntry("GET", None, JSON, True)
        bench.commit()
        bench.run("4", bytes(4 * size))
        assert bench.counters["journal_answers_forgotten"] == 3
    assert sum("oldest answers to make room" in str(one["log_format"]) for one in logs) == 1
    assert len(bench.journal) == 4
    assert bench.journal.cost == 4 * id_cost("1") + side_cost(4 * size)
    bench.run("5", b"")
    assert bench.counters["journal_answers_forgotten"] == 4
    assert bench.journal.cost == 5 * id_cost("1") + side_cost(0)
    bench.now_ms += 100_001
    bench.journal.begin("6", "GET", False)
    assert bench.journal.cost == id_cost("6"), "what is forgotten costs nothing"


def test_room_for_answers_is_made_for_more_than_one() -> None:
    """A little more than must go, so that not every answer has to make room; never much more."""
    bench = Bench(max_entries=100_000)
    one, most = side_cost(3), bench.limits.side_bytes
    for number in range(most // one):
        bench.run(str(number), b"abc")
    assert bench.counters["journal_answers_forgotten"] == 0
    bench.run("first", b"abc")
    gone = bench.counters["journal_answers_forgotten"]
    assert most // 128 // one <= gone <= most // 128 // one + 2
    for number in range(gone - 2):
        bench.run(f"then {number}", b"abc")
    assert bench.counters["journal_answers_forgotten"] == gone
    answers = len(bench.journal) - gone
    ids = sum(known.id_cost for known in bench.journal._by_key.values())
    assert bench.journal.cost == ids + answers * one == bench.limits.side_cost
    bench.commit()
    assert bench.journal.begin(str(gone), "GET", False).payload == b"abc"  # type: ignore[union-attr]


def test_ids_together_have_a_bound() -> None:
    """A quarter of the room: the oldest go, but the newest stays whatever its length."""
    bench = Bench()
    room = bench.limits.total // 4
    long = room // 2 - RECORD_BYTES - 3
    bench.run("a" * long)
    bench.run("b" * long)
    assert bench.counters["journal_entries_forgotten"] == 0
    bench.run("c")
    assert bench.counters["journal_entries_forgotten"] == 1
    assert not bench.is_known("a" * long)
    bench.run("d" * (room + 5))
    assert len(bench.journal) == 1


# -- what a store tells ----------------------------------------------------------------------


def stored(number: int, request_id: object, at_ms: int = 0, **more: Any) -> StoredRecord:
    return StoredRecord(
        number,
        request_id,
        more.get("name", b"SET"),
        more.get("content_type", b"JSON"),
        more.get("echo"),
        at_ms,
        more.get("has_ended", True),
        more.get("answer_bytes"),
    )


def opened(records: Sequence[StoredRecord], is_late: bool = False) -> Bench:
    bench = Bench()
    bench.subscribe()
    bench.journal.opened(records, is_late)
    bench.ledger.tell()
    return bench


def test_what_a_store_knows_is_not_run_again() -> None:
    """What has ended, and what was interrupted: that is given with what its answer has to echo,
    until it is answered. Numbers go on after the last one."""
    echo = b'{"device_id":"dev","path":["gw","x"],"timestamp_ms":5,"requested_device_id":"r"}'
    bench = opened(
        [
            stored(3, b"a", 999_000, answer_bytes=10),
            stored(7, "b", 999_000, echo=echo, has_ended=False, content_type=b"CBOR"),
            stored(5, b"c", 999_000, has_ended=False, name="GET"),
        ]
    )
    assert bench.told == 0, "nobody is told at a start: whoever starts asks"
    assert bench.journal.cost == 3 * id_cost("a") + side_cost(10)
    first, second = bench.journal.interrupted()
    assert first.request == OperationRequest("b", "SET", "dev", "r", ("gw", "x"), timestamp_ms=5)
    assert (first.content_type, first.record) == (CBOR, 7)
    assert second.request == OperationRequest("c", "GET", "", "")
    assert (second.content_type, second.record) == (JSON, 5)
    assert bench.journal.begin("b", "SET", True) == JournalEntry("SET")
    bench.journal.end(7, b"interrupted")
    assert [one.record for one in bench.journal.interrupted()] == [5]
    assert bench.records[7] == Record(7, "b", "SET", "CBOR", None, 1_000_000, True, b"interrupted")
    assert bench.journal.begin("new", "GET", False) == 8
    bench.store.answers[3] = b"x" * 10
    assert bench.journal.begin("a", "SET", True) == JournalEntry("SET", b"x" * 10, JSON, True)


@pytest.mark.parametrize(("is_late", "told"), [(False, 0), (True, 1)])
def test_a_late_store_tells_of_what_it_left(is_late: bool, told: int) -> None:
    """Once; and not where nothing was left."""
    assert opened([stored(1, b"a", 999_000, has_ended=False)], is_late).told == told
    assert opened([stored(1, b"a", 999_000)], is_late).told == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"name": 5},
        {"name": b"\xff"},
        {"content_type": b"XML"},
        {"content_type": None},
        {"echo": b"{"},
        {"echo": "{}"},
        {"echo": b'{"path":5}'},
    ],
)
def test_a_damaged_record_is_deleted(changed: dict[str, Any]) -> None:
    """It is said, and the others are known; its number is not used again."""
    with capturedLogs() as logs:
        bench = opened([stored(4, b"a", 999_000, **changed), stored(2, b"b", 999_000)])
    assert [one["log_level"].name for one in logs] == ["warn"]
    assert bench.records == {4: None}
    assert len(bench.journal) == 1
    assert bench.journal.begin("a", "SET", False) == 5


@pytest.mark.parametrize("request_id", [None, 5, b"\xff"])
def test_an_id_that_is_no_text_is_damage(request_id: object) -> None:
    """Whatever else it is."""
    bench = opened([stored(4, request_id, 999_000)])
    assert bench.records == {4: None}


def test_the_newer_record_of_a_request_stays() -> None:
    """The same request came while the store could not be opened: that of the store is deleted."""
    bench = Bench()
    bench.journal.begin_at(50)
    assert bench.journal.begin("a", "SET", False) == 50
    bench.journal.opened([stored(1, b"a", 999_000, has_ended=False)], is_late=True)
    assert bench.records == {1: None}
    assert bench.journal.interrupted() == ()
    assert bench.journal.begin("b", "SET", False) == 51


def test_opening_again_changes_nothing() -> None:
    """A store that was replaced tells of records that are known."""
    bench = opened([stored(1, b"a", 999_000), stored(2, b"b", 999_000, has_ended=False)])
    before = bench.journal.cost
    bench.journal.opened([stored(1, b"a", 999_000), stored(2, b"b", 0, has_ended=False)], True)
    assert bench.journal.cost == before
    assert len(bench.journal) == 2
    assert len(bench.journal.interrupted()) == 1
    assert bench.records == {}


def test_the_oldest_end_of_a_store_is_forgotten_first() -> None:
    """Whatever the numbers are."""
    bench = Bench(max_entries=2)
    records = [stored(1, b"a", 999_002), stored(2, b"b", 999_001), stored(3, b"c", 999_003)]
    bench.journal.opened(records, is_late=False)
    assert [bench.is_known(one, "SET") for one in "abc"] == [True, False, True]
    assert bench.records == {2: None}


def test_the_oldest_answer_of_a_store_is_forgotten_first() -> None:
    """As well."""
    bench = Bench()
    half = bench.limits.side_bytes // 2
    records = [
        stored(1, b"a", 999_002, answer_bytes=half),
        stored(2, b"b", 999_001, answer_bytes=half),
    ]
    bench.journal.opened(records, is_late=False)
    assert bench.committer.uncommitted.collecting.answers_gone == [2]


# -- another store ---------------------------------------------------------------------------


def test_a_new_store_gets_what_was_interrupted() -> None:
    """It was on record in the old one, whatever it does: after the next start it has to be known
    as well."""
    bench = opened([stored(1, b"a", 999_000, has_ended=False), stored(2, b"b", 999_000)])
    bench.journal.write_again()
    assert bench.records == {
        1: Record(1, "a", "SET", "JSON", b"{}", 999_000, has_ended=False),
        2: Record(2, "b", "SET", "JSON", None, 999_000, True, None),
    }


def test_a_new_store_gets_every_record() -> None:
    """What runs on record and what has ended, with the answers that are in memory; what is written
    anyway, or was never on record, is left out."""
    bench = Bench()
    bench.journal.begin("acts", "SET", True)
    bench.run("written")
    bench.commit()
    bench.journal.begin("reads", "GET", False)
    late = bench.run("new", b"late")
    bench.journal.write_again()
    assert bench.records == {
        1: Record(1, "acts", "SET", "JSON", None, 1_000_000),
        2: Record(2, "written", "GET", "JSON", None, 1_000_000, True, None),
        late: Record(late, "new", "GET", "JSON", None, 1_000_000, True, b"late"),
    }


def test_records_of_another_journal_get_numbers_of_this_one() -> None:
    """With their answers; those that are known stay as they are. The Deferreds fire when they are
    committed; interrupted ones are told when the time has come."""
    bench = Bench()
    bench.subscribe()
    bench.run("known", b"mine")
    recorded = bench.journal.take_over(
        [
            (stored(1, b"known", name=b"GET"), b"theirs"),
            (stored(9, b"a", 999_000, answer_bytes=6), b"answer"),
            (stored(4, b"b", 999_500, has_ended=False, echo=b'{"device_id":"d"}'), None),
        ]
    )
    assert len(recorded) == 2
    assert bench.records[2] == Record(2, "a", "SET", "JSON", None, 999_000, True, b"answer")
    assert bench.records[3] == Record(
        3, "b", "SET", "JSON", b'{"device_id":"d"}', 999_500, has_ended=False
    )
    assert bench.told == 0
    bench.journal.tell_interrupted()
    bench.ledger.tell()
    assert bench.told == 1
    bench.commit()
    assert [outcome(one) for one in recorded] == [2, 3]
    assert bench.journal.begin("known", "GET", True) == JournalEntry("GET", b"mine", JSON, True)
    assert bench.journal.begin("a", "SET", True) == JournalEntry("SET", b"answer", JSON, True)
    assert bench.journal.begin("new", "GET", False) == 4


def test_nothing_is_told_where_nothing_was_interrupted() -> None:
    """Nor taken over while the disk fails."""
    bench = Bench()
    before = bench.changes
    bench.journal.begin("mine", "SET", True)
    bench.journal.tell_interrupted()
    bench.subscribe()
    bench.journal.tell_interrupted()
    assert (bench.told, bench.changes) == (0, before + 1)
    bench.fail()
    with pytest.raises(OutboxError, match="can't be written"):
        bench.journal.take_over([(stored(1, b"a"), None)])
    assert not bench.is_known("a", "SET")
