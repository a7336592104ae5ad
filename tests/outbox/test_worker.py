"""Who does the work: one job at a time, each told once, and the thread only where it is better."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from twisted.python.failure import Failure

from oda.outbox import worker as worker_module
from oda.outbox.worker import SLOW_S, AdaptiveWorker, InlineWorker, ThreadWorker
from tests.outbox.fakes import StepWorker


class Reactor:
    """Keeps what a thread wants to be called, until the test calls it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.has_call = threading.Semaphore(0)

    def call_from_thread(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.calls.append((function, arguments))
        self.has_call.release()

    def turn(self) -> None:
        """Wait for the next call, and call it."""
        assert self.has_call.acquire(timeout=10)
        function, arguments = self.calls.pop(0)
        function(*arguments)


def fails() -> None:
    raise ValueError("broken")


def test_the_reactor_s_thread_does_a_job_at_once() -> None:
    """Its outcome is what it returned, or a Failure."""
    told: list[Any] = []
    worker = InlineWorker()
    worker.run(lambda: 5, told.append)
    worker.run(fails, told.append)
    assert told[0] == 5
    assert isinstance(told[1], Failure)
    assert str(told[1].value) == "broken"
    assert worker.wait()
    worker.stop()


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


def test_a_thread_does_the_jobs_in_order(reactor: Reactor) -> None:
    """In another thread, which is one for all and begins with the first job; each outcome is told
    in the reactor's thread, once."""
    worker = ThreadWorker(reactor.call_from_thread)
    worker.stop()
    threads: list[threading.Thread] = []
    told: list[Any] = []

    def job(number: int) -> int:
        threads.append(threading.current_thread())
        return number

    for number in range(3):
        worker.run(lambda number=number: job(number), told.append)  # type: ignore[misc]
    worker.run(fails, told.append)
    assert told == []
    for _ in range(4):
        reactor.turn()
    assert told[:3] == [0, 1, 2]
    assert isinstance(told[3], Failure)
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon
    worker.stop()
    assert not threads[0].is_alive()
    worker.run(lambda: 7, told.append)
    reactor.turn()
    assert told[4] == 7
    worker.stop()


def test_who_waits_is_told_at_once_and_nobody_twice(reactor: Reactor) -> None:
    """``wait`` tells the outcome of the oldest job; the reactor, which hears of it later, does not
    tell it again. Without a job there is nothing to wait for."""
    worker = ThreadWorker(reactor.call_from_thread)
    told: list[Any] = []
    assert worker.wait()
    worker.run(lambda: 1, told.append)
    worker.run(lambda: 2, told.append)
    assert worker.wait()
    assert told == [1]
    reactor.turn()
    assert told == [1]
    reactor.turn()
    assert told == [1, 2]
    assert worker.wait()
    assert told == [1, 2]
    worker.stop()


def test_nobody_waits_for_ever(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that hangs goes on, and its outcome is told when it has ended."""
    monkeypatch.setattr(worker_module, "WAIT_S", 0.0)
    worker = ThreadWorker(reactor.call_from_thread)
    goes_on = threading.Event()
    told: list[Any] = []
    worker.run(goes_on.wait, told.append)
    worker.run(lambda: 2, told.append)
    assert not worker.wait()
    assert not worker.wait()
    goes_on.set()
    reactor.turn()
    reactor.turn()
    assert told == [True, 2]
    worker.stop()


class Disk:
    """A clock that only jobs move on."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.thread = StepWorker()
        self.worker = AdaptiveWorker(self.thread, lambda: self.now_s)
        self.told: list[Any] = []

    def commit(self, took_s: float, aside: bool = False, takes_long: bool = False) -> bool:
        """Whether it was done at once, by the reactor's thread."""
        before = len(self.told)

        def job() -> float:
            self.now_s += took_s
            return took_s

        self.worker.run(job, self.told.append, takes_long, aside)
        return len(self.told) > before


def test_a_fast_disk_needs_no_thread() -> None:
    """Handing a commit over costs more than it takes."""
    disk = Disk()
    assert all(disk.commit(SLOW_S) for _ in range(200))
    assert disk.told == [SLOW_S] * 200


def test_a_slow_disk_gets_the_thread_and_a_fast_one_loses_it() -> None:
    """By the average of many commits, also of those in the thread: one that took a little longer is
    no reason, one that took much longer is."""
    disk = Disk()
    assert disk.commit(SLOW_S * 10)
    assert disk.commit(0.0), "10 / 16 of what is slow"
    disk = Disk()
    assert disk.commit(SLOW_S * 17)
    assert not disk.commit(0.0)
    disk.thread.step()
    assert disk.told == [SLOW_S * 17, 0.0]
    assert disk.commit(0.0), "17 / 16 * 15 / 16"
    disk = Disk()
    for _ in range(3):
        disk.commit(SLOW_S * 32)
        disk.thread.finish()
    for _ in range(27):
        assert not disk.commit(0.0)
        disk.thread.finish()
    assert disk.commit(0.0)


def test_some_jobs_are_for_the_thread_on_any_disk() -> None:
    """Those that take long, whose time says nothing about commits, and those that the reactor need
    not wait for. While one is there, all go there: they are done in order."""
    for options in ({"takes_long": True}, {"aside": True}):
        disk = Disk()
        assert not disk.commit(SLOW_S * 100 if "takes_long" in options else 0.0, **options)
        assert not disk.commit(0.0)
        disk.thread.step()
        assert not disk.commit(0.0)
        disk.thread.finish()
        assert len(disk.told) == 3
        assert disk.commit(0.0)


def test_a_job_that_fails_takes_its_time_too() -> None:
    """A disk that fails is often one that hangs; the failure is the outcome, in either thread."""
    disk = Disk()

    def job() -> None:
        disk.now_s += SLOW_S * 17
        raise OSError("disk")

    for _ in range(2):
        disk.worker.run(job, disk.told.append)
    assert len(disk.told) == 1
    disk.thread.step()
    assert [one.value.args for one in disk.told] == [("disk",)] * 2


def test_waiting_and_stopping_are_the_thread_s() -> None:
    """Nothing else could be waited for."""
    disk = Disk()
    assert not disk.commit(1.0, aside=True)
    disk.thread.hangs = True
    assert not disk.worker.wait()
    disk.thread.hangs = False
    assert disk.worker.wait()
    assert disk.told == [1.0]
    disk.worker.stop()
    assert disk.thread.is_stopped
