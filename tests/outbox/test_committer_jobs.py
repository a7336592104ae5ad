"""The longer jobs of the committer by itself: another store, a recovery, a move."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from oda.errors import OutboxError
from oda.outbox.committer import RETRY_S, State
from oda.outbox.queue import Span
from oda.outbox.store import Recovered, StoreDamaged, StoreError, StoreMoved
from oda.outbox.transaction import ANSWER, TELEMETRY
from tests.outbox.chosen import CLOSING, FINE, RECOVERING, Bench
from tests.outbox.fakes import disk_full

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
    bench.worker.step()
    bench.owner.spans = {}
    bench.lose_file()
    bench.committer.submit()
    bench.worker.step()
    assert bench.store.wanted[-1] == {}


def test_a_new_store_gets_a_commit_before_anything_is_copied_into_it() -> None:
    """Even where nothing was collected: its totals say which ids are given away, and that nothing
    is left in memory that the old store has."""
    bench = Bench()
    bench.lose_file()
    bench.store.replaced = [RECOVERING]
    bench.store.steps = [Recovered((), True, 1, "old", True)]
    bench.committer.submit()
    bench.seen()
    bench.worker.step()
    assert bench.seen() == ["replace", "replaced", "totals", "tell"]
    bench.worker.step()
    assert bench.seen() == ["committed", "tell"]
    bench.worker.step()
    assert bench.seen() == ["recover", "recovered", "changed", "tell"]


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
