"""What the durable outbox promises to the connector, one by one."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from oda.errors import OutboxClosed
from oda.interfaces import ICounters, IJournal, IOutbox, IWallClock
from oda.model import MessageClass
from oda.outbox.committer import RETRY_S
from oda.outbox.worker import SLOW_S, AdaptiveWorker, InlineWorker, IWorker, ThreadWorker
from tests.outbox.fakes import Device, FakeCounters, FakeWallClock, StepWorker, disk_full


def outcome(put: Deferred[Any]) -> object:
    found: list[object] = []
    put.addBoth(found.append)
    return getattr(found[0], "value", found[0]) if found else None


def payloads(device: Device) -> list[bytes]:
    return [row.payload for row in device.take_all()]


def test_everything_keeps_its_contract(tmp_path: Path) -> None:
    """The outbox, its journal, the workers and the doubles of these tests."""
    device = Device(tmp_path / "outbox.sqlite")
    assert verifyObject(IOutbox, device.outbox)
    assert verifyObject(IJournal, device.outbox.journal)
    for worker in (StepWorker(), InlineWorker(), ThreadWorker(print)):
        assert verifyObject(IWorker, worker)
    assert verifyObject(IWorker, AdaptiveWorker(StepWorker(), lambda: 0.0))
    assert verifyObject(ICounters, FakeCounters())
    assert verifyObject(IWallClock, FakeWallClock(device.clock))
    device.stop()


def test_sent_before_committed_but_accepted_after(tmp_path: Path) -> None:
    """Sending need not wait for the disk, accepting must."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    put = device.put_all([b"one"])[0]
    assert [row.payload for row in device.take()] == [b"one"]
    assert not put.called
    device.worker.step()
    assert outcome(put) == 1
    device.stop()


def test_one_commit_for_a_turn_and_one_for_what_came_meanwhile(tmp_path: Path) -> None:
    """Group commit: no more than one commit is under way, and each takes all there is."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    first = device.put_all([b"a"] * 10)
    assert len(device.worker.jobs) == 1
    second = device.put_all([b"b"] * 10) + device.put_all([b"c"] * 10)
    assert len(device.worker.jobs) == 1
    device.worker.step()
    assert all(put.called for put in first)
    assert not any(put.called for put in second)
    assert len(device.worker.jobs) == 1
    device.worker.step()
    assert all(put.called for put in second)
    assert not device.worker.jobs
    device.stop()


def test_before_open_and_after_close_nothing_is_accepted(tmp_path: Path) -> None:
    """Both fail with OutboxClosed, and close can be called twice."""
    device = Device(tmp_path / "outbox.sqlite")
    device.stop()
    assert isinstance(outcome(device.put(b"late")), OutboxClosed)
    assert outcome(device.outbox.close()) is None


def test_the_owner_is_told_once_for_a_turn(tmp_path: Path) -> None:
    """However many messages came; and again after a start with a backlog, and after a rewind."""
    device = Device(tmp_path / "outbox.sqlite")
    device.put_all([b"x"] * 20)
    assert device.told == 1
    device.turn()
    assert device.told == 1
    device.take_all()
    device.outbox.rewind(False)
    device.turn()
    assert device.told == 2
    device.restart()
    assert device.told == 1
    device.stop()


def test_the_fresh_form_is_sent_once_and_only_soon(tmp_path: Path) -> None:
    """The reduced form goes out on a first attempt in time; everything later is the full one."""
    device = Device(tmp_path / "outbox.sqlite")
    device.put(b"full 1", fresh_payload=b"fresh 1", fresh_until_s=5.0)
    device.put(b"full 2", fresh_payload=b"fresh 2", fresh_until_s=5.0)
    device.turn()
    assert [row.payload for row in device.take(1)] == [b"fresh 1"]
    device.outbox.rewind(False)
    device.clock.advance(5.1)
    assert payloads(device) == [b"full 1", b"full 2"]
    device.stop()


def test_no_linger_means_gone_at_once(tmp_path: Path) -> None:
    """Acknowledged rows that were not yet handed to the disk are accepted and never written."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker, linger_s=0.0)
    put = device.put(b"fast")
    (row,) = device.take()
    device.outbox.retire([row.row_id])
    device.turn()
    assert outcome(put) == row.row_id
    device.crash()
    assert payloads(device) == []
    device.worker.finish()
    device.stop()


def test_a_clean_end_settles_what_lingers(tmp_path: Path) -> None:
    """After a close with 1000 acknowledged rows are not sent again; what was not is."""
    device = Device(tmp_path / "outbox.sqlite")
    device.put_all([b"one", b"two"])
    (first,) = device.take(1)
    device.outbox.retire([first.row_id])
    device.outbox.settle()
    device.restart()
    assert payloads(device) == [b"two"]
    device.stop()


def test_ids_are_never_used_again(tmp_path: Path) -> None:
    """Not after a restart either, when no row is left."""
    device = Device(tmp_path / "outbox.sqlite", linger_s=0.0)
    device.put_all([b"one", b"two"])
    device.outbox.retire([row.row_id for row in device.take()])
    device.restart()
    assert outcome(device.put_all([b"three"])[0]) == 3
    device.stop()


