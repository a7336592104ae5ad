"""A disk that is full, too slow or not there: live data flows, nothing is lost unsaid."""

from __future__ import annotations

import gc
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from oda.errors import OutboxClosed, OutboxFull
from oda.outbox.committer import RETRY_S, State
from oda.outbox.store import StoreDamaged
from oda.settings import OutboxPolicy
from tests.outbox.fakes import Device, StepWorker, disk_full


def outcome(put: Deferred[Any]) -> object:
    found: list[object] = []
    put.addBoth(found.append)
    return getattr(found[0], "value", found[0]) if found else None


def failing(device: Device) -> None:
    """Let the commit that is under way fail."""
    device.worker.fail(disk_full())


def test_live_data_flows_from_memory(tmp_path: Path) -> None:
    """With a full disk messages are given for sending; a put is accepted when the platform has
    acknowledged it, or when a later try succeeds, whichever comes first."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    with capturedLogs() as logs:
        puts = device.put_all([b"one", b"two", b"three"])
        failing(device)
        assert device.outbox.state is State.TROUBLE
        first, second = device.take(2)
        device.outbox.retire([first.row_id])
        assert not any(put.called for put in puts), "nobody is told inside a call"
        device.turn()
        assert [put.called for put in puts] == [True, False, False]
        device.clock.advance(RETRY_S)
        failing(device)
        device.clock.advance(RETRY_S)
        device.worker.step()
    assert [put.called for put in puts] == [True, True, True]
    assert device.outbox.state is State.OPEN
    lines = [str(one["log_format"]) for one in logs if one["log_namespace"].startswith("oda")]
    assert len(lines) == 2, "one line for each change of state"
    device.outbox.rewind(False)
    assert [row.payload for row in device.take_all()] == [b"two", b"three"]
    assert second.payload == b"two"
    device.stop()


def test_what_is_put_on_an_acceptance_is_not_lost(tmp_path: Path) -> None:
    """A commit fails, and a message of it that was let go meanwhile is told to be accepted: what is
    put in that moment is committed with the next try, like all that was put before."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker, linger_s=0.0)
    (first,) = device.put_all([b"one"])
    later: list[Deferred[Any]] = []
    first.addCallback(lambda _: later.append(device.put(b"two")))
    device.outbox.retire([row.row_id for row in device.take(1)])
    failing(device)
    assert len(later) == 1
    device.clock.advance(RETRY_S)
    device.worker.finish()
    assert later[0].called
    device.restart()
    assert [row.payload for row in device.take_all()] == [b"two"]
    device.stop()


def test_memory_is_bounded_and_drops_are_told(tmp_path: Path) -> None:
    """What can't be kept any more is dropped, oldest first: its put fails, and it is counted."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker, max_bytes=1024 * 1024, head_rows=20)
    puts = device.put_all([b"%05d" % 0 * 20])
    failing(device)
    in_flight = device.take(1)
    for number in range(1, 3000):
        puts.append(device.put(b"%05d" % number * 20))
    counts = device.outbox.counts()
    assert counts["uncommitted_bytes"] <= 1024 * 1024 // 15
    device.turn()
    outcomes = [outcome(put) for put in puts]
    lost = [number for number, one in enumerate(outcomes) if isinstance(one, OutboxFull)]
    assert lost == list(range(1, len(lost) + 1)), "the oldest that is not on its way"
    assert device.counters["messages_dropped:disk"] == len(lost)
    found = [*in_flight, *device.take_all()]
    expected = [0, *range(len(lost) + 1, 3000)]
    assert [row.payload for row in found] == [b"%05d" % number * 20 for number in expected]
    device.clock.advance(RETRY_S)
    device.worker.finish()
    device.restart()
    assert len(device.take_all()) == len(expected)
    device.stop()


def test_refusing_when_memory_is_used_up(tmp_path: Path) -> None:
    """With the policy to refuse nothing that waits is dropped."""
    device = Device(
        tmp_path / "outbox.sqlite", StepWorker, max_bytes=1 << 20, policy=OutboxPolicy.REFUSE
    )
    device.put_all([b"first"])
    failing(device)
    puts = [device.put(bytes(10_000)) for _ in range(30)]
    outcomes = [outcome(put) for put in puts]
    assert 5 <= outcomes.count(None) < 30, "some are kept, the others told"
    assert device.outbox.counts()["uncommitted_bytes"] <= (1 << 20) // 15
    assert all(one is None or isinstance(one, OutboxFull) for one in outcomes)
    assert outcomes == sorted(outcomes, key=lambda one: one is not None)
    device.clock.advance(RETRY_S)
    device.stop()


def test_a_slow_disk_holds_back_its_producer(tmp_path: Path) -> None:
    """While the disk works nothing is dropped for want of memory: put waits for the commit."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker, max_bytes=4 << 20)
    puts = []
    for _ in range(100):
        puts += device.put_all([bytes(2000)] * 10)
        assert device.outbox.counts()["uncommitted_bytes"] <= (4 << 20) // 16
    device.worker.finish()
    assert all(isinstance(outcome(put), int) for put in puts)
    device.stop()


