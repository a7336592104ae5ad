"""Who runs, who waits, and who is turned away."""

from __future__ import annotations

from oda.operations.admission import Admission


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
    admission = Admission(max_running=2, max_waiting=2)
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
    admission = Admission(1, 5)
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
    admission = Admission(1, 5)

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
    admission = Admission(1, 5000)
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
    admission = Admission(2, 5)
    for name in "abcd":
        admission.enter(Turn(name, log))
    admission.max_running = 1
    admission.leave()
    admission.fill()
    assert (log, admission.running) == (["a", "b"], 1)
    admission.max_running = 3
    admission.fill()
    assert log == ["a", "b", "c", "d"]