def test_dead_letters_come_back_when_asked(tmp_path: Path) -> None:
    """They survive a restart, are put behind what waits, and stay one message in the accounts."""
    device = Device(tmp_path / "outbox.sqlite")
    device.put_all([b"one", b"two", b"three"])
    device.outbox.bury([device.take(1)[0].row_id], "refused")
    device.restart()
    assert device.outbox.counts()["dead"] == 1
    assert device.outbox.retry_dead() == 1
    device.turn()
    assert device.outbox.counts()["dead"] == 0
    device.restart()
    assert payloads(device) == [b"two", b"three", b"one"]
    totals = device.outbox.totals()
    assert (totals.accepted.messages, totals.dead.messages) == (3, 0)
    device.stop()


def test_purging_leaves_what_is_on_its_way(tmp_path: Path) -> None:
    """Pending rows and dead letters go, rows in flight stay; the accounts say so."""
    device = Device(tmp_path / "outbox.sqlite", head_rows=5)
    device.put_all([b"%d" % number for number in range(100)])
    device.outbox.bury([device.take(1)[0].row_id], "a test")
    in_flight = device.take(3)
    assert device.outbox.purge() == 97
    device.turn()
    device.outbox.rewind(False)
    assert payloads(device) == [row.payload for row in in_flight]
    assert device.outbox.counts()["dead"] == 0
    assert device.counters["datapoints_dropped:purged"] == 96
    device.restart()
    assert len(payloads(device)) == 3
    device.stop()


def test_responses_overtake(tmp_path: Path) -> None:
    """Those of the backlog, too, and alone when asked for."""
    device = Device(tmp_path / "outbox.sqlite", head_rows=3)
    device.put_all([b"t%d" % number for number in range(50)])
    device.put(b"answer", response=True)
    device.turn()
    assert [row.payload for row in device.outbox.take(1, 0, MessageClass.RESPONSE)] == [b"answer"]
    device.restart()
    assert [row.payload for row in device.take(2)] == [b"answer", b"t0"]
    device.stop()


def test_the_oldest_age_is_told(tmp_path: Path) -> None:
    """Of what is pending or in flight, in milliseconds."""
    device = Device(tmp_path / "outbox.sqlite")
    assert device.outbox.counts()["oldest_age_ms"] == 0
    device.put_all([b"one"])
    device.clock.advance(7.0)
    assert device.outbox.counts()["oldest_age_ms"] == 7000
    device.stop()


def test_what_was_let_go_is_not_read_again(tmp_path: Path) -> None:
    """Rows whose deletion waits for a commit are still in the file; a replay passes over them."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker, linger_s=10.0)
    device.put_all([b"%d" % number for number in range(6)])
    device.worker.finish()
    early, late = device.take(2), device.take(2)
    device.outbox.retire([row.row_id for row in early])
    device.clock.pump([1.0] * 6)
    device.outbox.retire([row.row_id for row in late])
    device.clock.pump([1.0] * 6)
    assert device.worker.jobs, "the deletion is under way"
    device.outbox.rewind(True)
    assert payloads(device) == [b"2", b"3", b"4", b"5"]
    assert device.outbox.counts()["waiting"] == 0
    device.stop()


def test_what_was_buried_is_not_read_again(tmp_path: Path) -> None:
    """The same for a dead letter that is not yet one on disk."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    device.put_all([b"%d" % number for number in range(4)])
    device.worker.finish()
    first, second = device.take(2)
    device.outbox.bury([second.row_id], "refused")
    device.outbox.retire([first.row_id])
    device.outbox.rewind(True)
    assert payloads(device) == [b"0", b"2", b"3"]
    device.stop()