def test_stopping_without_a_disk_says_what_is_lost(tmp_path: Path) -> None:
    """Messages that never reached the disk fail with OutboxClosed and are counted."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    puts = device.put_all([b"one", b"two"])
    failing(device)
    done: list[object] = []
    device.outbox.close().addBoth(done.append)
    failing(device)
    device.worker.finish()
    assert done == [None]
    assert [type(outcome(put)) for put in puts] == [OutboxClosed, OutboxClosed]
    assert device.counters["messages_dropped:stopped"] == 2
    assert not device.clock.getDelayedCalls()


def test_stopping_after_trouble_tries_once_more(tmp_path: Path) -> None:
    """If the disk works again by then, nothing is lost."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    puts = device.put_all([b"one", b"two"])
    failing(device)
    device.stop()
    assert [outcome(put) for put in puts] == [1, 2]
    device.start()
    assert len(device.take_all()) == 2
    device.stop()


def test_stopping_finishes_the_commits_under_way(tmp_path: Path) -> None:
    """Everything put before close is on disk when close fires; later puts are refused."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    puts = device.put_all([b"one"])
    puts.append(device.put(b"two"))
    done: list[object] = []
    device.outbox.close().addBoth(done.append)
    assert done == []
    late = device.put(b"late")
    device.worker.finish()
    assert done == [None]
    assert device.worker.is_stopped
    assert [outcome(put) for put in puts] == [1, 2]
    assert isinstance(outcome(late), OutboxClosed)


def test_a_store_that_appears_later_is_taken_up(tmp_path: Path) -> None:
    """While the directory can't be used messages flow from memory; afterwards the rows of the store
    are sent, nothing is repeated, and all are in their order after a rewind or a restart."""
    place = tmp_path / "data"
    device = Device(place / "outbox.sqlite", StepWorker)
    device.put_all([b"old 1", b"old 2"])
    device.worker.finish()
    device.stop()
    place.rename(tmp_path / "unmounted")
    place.write_text("in the way")
    device.start()
    assert device.outbox.state is State.TROUBLE
    puts = device.put_all([b"new 1", b"new 2"])
    (sent,) = device.take(1)
    assert sent.payload == b"new 1"
    place.unlink()
    (tmp_path / "unmounted").rename(place)
    device.clock.advance(RETRY_S)
    device.worker.finish()
    assert all(put.called for put in puts)
    found = [row.payload for row in device.take_all()]
    assert sorted(found) == [b"new 2", b"old 1", b"old 2"]
    device.outbox.rewind(False)
    assert [row.payload for row in device.take_all()] == [b"old 1", b"old 2", b"new 1", b"new 2"]
    device.outbox.rewind(False)
    (old,) = device.take(1)
    assert old.payload == b"old 1"
    device.outbox.retire([old.row_id])
    totals = device.outbox.totals()
    assert totals.accepted.messages == 4
    device.outbox.rewind(True)
    device.restart()
    found = [row.payload for row in device.take_all()]
    assert found == [b"old 1", b"old 2", b"new 1", b"new 2"]
    device.stop()


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may become larger than 200 KB: the real errors of a real file system."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_files")
def test_a_real_write_error_is_survived(tmp_path: Path) -> None:
    """When writing fails for real, messages flow on, and all are on disk once it works again."""
    device = Device(tmp_path / "outbox.sqlite", max_bytes=32 << 20)
    puts = []
    for number in range(60):
        puts += device.put_all([b"%05d" % (number * 10 + one) * 200 for one in range(10)])
    assert device.outbox.state is State.TROUBLE
    rows = device.take_all()
    assert len(rows) == 600
    device.outbox.retire([row.row_id for row in rows[:300]])
    device.turn()
    assert all(put.called for put in puts[:300])
    assert not all(put.called for put in puts)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits[1], limits[1]))
    device.clock.advance(RETRY_S)
    assert device.outbox.state is State.OPEN
    assert all(put.called for put in puts)
    device.restart()
    assert [row.row_id for row in device.take_all()] == list(range(1, 601))
    device.stop()


def test_a_disk_that_hangs_holds_nobody_up_again_and_again(tmp_path: Path) -> None:
    """Whoever puts waits once for a commit that does not end. After that memory has the bound of a
    disk that fails, nothing new is put on record, and all is well once the disk goes on."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker, max_bytes=4 * 1024 * 1024)
    device.put(b"first")
    device.turn()
    device.worker.hangs = True
    waits = 0
    wait = device.worker.wait

    def counted() -> bool:
        nonlocal waits
        waits += 1
        return wait()

    device.worker.wait = counted  # type: ignore[method-assign]
    for number in range(200):
        device.put(b"%d" % number + b"x" * 16_384)
    assert waits == 1
    assert device.outbox.counts()["uncommitted_bytes"] < 1024 * 1024
    begun = device.outbox.journal.begin("1", "SET", True)
    assert isinstance(begun, Deferred)
    assert isinstance(begun.result, Failure)
    begun.addErrback(lambda _: None)
    device.worker.hangs = False
    device.worker.finish()
    device.turn()
    device.worker.finish()
    last = device.put(b"last")
    device.turn()
    device.worker.finish()
    assert isinstance(last.result, int)
    rows = device.take_all()
    assert rows[0].payload == b"first"
    assert rows[-1].payload == b"last"
    device.outbox.check_invariants()
    device.stop()


