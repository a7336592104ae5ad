"""The committer by itself: the test chooses what the disk does and when, and the double of its
owner writes down in which order it is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.logger import capturedLogs

from oda.errors import OutboxError
from oda.model import MessageClass
from oda.outbox.committer import RETRY_S, ICommitOwner, Job, State
from oda.outbox.queue import Row, RowState, Span
from oda.outbox.store import Recovered, StoreDamaged
from oda.outbox.transaction import ANSWER, TELEMETRY
from tests.outbox.chosen import CLOSING, FINE, RECOVERING, Bench, Owner
from tests.outbox.fakes import disk_full

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
