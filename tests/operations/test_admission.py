"""Who runs, who waits, and who is turned away."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from oda.operations.admission import LOOK_S, Admission


class Turn:
    """Notes in ``log`` that its turn has come; leaves at once if told so."""

    def __init__(self, name: str, log: list[str], leaves: Admission | None = None) -> None:
        self.name = name
        self.log = log
        self.leaves = leaves

    def run(self) -> None:
        self.log.append(self.name)
        if self.leaves is not None:
            self.leaves.leave()


def test_first_come_first_served() -> None:
    """Only so many run; the others start in the order they came as places become free."""
    log: list[str] = []
    admission = Admission(2, 2, Clock())
    turns = {name: Turn(name, log) for name in "abcde"}
    assert [admission.enter(turns[name]) for name in "abcde"] == [True, True, True, True, False]
    assert (log, admission.running, admission.waiting) == (["a", "b"], 2, 2)
    admission.leave()
    admission.fill()
    assert (log, admission.running, admission.waiting) == (["a", "b", "c"], 2, 1)
    admission.leave()
    admission.fill()
    admission.leave()
    admission.fill()
    admission.leave()
    admission.fill()
    assert (log, admission.running, admission.waiting) == (["a", "b", "c", "d"], 0, 0)


def test_who_withdraws_is_not_run() -> None:
    """A place in the queue that was given up goes to the next."""
    log: list[str] = []
    admission = Admission(1, 5, Clock())
    turns = [Turn(name, log) for name in "abc"]
    for turn in turns:
        admission.enter(turn)
    admission.withdraw(turns[1])
    admission.withdraw(turns[1])
    admission.leave()
    admission.fill()
    assert log == ["a", "c"]


def test_nobody_overtakes_those_that_wait() -> None:
    """Who comes while a place is free but others wait for it goes to the end of the queue."""
    log: list[str] = []
    admission = Admission(1, 5, Clock())

    class Successor(Turn):
        def run(self) -> None:
            super().run()
            admission.enter(Turn("late", log))

    admission.enter(Turn("first", log))
    admission.enter(Successor("second", log, leaves=admission))
    admission.enter(Turn("third", log, leaves=admission))
    admission.leave()
    admission.fill()
    assert log == ["first", "second", "third", "late"]


def test_thousands_that_wait_can_end_at_once() -> None:
    """Operations that end as soon as they start don't start each other ever deeper."""
    log: list[str] = []
    admission = Admission(1, 5000, Clock())
    admission.enter(Turn("first", log))
    for number in range(5000):
        admission.enter(Turn(str(number), log, leaves=admission))
    admission.leave()
    admission.fill()
    assert log == ["first", *map(str, range(5000))]
    assert (admission.running, admission.waiting) == (0, 0)


def test_bounds_may_change_while_operations_run() -> None:
    """A smaller bound stops nobody; a larger one lets in who waits."""
    log: list[str] = []
    admission = Admission(2, 5, Clock())
    for name in "abcd":
        admission.enter(Turn(name, log))
    admission.max_running = 1
    admission.leave()
    admission.fill()
    assert (log, admission.running) == (["a", "b"], 1)
    admission.max_running = 3
    admission.fill()
    assert log == ["a", "b", "c", "d"]


def test_nobody_begins_while_there_is_no_room_for_an_answer() -> None:
    """Operations wait while the answers before them fill the outbox, begin in order as soon as
    there is room, and no timer is left once nobody waits."""
    log: list[str] = []
    clock, is_full = Clock(), [True]
    admission = Admission(2, 5, clock, lambda: not is_full[0])
    turns = [Turn(name, log) for name in "abc"]
    for turn in turns:
        assert admission.enter(turn)
    clock.advance(LOOK_S)
    assert (log, admission.running, admission.waiting) == ([], 0, 3)
    is_full[0] = False
    clock.advance(LOOK_S)
    assert (log, admission.running, admission.waiting) == (["a", "b"], 2, 1)
    admission.withdraw(turns[2])
    assert clock.getDelayedCalls() == []


def test_a_stop_leaves_no_timer() -> None:
    """Who looks for room stops looking when the dispatcher stops."""
    clock = Clock()
    admission = Admission(2, 5, clock, lambda: False)
    admission.enter(Turn("a", []))
    assert clock.getDelayedCalls()
    admission.stop()
    assert clock.getDelayedCalls() == []


def test_who_withdraws_takes_nobody_with_it() -> None:
    """The admission goes on looking for room while anybody waits: when one of them withdraws, the
    others begin all the same as soon as there is room."""
    log: list[str] = []
    clock, is_full = Clock(), [True]
    admission = Admission(2, 5, clock, lambda: not is_full[0])
    turns = [Turn(name, log) for name in "ab"]
    for turn in turns:
        admission.enter(turn)
    admission.withdraw(turns[0])
    is_full[0] = False
    clock.advance(LOOK_S)
    assert log == ["b"]


def test_who_ends_in_its_turn_does_not_start_the_next_inside_of_it() -> None:
    """Each that ends tells that its place is free, also while places are being given: the next one
    begins after it has returned, not inside of it."""
    admission = Admission(1, 5000, Clock())
    inside: list[int] = []
    depth = 0

    class Ends:
        def run(self) -> None:
            nonlocal depth
            depth += 1
            inside.append(depth)
            admission.leave()
            admission.fill()
            depth -= 1

    admission.enter(Turn("first", []))
    for _ in range(3000):
        admission.enter(Ends())
    admission.leave()
    admission.fill()
    assert inside == [1] * 3000


def test_a_fault_of_an_operation_does_not_stop_the_admission() -> None:
    """It goes up; the places are given on."""
    log: list[str] = []
    admission = Admission(1, 5, Clock())

    class Broken:
        def run(self) -> None:
            admission.leave()
            raise ValueError("broken")

    admission.enter(Turn("first", log))
    admission.enter(Broken())
    admission.enter(Turn("last", log))
    admission.leave()
    with pytest.raises(ValueError, match="broken"):
        admission.fill()
    admission.fill()
    assert log == ["first", "last"]


def test_one_timer_looks_for_room_and_only_where_it_helps() -> None:
    """Nobody looks while all places are taken: whoever leaves gives its place on. One timer serves
    all that wait, however often places are given; it goes on while any of them waits."""
    clock, is_full = Clock(), [False]
    admission = Admission(1, 5, clock, lambda: not is_full[0])
    turns = [Turn(name, []) for name in "abc"]
    for turn in turns:
        admission.enter(turn)
    assert clock.getDelayedCalls() == []
    is_full[0] = True
    admission.leave()
    for _ in range(2):
        admission.fill()
        assert [one.getTime() for one in clock.getDelayedCalls()] == [LOOK_S]
    admission.withdraw(turns[1])
    assert len(clock.getDelayedCalls()) == 1
    admission.withdraw(turns[2])
    assert clock.getDelayedCalls() == []