@pytest.mark.parametrize("reason", ["full", "age", "disk"])
def test_what_is_dropped_is_said(tmp_path: Path, reason: str) -> None:
    """The log says once that messages are dropped, and why, whatever the reason is."""
    settings = {"full": {"max_rows": 2}, "age": {"max_age_s": 10.0}, "disk": {}}[reason]
    device = Device(tmp_path / "o.sqlite", StepWorker, max_bytes=2 * 1024 * 1024, **settings)
    with capturedLogs() as logs:
        for number in range(100):
            device.put(b"%d" % number + b"x" * 10_000)
            if number == 0 and reason == "disk":
                device.turn()
                device.worker.fail(disk_full())
        device.turn()
        if reason != "disk":
            device.worker.finish()
        device.clock.pump([1.0] * 12)
    assert device.counters[f"messages_dropped:{reason}"] > 1
    lines = [event for event in logs if event["log_namespace"] == "oda.outbox.ledger"]
    assert len(lines) == 1
    assert "drops" in str(lines[0]["log_format"])
    device.worker.finish()
    device.outbox.close()
    device.worker.finish()


def test_a_read_that_fails_during_a_commit_changes_nothing(tmp_path: Path) -> None:
    """The outcome of the commit tells what can be expected of the disk: a reader that fails while
    it is under way brings no trouble and leaves no timer. After it the same failure counts."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    puts = device.put_all([b"one"])
    committer = device.outbox._committer
    committer.read_failed(disk_full())
    assert device.outbox.state is State.OPEN
    device.worker.finish()
    assert [outcome(put) for put in puts] == [1]
    committer.read_failed(disk_full())
    assert device.outbox.state is State.TROUBLE
    device.clock.advance(RETRY_S)
    device.worker.finish()
    assert device.outbox.state is State.OPEN
    device.stop()


def test_the_look_at_the_file_leaves_a_commit_alone(tmp_path: Path) -> None:
    """While a commit is under way the look whether the store is still there does nothing: the
    commit finds out by itself, and what it holds goes into a new store."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    puts = device.put_all([b"one"])
    device.settings.path.unlink()
    committer = device.outbox._committer
    committer.check()
    assert committer.is_working
    device.worker.finish()
    device.turn()
    device.worker.finish()
    assert [outcome(put) for put in puts] == [1]
    device.restart()
    assert [row.payload for row in device.take_all()] == [b"one"]
    device.stop()


def test_a_replacement_that_fails_is_tried_again(tmp_path: Path) -> None:
    """The store is damaged and the disk has no room for a new one: until there is, nothing is read
    from the damaged one; then all that waited is written, and the old rows are taken over."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    device.put_all([b"old"])
    device.worker.finish()
    puts = device.put_all([b"new"])
    device.worker.fail(StoreDamaged("a page is wrong"))
    failing(device)
    assert device.outbox.state is State.TROUBLE
    assert not device.outbox._committer.can_read
    device.clock.advance(RETRY_S)
    failing(device)
    device.clock.advance(RETRY_S)
    device.worker.finish()
    device.recover()
    assert device.outbox.state is State.OPEN
    device.turn()
    device.worker.finish()
    assert [outcome(put) for put in puts] == [2]
    assert [row.payload for row in device.take_all()] == [b"old", b"new"]
    device.stop()


def test_a_dead_letter_that_is_dropped_before_it_is_committed_again(tmp_path: Path) -> None:
    """Nobody waits for a dead letter that was put back: when it is dropped before its commit, the
    drop is counted, and no error is left in a Deferred."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    device.put_all([b"dead"])
    device.worker.finish()
    device.outbox.bury([row.row_id for row in device.take(1)], "it was refused")
    device.turn()
    device.worker.finish()
    gc.collect()  # what other tests left is theirs
    with capturedLogs() as logs:
        assert device.outbox.retry_dead() == 1
        assert device.outbox.purge() == 1
        device.turn()
        device.worker.finish()
        gc.collect()
    assert device.counters["messages_dropped:purged"] == 1
    assert [event for event in logs if "log_failure" in event] == []
    device.outbox.check_invariants()
    device.stop()
