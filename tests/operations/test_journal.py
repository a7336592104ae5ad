"""The journal in memory: what it remembers, and for how long."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from oda.model import ContentType, JournalEntry
from oda.operations import MemoryJournal

JSON = ContentType.JSON


def test_an_id_is_new_once() -> None:
    """First new, then running, then answered with its payload and format."""
    journal = MemoryJournal(Clock())
    assert journal.begin("1", "A", True) is None
    assert journal.begin("1", "A", True) == JournalEntry("A")
    journal.answered("1", b"done", ContentType.CBOR)
    assert journal.begin("1", "A", True) == JournalEntry("A", b"done", ContentType.CBOR)
    assert journal.begin("2", "A", False) is None


def test_an_id_used_for_another_operation_is_new() -> None:
    """An id says "again" only together with the name; the newer operation takes its place."""
    journal = MemoryJournal(Clock())
    journal.begin("1", "A", True)
    journal.answered("1", b"a", JSON)
    assert journal.begin("1", "B", True) is None
    journal.answered("1", b"b", JSON)
    assert journal.begin("1", "B", True) == JournalEntry("B", b"b", JSON)
    assert len(journal) == 1


def test_what_takes_the_place_of_an_answer_frees_its_room() -> None:
    """The replaced answer no longer counts against the bound."""
    journal = MemoryJournal(Clock(), max_bytes=10)
    for name in "ABC":
        journal.begin("1", name, True)
        journal.answered("1", b"123456", JSON)
    assert journal.begin("1", "C", True) == JournalEntry("C", b"123456", JSON)


def test_an_answer_without_a_beginning_is_ignored() -> None:
    """What was never begun can't be asked for, so it is not kept."""
    journal = MemoryJournal(Clock())
    journal.answered("1", b"x", JSON)
    assert len(journal) == 0


@pytest.mark.parametrize(
    "journal",
    [MemoryJournal(Clock(), max_answers=2), MemoryJournal(Clock(), max_bytes=11)],
    ids=["answers", "bytes"],
)
def test_the_oldest_answers_are_forgotten_first(journal: MemoryJournal) -> None:
    """Number and size are bounded; what runs stays whatever the bounds."""
    journal.begin("running", "A", True)
    for request_id in ("1", "2", "3"):
        journal.begin(request_id, "A", True)
        journal.answered(request_id, b"12345", JSON)
    assert len(journal) == 3
    assert journal.begin("running", "A", True) == JournalEntry("A")
    assert journal.begin("2", "A", True) == JournalEntry("A", b"12345", JSON)
    assert journal.begin("3", "A", True) == JournalEntry("A", b"12345", JSON)
    assert journal.begin("1", "A", True) is None


def test_an_answer_larger_than_the_bound_is_not_kept() -> None:
    """One huge answer does not break the bound, and forgetting it leaves the count right."""
    journal = MemoryJournal(Clock(), max_bytes=10)
    for _ in range(3):
        assert journal.begin("1", "A", True) is None
        journal.answered("1", b"x" * 11, JSON)
    journal.begin("2", "A", True)
    journal.answered("2", b"x" * 10, JSON)
    assert journal.begin("2", "A", True) == JournalEntry("A", b"x" * 10, JSON)


def test_answers_are_forgotten_by_age() -> None:
    """An answer lasts ``max_age_s``; an operation that still runs has no age."""
    clock = Clock()
    journal = MemoryJournal(clock, max_age_s=60)
    journal.begin("slow", "A", True)
    journal.begin("1", "A", True)
    journal.answered("1", b"x", JSON)
    clock.advance(60)
    assert journal.begin("1", "A", True) == JournalEntry("A", b"x", JSON)
    clock.advance(0.5)
    assert journal.begin("1", "A", True) is None
    assert journal.begin("slow", "A", True) == JournalEntry("A")