def test_what_was_let_go_before_it_could_be_written_never_is(tmp_path: Path) -> None:
    """A row of a failed commit that is delivered meanwhile is in no later one."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker, linger_s=5.0)
    puts = device.put_all([b"one", b"two"])
    (row,) = device.take(1)
    device.outbox.retire([row.row_id])
    device.clock.pump([1.0] * 11)  # let go while the commit is under way
    device.worker.fail(disk_full())
    assert outcome(puts[0]) == 1
    device.clock.advance(RETRY_S)
    device.worker.finish()
    device.restart()
    assert payloads(device) == [b"two"]
    assert device.outbox.totals().delivered.messages == 1
    device.stop()


@pytest.mark.parametrize("acknowledged", [[1], [0, 2], [2, 0], [1, 3]])
def test_rows_between_acknowledged_ones_stay(acknowledged: list[int], tmp_path: Path) -> None:
    """Whatever is acknowledged, in whatever order: only that is deleted."""
    device = Device(tmp_path / "outbox.sqlite", linger_s=5.0)
    device.put_all([b"%d" % number for number in range(5)])
    rows = device.take(4)
    for which in acknowledged:
        device.outbox.retire([rows[which].row_id])
    device.clock.pump([1.0] * 7)
    device.restart()
    assert payloads(device) == [b"%d" % one for one in range(5) if one not in acknowledged]
    device.stop()


def test_rows_acknowledged_together_with_a_gap(tmp_path: Path) -> None:
    """The row in the gap stays, in one call as in several."""
    device = Device(tmp_path / "outbox.sqlite", linger_s=0.0)
    device.put_all([b"%d" % number for number in range(3)])
    rows = device.take(3)
    device.outbox.retire([rows[0].row_id, rows[2].row_id])
    device.turn()
    device.crash()
    assert payloads(device) == [b"1"]
    device.stop()


# -- workers ---------------------------------------------------------------------------------


def test_the_thread_works_in_order_and_ends() -> None:
    """Jobs run one after the other, outcomes and failures come back, and no thread is left."""
    calls: list[tuple[Any, ...]] = []
    arrived = threading.Semaphore(0)

    def call_from_thread(*call: Any) -> None:
        calls.append(call)
        arrived.release()

    before = threading.active_count()
    worker = ThreadWorker(call_from_thread)
    ran: list[int] = []
    outcomes: list[Any] = []

    def job(number: int) -> int:
        ran.append(number)
        return 100 // number

    for number in (5, 0, 4):
        worker.run(lambda number=number: job(number), outcomes.append)
    worker.wait()
    assert outcomes == [20]
    for _ in range(3):
        assert arrived.acquire(timeout=10)
    for function, *arguments in calls:
        function(*arguments)
    worker.stop()
    assert ran == [5, 0, 4]
    assert outcomes[0] == 20
    assert outcomes[1].check(ZeroDivisionError)
    assert outcomes[2:] == [25]
    assert threading.active_count() == before


def test_a_slow_disk_gets_a_thread_and_a_fast_one_none() -> None:
    """One commit that takes a little longer changes nothing; a very slow one, or several, do. Going
    back takes many fast ones."""
    now = [0.0]
    thread = StepWorker()
    worker = AdaptiveWorker(thread, lambda: now[0])
    done: list[object] = []

    def run(takes_s: float) -> bool:
        """Whether a commit that takes so long was given to the thread."""

        def job() -> None:
            now[0] += takes_s

        worker.run(job, done.append)
        was_given = bool(thread.jobs)
        thread.finish()
        return was_given

    assert [run(SLOW_S * 2) for _ in range(5)] == [False] * 5
    assert [run(SLOW_S / 10) for _ in range(30)] == [False] * 30
    assert [run(SLOW_S * 2) for _ in range(30)][-1] is True
    while run(0.0):
        pass
    assert not run(SLOW_S * 50)
    given = 0
    while run(0.0):
        given += 1
    assert given >= 10
    worker.run(lambda: None, done.append, takes_long=True)
    worker.run(lambda: None, done.append)
    assert len(thread.jobs) == 2, "nothing overtakes a job that is under way"


def test_a_job_that_is_overtaken_gets_a_thread_on_a_fast_disk_too() -> None:
    """The reactor has something better to do than to wait for it."""
    thread = StepWorker()
    worker = AdaptiveWorker(thread, lambda: 0.0)
    done: list[object] = []
    worker.run(lambda: "aside", done.append, aside=True)
    worker.run(lambda: "behind", done.append)
    assert not done, "nothing overtakes a job that is under way"
    thread.finish()
    assert done == ["aside", "behind"]
    worker.run(lambda: "inline", done.append)
    assert done == ["aside", "behind", "inline"]


def test_commits_are_overtaken_by_answers_that_wait_for_none(tmp_path: Path) -> None:
    """An answer of an operation that reads is sent before its commit: the next request must not
    wait for that. One that acts waits itself, and telemetry has time."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    journal = device.outbox.journal
    device.put_all([b"telemetry"])
    device.worker.finish()
    begun = journal.begin("1", "SET", True)
    assert isinstance(begun, Deferred)
    device.turn()
    device.worker.finish()
    device.put(b"held", response=True, record=outcome(begun), waits_for_commit=True)
    device.turn()
    device.worker.finish()
    assert device.worker.aside == [False, False, False]
    device.put(b"free", response=True, record=journal.begin("2", "GET", False))
    device.turn()
    assert device.worker.aside == [False, False, False, True]
    device.stop()


@pytest.mark.parametrize("inline", [True, False])
def test_real_workers_commit(inline: bool, tmp_path: Path) -> None:
    """With a real thread as with none, everything accepted is in the file."""
    calls: list[tuple[Any, ...]] = []
    arrived = threading.Semaphore(0)

    def call_from_thread(*call: Any) -> None:
        calls.append(call)
        arrived.release()

    def make() -> IWorker:
        return InlineWorker() if inline else ThreadWorker(call_from_thread)

    device = Device(tmp_path / "outbox.sqlite", make)

    def hear() -> None:
        if not inline:
            assert arrived.acquire(timeout=10)
            function, *arguments = calls.pop(0)
            function(*arguments)

    puts = device.put_all([b"%d" % number for number in range(300)])
    hear()
    assert all(put.called for put in puts)
    closed = device.outbox.close()
    for _ in range(2):  # the last commit, and closing
        hear()
    assert closed.called
    assert outcome(closed) is None
    device.make_worker = InlineWorker
    device.start()
    assert len(device.take_all()) == 300
    device.stop()
