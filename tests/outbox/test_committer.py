"""The committer by itself: the test chooses what the disk does and when, and the double of its
owner writes down in which order it is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from oda.errors import OutboxError
from oda.model import MessageClass
from oda.outbox.committer import RETRY_S, Committer, ICommitOwner, Job, State
from oda.outbox.queue import Amount, Row, RowState, Span
from oda.outbox.store import Opened, Recovered, StoreDamaged, StoreError, StoreMoved
from oda.outbox.transaction import ANSWER, TELEMETRY, Totals
from tests.outbox.chosen import ChosenStore, NotingWorker, Owner
from tests.outbox.fakes import disk_full

RECOVERING = Opened(Totals(), "", "old", {TELEMETRY: ([Span(1, 2)], Amount())})


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


FINE = (State.OPEN, True, True)
CLOSING = ["close reader", "closing"]


# -- opening ---------------------------------------------------------------------------------


def test_opening_is_done_at_once() -> None:
    """The owner takes up what the store has; no job is needed. Before, nothing can be read."""
    bench = Bench(is_open=False)
    assert bench.condition == (State.NEW, False, False)
    bench.committer.open()
    assert bench.seen() == ["open", "opened"]
    assert bench.condition == FINE
    assert not bench.committer.is_recovering
    assert not bench.has_job
    assert bench.timers() == []


def test_a_recovery_goes_on_after_opening() -> None:
    """The owner is asked for the end of this turn, where its first step begins."""
    bench = Bench(is_open=False)
    bench.store.opened = [RECOVERING]
    bench.committer.open()
    assert bench.seen() == ["open", "opened", "changed"]
    assert bench.committer.is_recovering
    bench.store.steps = [Recovered((), False, 1, "old", True), Recovered((), True, 2, "old", True)]
    bench.committer.submit()
    assert bench.worker.long == [True]
    bench.worker.step()
    assert bench.seen() == ["recover", "recovered", "changed", "tell"]
    assert bench.committer.is_recovering
    assert not bench.has_job, "the next step in another turn"
    bench.committer.submit()
    bench.worker.step()
    assert not bench.committer.is_recovering
    bench.committer.submit()
    assert not bench.has_job


@pytest.mark.parametrize("error", [disk_full(), OSError("no such place"), StoreDamaged("torn")])
def test_a_store_that_can_not_be_opened_is_tried_again(error: Exception) -> None:
    """Every few seconds, by the worker; whoever waits for it is told when it is open."""
    bench = Bench(is_open=False)
    bench.store.opened = [error, error]
    bench.committer.open()
    assert bench.condition == (State.TROUBLE, False, False)
    assert bench.seen() == ["open", "close reader"]
    assert bench.timers() == [RETRY_S]
    bench.collect()
    bench.committer.submit()
    assert not bench.has_job
    bench.clock.advance(RETRY_S)
    assert bench.timers() == []
    bench.worker.step()
    assert bench.seen() == ["open", "close reader", "tell"]
    assert bench.timers() == [RETRY_S]
    bench.clock.advance(RETRY_S)
    with capturedLogs() as logs:
        bench.worker.step()
    assert bench.seen() == ["open", "opened late", "totals", "tell"]
    assert [one["log_level"].name for one in logs] == ["info"]
    assert bench.condition == FINE
    assert bench.worker.long == [True, True, False]


def test_a_store_that_another_process_has_is_an_error() -> None:
    """Two agents on one store would be a mistake that must not pass unnoticed."""
    bench = Bench(is_open=False)
    bench.store.opened = [OutboxError("in use")]
    with pytest.raises(OutboxError, match="in use"):
        bench.committer.open()
    assert bench.timers() == []


def test_a_store_that_can_not_be_joined_is_given_up() -> None:
    """It is closed and left as it is; messages stay in memory, and nothing is tried any more."""
    bench = Bench(is_open=False)
    bench.store.opened = [disk_full()]
    bench.committer.open()
    bench.owner.joins = False
    bench.clock.advance(RETRY_S)
    bench.seen()
    bench.worker.step()
    assert bench.seen() == ["open", "opened late", "tell"]
    assert bench.condition == (State.TROUBLE, False, False)
    bench.collect()
    bench.committer.submit()
    assert len(bench.worker.jobs) == 1
    bench.worker.step()
    assert bench.seen() == ["close"]
    bench.committer.read_failed(disk_full())
    bench.committer.check_disk()
    bench.committer.submit()
    assert not bench.has_job
    assert (bench.seen(), bench.timers()) == ([], [])
    done = bench.committer.close()
    bench.worker.finish()
    assert done.called
    assert bench.seen() == [*CLOSING, "close", "tell"], "nothing is committed"


def test_who_stops_while_a_store_is_given_up_waits_for_that() -> None:
    """One job at a time, also at the end."""
    bench = Bench(is_open=False)
    bench.store.opened = [disk_full()]
    bench.committer.open()
    bench.owner.joins = False
    bench.clock.advance(RETRY_S)
    bench.worker.step()
    done = bench.committer.close()
    assert len(bench.worker.jobs) == 1
    bench.worker.finish()
    assert done.called
    assert bench.committer.state is State.CLOSED


# -- commits ---------------------------------------------------------------------------------


def test_nothing_is_committed_without_need() -> None:
    """An empty transaction is committed only for what was acknowledged."""
    bench = Bench()
    bench.committer.submit()
    assert not bench.has_job
    bench.committer.submit(even_without_rows=True)
    assert bench.has_job
    assert bench.worker.long == [False]
    bench.worker.step()
    assert bench.seen() == ["totals", "committed", "tell"]
    assert not bench.has_job


@pytest.mark.parametrize("totals", [b"{}", None])
def test_a_commit_has_the_totals_of_its_owner(totals: bytes | None) -> None:
    """They belong to the transaction, which is told together with what the store uses."""
    bench = Bench()
    bench.owner.totals = totals
    row = bench.collect()
    bench.committer.submit()
    assert bench.committer.uncommitted.running is not None
    bench.worker.step()
    ((transaction, used),) = bench.owner.transactions
    assert transaction.totals == totals
    assert list(transaction.rows[TELEMETRY].values()) == [row]
    assert used == 0
    assert bench.committer.uncommitted.running is None


@pytest.mark.parametrize(
    ("message_class", "is_held", "aside"),
    [(TELEMETRY, False, False), (ANSWER, False, True), (ANSWER, True, False)],
)
def test_the_reactor_does_not_wait_for_answers_that_are_sent(
    message_class: MessageClass, is_held: bool, aside: bool
) -> None:
    """An answer that may be sent before its commit is worth doing the commit aside."""
    bench = Bench()
    bench.collect(message_class, is_held)
    bench.committer.submit()
    assert bench.worker.aside == [aside]


def test_what_comes_during_a_commit_goes_with_the_next() -> None:
    """One at a time; the outcome is entered, the next begins, and then all are told: so whoever is
    told finds that a commit is under way."""
    bench = Bench()
    bench.collect()
    bench.committer.submit()
    bench.collect()
    bench.committer.submit()
    assert len(bench.worker.jobs) == 1
    bench.owner.on_tell = bench.committer.submit
    bench.worker.step()
    assert bench.seen() == ["totals", "committed", "totals", "tell"]
    assert len(bench.worker.jobs) == 1
    bench.worker.step()
    assert not bench.has_job


def test_a_commit_that_fails_is_tried_again() -> None:
    """Its owner hears of it with the rows that need not be written any more; until the next try,
    nothing is begun. One timer, one line in the log, whatever comes in between."""
    bench = Bench()
    gone, kept = bench.collect(), bench.collect()
    bench.committer.submit()
    bench.committer.uncommitted.delete(TELEMETRY, Span(1, 1))
    with capturedLogs() as logs:
        bench.worker.fail(disk_full())
        assert bench.seen() == ["totals", "close reader", "failed", "tell"]
        ((transaction, unwritten),) = bench.owner.transactions
        assert transaction is bench.committer.uncommitted.collecting
        assert unwritten == [gone]
        assert bench.condition == (State.TROUBLE, True, False)
        bench.committer.submit(even_without_rows=True)
        bench.committer.read_failed(disk_full())
        assert not bench.has_job
        assert bench.timers() == [RETRY_S]
        bench.clock.advance(RETRY_S)
        bench.seen()
        assert bench.timers() == []
        bench.worker.fail(disk_full())
        assert bench.timers() == [RETRY_S]
    assert [one["log_level"].name for one in logs] == ["error"]
    bench.clock.advance(RETRY_S)
    bench.seen()
    with capturedLogs() as logs:
        bench.worker.step()
    assert [one["log_level"].name for one in logs] == ["info"]
    assert bench.seen() == ["committed", "tell"]
    assert bench.condition == FINE
    assert bench.timers() == []
    assert bench.store.tables[TELEMETRY].rows.keys() == {kept.row_id}


def test_a_defect_is_told_as_such() -> None:
    """An error that no disk makes is one of ours: the log says so, and what it hit is kept."""
    bench = Bench()
    bench.collect()
    bench.committer.submit()
    with capturedLogs() as logs:
        bench.worker.fail(ZeroDivisionError("oops"))
    assert "a defect" in str(logs[0]["log_format"])
    assert len(logs) == 2
    assert bench.committer.state is State.TROUBLE
    for usual in (OSError("disk"), OutboxError("in use")):
        bench.clock.advance(RETRY_S)
        with capturedLogs() as logs:
            bench.worker.fail(usual)
        assert list(logs) == []


def test_the_operator_made_room() -> None:
    """What would be tried in a few seconds is tried now, once; without trouble there is nothing to
    try."""
    bench = Bench()
    bench.committer.check_disk()
    assert not bench.has_job
    bench.into_trouble()
    bench.committer.check_disk()
    assert len(bench.worker.jobs) == 1
    assert bench.timers() == []
    bench.committer.check_disk()
    assert len(bench.worker.jobs) == 1
    bench.worker.step()
    assert bench.condition == FINE
    assert bench.timers() == []


# -- a slow disk -----------------------------------------------------------------------------


def test_too_much_was_collected_for_a_commit_under_way() -> None:
    """It is waited for, once; the next one takes up what was collected, which makes room."""
    bench = Bench()
    bench.collect()
    assert bench.committer.relieve(), "nothing is under way: it is committed now"
    assert (bench.worker.waits, len(bench.worker.jobs)) == (0, 1)
    bench.collect()
    assert bench.committer.relieve()
    assert (bench.worker.waits, len(bench.worker.jobs)) == (1, 1)


def test_a_disk_that_hangs_is_waited_for_once() -> None:
    """After that it is not expected to work, until its job has ended."""
    bench = Bench()
    bench.collect()
    bench.committer.submit()
    bench.worker.hangs = True
    bench.collect()
    for _ in range(3):
        assert not bench.committer.relieve()
        assert bench.condition == (State.OPEN, True, False)
    assert bench.worker.waits == 1
    bench.worker.step()
    assert bench.condition == FINE
    bench.collect()
    assert not bench.committer.relieve()
    assert bench.worker.waits == 2, "once for each job"


def test_with_a_disk_that_fails_there_is_no_relief() -> None:
    """Nothing is waited for, not even for a try that is under way."""
    bench = Bench()
    bench.into_trouble()
    assert not bench.committer.relieve()
    bench.clock.advance(RETRY_S)
    assert bench.has_job
    assert not bench.committer.relieve()
    assert bench.worker.waits == 0


@pytest.mark.parametrize("is_well", [True, False])
@pytest.mark.parametrize("job", ["commit", "recover", "move", "replace", "open"])
def test_no_job_leaves_the_disk_stuck(job: str, is_well: bool) -> None:
    """Whatever hung: once it has ended, well or not, the next job is waited for again."""
    bench = Bench(is_open=job not in ("recover", "open"))
    if job == "recover":
        bench.store.opened = [RECOVERING]
        bench.store.steps = [Recovered((), True, 1, "old", True)]
        bench.committer.open()
        bench.committer.submit()
    elif job == "open":
        bench.store.opened = [disk_full()]
        bench.committer.open()
        bench.clock.advance(RETRY_S)
    elif job == "move":
        bench.committer.move(Path("/new")).addErrback(lambda _: None)
        bench.committer.submit()
    elif job == "replace":
        bench.lose_file()
        bench.committer.submit()
    else:
        bench.collect()
        bench.committer.submit()
    bench.worker.hangs = True
    bench.committer.relieve()
    bench.worker.hangs = False
    if is_well:
        bench.worker.step()
    else:
        bench.worker.fail(disk_full())
        bench.clock.advance(RETRY_S)
    bench.worker.finish()
    assert bench.condition == FINE


# -- reading ---------------------------------------------------------------------------------


def test_a_reader_that_fails_brings_trouble_unless_a_job_is_under_way() -> None:
    """The outcome of the job tells. Otherwise it is as if a commit had failed, at the end of this
    turn."""
    bench = Bench()
    bench.collect()
    bench.committer.submit()
    bench.committer.read_failed(disk_full())
    assert bench.seen() == ["totals"]
    bench.worker.step()
    bench.seen()
    bench.committer.read_failed(disk_full())
    assert bench.seen() == ["close reader", "changed"]
    assert bench.committer.state is State.TROUBLE
    assert bench.timers() == [RETRY_S]
    bench.clock.advance(RETRY_S)
    bench.worker.finish()
    assert bench.condition == FINE


def test_a_damaged_page_makes_a_new_store() -> None:
    """At the end of the turn; until then nothing is read and nothing expected of the old one."""
    bench = Bench()
    damage = StoreDamaged("a page is wrong")
    bench.committer.read_failed(damage)
    assert bench.seen() == ["changed"]
    assert bench.condition == (State.OPEN, False, False)
    bench.collect()
    bench.committer.submit()
    assert bench.seen() == ["detach", "close reader"]
    bench.worker.step()
    assert bench.store.faults == [damage]


# -- another store ---------------------------------------------------------------------------


def test_the_look_at_the_file_does_nothing_where_all_is_well() -> None:
    """Nor while something is under way, nor where it is known already."""
    bench = Bench()
    bench.committer.check()
    assert bench.seen() == []
    bench.collect()
    bench.committer.submit()
    bench.seen()
    bench.lose_file()
    assert bench.seen() == []
    bench.worker.step()
    bench.seen()
    bench.lose_file()
    assert bench.seen() == ["changed"]
    bench.lose_file()
    assert bench.seen() == []


def test_the_look_at_the_file_leaves_trouble_alone() -> None:
    """The next try finds out."""
    bench = Bench()
    bench.into_trouble()
    bench.lose_file()
    assert bench.seen() == []
    assert bench.committer.state is State.TROUBLE


def test_a_store_that_is_gone_is_replaced() -> None:
    """What is in memory is collected, the ranges that only the old one has are wanted of it, and
    after that all goes on with the new one."""
    bench = Bench()
    bench.owner.spans = {TELEMETRY: [Span(1, 5)]}
    bench.lose_file()
    bench.collect()
    bench.committer.submit()
    assert bench.condition == (State.OPEN, False, False)
    assert bench.worker.long == [True]
    bench.store.replaced = [RECOVERING]
    bench.seen()
    bench.worker.step()
    assert bench.seen() == ["replace", "replaced", "totals", "tell"]
    assert bench.store.wanted == [{TELEMETRY: [Span(1, 5)]}]
    assert isinstance(bench.store.faults[0], StoreMoved)
    assert bench.condition == FINE
    assert bench.committer.is_recovering
    bench.worker.step()
    assert bench.timers() == []


def test_a_commit_that_finds_damage_makes_a_new_store_at_once() -> None:
    """There is no trouble with the disk: nobody waits, and what failed goes into the new one."""
    bench = Bench()
    row = bench.collect()
    bench.committer.submit()
    bench.seen()
    bench.worker.fail(StoreDamaged("torn"))
    assert bench.seen() == ["failed", "detach", "close reader", "tell"]
    assert bench.committer.state is State.OPEN
    bench.worker.finish()
    assert bench.condition == FINE
    assert not bench.committer.is_recovering
    assert bench.store.tables[TELEMETRY].rows.keys() == {row.row_id}


@pytest.mark.parametrize("error", [disk_full(), StoreDamaged("at once"), OSError("no space")])
def test_a_replacement_that_fails_is_tried_again_with_all_that_was_wanted(error: Exception) -> None:
    """The disk has to be waited for, even where the new file is damaged at once. The ranges of the
    first try are wanted in the second as well, and those of both are forgotten once it worked."""
    bench = Bench()
    bench.owner.spans = {TELEMETRY: [Span(1, 5)]}
    bench.store.replaced = [error]
    bench.lose_file()
    bench.committer.submit()
    bench.worker.step()
    assert bench.condition == (State.TROUBLE, False, False)
    assert bench.timers() == [RETRY_S]
    assert not bench.has_job
    bench.owner.spans = {TELEMETRY: [Span(8, 9)], ANSWER: [Span(3, 3)]}
    bench.clock.advance(RETRY_S)
    bench.worker.step()
    assert bench.store.wanted[-1] == {TELEMETRY: [Span(1, 5), Span(8, 9)], ANSWER: [Span(3, 3)]}
    assert isinstance(bench.store.faults[-1], StoreMoved)
    assert bench.condition == FINE
    assert bench.timers() == []
    bench.owner.spans = {}
    bench.lose_file()
    bench.committer.submit()
    bench.worker.step()
    assert bench.store.wanted[-1] == {}


def test_a_stop_does_not_wait_for_a_replacement_that_fails() -> None:
    """It is tried once; then what is only in memory is told as lost, and everything is closed."""
    bench = Bench()
    bench.lose_file()
    bench.collect()
    done = bench.committer.close()
    bench.seen()
    bench.worker.fail(disk_full())
    assert bench.seen() == ["close reader", *CLOSING, "tell"]
    bench.worker.step()
    assert done.called
    assert bench.timers() == []


def test_a_stop_finishes_a_replacement() -> None:
    """What was collected is committed to the new store before the end."""
    bench = Bench()
    bench.lose_file()
    row = bench.collect()
    done = bench.committer.close()
    bench.worker.finish()
    assert done.called
    assert bench.store.tables[TELEMETRY].rows.keys() == {row.row_id}


# -- recovery --------------------------------------------------------------------------------


def test_live_data_goes_before_the_next_step_of_a_recovery() -> None:
    """What was collected during a step is committed first, then the next step begins without
    another turn."""
    bench = Bench(is_open=False)
    bench.store.opened = [RECOVERING]
    bench.store.steps = [Recovered((), False, 1, "old", True), Recovered((), True, 2, "old", True)]
    bench.committer.open()
    bench.committer.submit()
    bench.collect()
    bench.seen()
    bench.worker.step()
    assert not bench.has_job
    bench.committer.submit()
    bench.worker.step()
    assert bench.has_job
    bench.worker.step()
    assert bench.seen() == [
        *("recover", "recovered", "changed", "tell"),
        *("totals", "committed", "tell"),
        *("recover", "recovered", "changed", "tell"),
    ]


def test_a_step_that_fails_is_tried_again() -> None:
    """The recovery is not at its end: it goes on once the disk works."""
    bench = Bench(is_open=False)
    bench.store.opened = [RECOVERING]
    bench.store.steps = [disk_full(), Recovered((), True, 2, "old", True)]
    bench.committer.open()
    bench.committer.submit()
    bench.worker.step()
    assert bench.committer.state is State.TROUBLE
    assert bench.committer.is_recovering
    bench.clock.advance(RETRY_S)
    bench.worker.finish()
    assert not bench.committer.is_recovering
    assert bench.condition == FINE


@pytest.mark.parametrize("is_well", [True, False])
def test_a_stop_waits_for_a_step_and_begins_no_other(is_well: bool) -> None:
    """The rest is copied after the next start."""
    bench = Bench(is_open=False)
    bench.store.opened = [RECOVERING]
    bench.store.steps = [Recovered((), False, 1, "old", True) if is_well else disk_full()]
    bench.committer.open()
    bench.committer.submit()
    done = bench.committer.close()
    bench.worker.finish()
    assert done.called
    assert bench.seen().count("recover") == 1
    assert bench.timers() == []


# -- moving ----------------------------------------------------------------------------------


def test_a_store_is_moved_between_two_commits() -> None:
    """Meanwhile it can't be read, which is no fault of it; then whoever asked is told, and all goes
    on."""
    bench = Bench()
    bench.collect()
    bench.committer.submit()
    waiting = bench.committer.move(Path("/new"))
    bench.committer.submit()
    assert (bench.seen(), bench.committer.is_moving) == (["totals", "changed"], False)
    bench.worker.step()
    assert bench.seen() == ["committed", "close reader", "tell"]
    assert bench.committer.is_moving
    assert bench.condition == (State.OPEN, False, True)
    assert bench.worker.long == [False, True]
    bench.collect()
    bench.committer.submit()
    bench.worker.step()
    assert bench.seen() == ["move", "fire", "readable", "totals", "tell"]
    assert bench.owner.fired == [(waiting, None)]
    assert bench.store.moves == [Path("/new")]
    bench.worker.step()
    assert bench.condition == FINE
    bench.committer.submit()
    assert not bench.has_job, "it is moved once"


def problem_of(bench: Bench) -> str:
    """Why a move failed."""
    ((_, outcome),) = bench.owner.fired
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.value, OutboxError)
    return str(outcome.value)


@pytest.mark.parametrize(
    ("error", "defects"),
    [(disk_full(), 0), (OSError("x"), 0), (OutboxError("y"), 0), (KeyError(), 1)],
)
def test_a_move_that_fails_leaves_all_as_it_was(error: Exception, defects: int) -> None:
    """Whoever asked hears why; the disk is not the worse for it."""
    bench = Bench()
    bench.store.fails_to_move = error
    bench.committer.move(Path("/new"))
    bench.committer.submit()
    with capturedLogs() as logs:
        bench.worker.step()
    assert "can't be moved to /new" in problem_of(bench)
    assert str(error) in problem_of(bench)
    assert len(logs) == defects
    assert bench.condition == FINE
    assert bench.timers() == []


@pytest.mark.parametrize("error", [StoreMoved("gone"), StoreDamaged("torn")])
def test_a_move_that_finds_the_store_unusable_replaces_it(error: StoreError) -> None:
    """As whoever else finds out."""
    bench = Bench()
    bench.store.fails_to_move = error
    bench.committer.move(Path("/new"))
    bench.committer.submit()
    bench.worker.step()
    assert "can't be moved" in problem_of(bench)
    bench.worker.step()
    assert bench.store.faults == [error]
    assert bench.condition == FINE


def test_a_move_waits_for_the_disk_and_for_a_recovery() -> None:
    """A store whose disk fails, or of which a part is elsewhere, stays at its place."""
    bench = Bench()
    bench.into_trouble()
    bench.committer.move(Path("/new"))
    bench.committer.submit()
    assert not bench.has_job
    bench.clock.advance(RETRY_S)
    bench.worker.step()
    assert bench.committer.is_moving
    bench.worker.step()
    bench = Bench(is_open=False)
    bench.store.opened = [RECOVERING]
    bench.store.steps = [Recovered((), True, 1, "old", True)]
    bench.committer.open()
    bench.committer.move(Path("/new"))
    bench.committer.submit()
    bench.seen()
    bench.worker.step()
    assert bench.seen() == ["recover", "recovered", "changed", "tell"]
    bench.committer.submit()
    assert bench.committer.is_moving


def test_the_last_place_counts() -> None:
    """Whoever asked for another one before hears that it is not moved there."""
    bench = Bench()
    first = bench.committer.move(Path("/first"))
    second = bench.committer.move(Path("/second"))
    ((waiting, outcome),) = bench.owner.fired
    assert waiting is first
    assert isinstance(outcome.value, OutboxError)
    bench.committer.submit()
    bench.worker.step()
    assert bench.owner.fired[1] == (second, None)
    assert bench.store.moves == [Path("/second")]


def test_a_move_that_is_due_is_done_before_a_stop() -> None:
    """After the last commit: the next start looks for the store at its new place."""
    bench = Bench()
    bench.collect()
    bench.committer.move(Path("/new"))
    done = bench.committer.close()
    bench.worker.finish()
    assert done.called
    assert bench.store.moves == [Path("/new")]
    assert bench.seen()[-4:] == ["closing", "tell", "close", "tell"]


def test_a_move_that_can_not_be_done_before_a_stop_fails() -> None:
    """The store is where it was; whoever asked hears it before the end."""
    bench = Bench()
    bench.into_trouble()
    bench.committer.move(Path("/new"))
    done = bench.committer.close()
    bench.worker.fail(disk_full())
    bench.worker.finish()
    assert "the agent is stopping" in problem_of(bench)
    assert bench.store.moves == []
    assert done.called
    assert bench.seen()[-6:] == ["close reader", "fire", "closing", "tell", "close", "tell"]


# -- the end ---------------------------------------------------------------------------------


def test_a_stop_writes_the_last_totals() -> None:
    """Even where nothing was collected. Then everything is closed, and no thread or timer is left;
    asking again gives the same."""
    bench = Bench()
    done = bench.committer.close()
    assert bench.committer.close() is done
    bench.worker.step()
    assert bench.seen() == ["last totals", "committed", *CLOSING, "tell"]
    assert bench.committer.state is State.CLOSED
    assert not bench.worker.is_stopped
    assert not done.called
    bench.worker.step()
    assert bench.seen() == ["close", "tell"]
    assert bench.worker.is_stopped
    assert done.called
    bench.collect()
    bench.committer.submit()
    bench.committer.check()
    assert not bench.has_job


def test_a_stop_commits_what_was_collected_during_the_last_commit() -> None:
    """As long as something is collected there is one more."""
    bench = Bench()
    bench.collect()
    done = bench.committer.close()
    late: list[Row] = []
    bench.owner.on_committed = lambda: None if late else late.append(bench.collect())
    bench.worker.finish()
    assert done.called
    assert bench.seen().count("committed") == 2
    assert late[0].row_id in bench.store.tables[TELEMETRY].rows


def test_a_stop_tries_a_disk_that_failed_once_more() -> None:
    """Now, and without a timer; where it fails again, that is the end."""
    bench = Bench()
    bench.into_trouble()
    done = bench.committer.close()
    assert bench.timers() == []
    bench.worker.fail(disk_full())
    assert bench.timers() == []
    assert bench.seen() == [
        *("last totals", "close reader", "failed"),
        *(*CLOSING, "tell"),
    ]
    bench.worker.step()
    assert done.called


def test_a_store_that_goes_away_during_a_stop_is_replaced() -> None:
    """After the last commit, too: what was accepted is written into a new store before the end."""
    bench = Bench()
    bench.collect()
    done = bench.committer.close()

    def goes_away() -> None:
        bench.store.is_moved_away = not bench.store.wanted

    bench.owner.on_committed = goes_away
    bench.worker.step()
    bench.store.is_moved_away = False
    assert bench.seen() == [
        *("last totals", "committed", "detach", "close reader", "tell"),
    ]
    bench.worker.step()
    assert bench.seen() == ["replace", "replaced", "last totals", "tell"]
    bench.worker.finish()
    assert done.called
    assert bench.seen() == ["committed", *CLOSING, "tell", "close", "tell"]


def test_a_stop_replaces_a_store_so_often() -> None:
    """A disk that damages each new one is given up after the third; what is only in memory is told
    as lost, and everything is closed."""
    bench = Bench()
    bench.collect()
    bench.committer.submit()
    done = bench.committer.close()
    replaced = 0
    while not done.called:
        if bench.committer.uncommitted.running is not None:
            bench.worker.fail(StoreDamaged("torn"))
        else:
            replaced += bench.committer._job is Job.REPLACE
            bench.worker.step()
    assert replaced == 3
    assert bench.timers() == []
    assert bench.seen().count("closing") == 1


def test_a_store_that_goes_away_again_and_again_does_not_hold_up_a_stop() -> None:
    """After the third new one it is not looked for any more."""
    bench = Bench()
    bench.store.is_moved_away = True
    done = bench.committer.close()
    bench.worker.finish()
    assert done.called
    assert len(bench.store.wanted) == 3


def test_a_stop_of_what_was_never_open_commits_nothing() -> None:
    """There is no store for it."""
    bench = Bench(is_open=False)
    bench.store.opened = [disk_full()]
    bench.committer.open()
    bench.collect()
    done = bench.committer.close()
    assert bench.timers() == []
    bench.worker.finish()
    assert done.called
    assert bench.seen() == ["open", "close reader", *CLOSING, "close", "tell"]


def test_a_store_that_turns_up_during_a_stop_is_closed_again() -> None:
    """The try that was under way worked: what is in memory is committed to it before the end."""
    bench = Bench(is_open=False)
    bench.store.opened = [disk_full()]
    bench.committer.open()
    bench.clock.advance(RETRY_S)
    row = bench.collect()
    done = bench.committer.close()
    bench.worker.finish()
    assert done.called
    assert bench.timers() == []
    assert row.state is RowState.PENDING
    assert bench.seen().count("close") == 1


def test_a_store_that_does_not_close_well_holds_up_nobody() -> None:
    """The log says it; the end is the end."""
    bench = Bench()
    done = bench.committer.close()
    bench.worker.step()
    with capturedLogs() as logs:
        bench.worker.fail(disk_full())
    assert done.called
    assert done.result is None
    assert [one["log_level"].name for one in logs] == ["error"]


def test_the_double_of_the_owner_has_the_owner_s_methods() -> None:
    """It would be no use otherwise."""
    owner: ICommitOwner = Owner([])
    for name in (one for one in vars(ICommitOwner) if not one.startswith("_")):
        assert callable(getattr(owner, name))
