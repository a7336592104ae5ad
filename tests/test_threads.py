"""Calls that block, and the end of a process in which some never end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from oda.errors import ReadingFailed
from oda.threads import in_own_thread

ROOT = Path(__file__).resolve().parents[1]


class Reactor:
    """Does at once what a thread hands over."""

    def callFromThread(self, function: Callable[..., Any], *arguments: Any) -> None:
        function(*arguments)


class Threads:
    """Threads that run when told."""

    def __init__(self, most: int = 2) -> None:
        self.works: list[Callable[[], None]] = []
        self.places = BoundedSemaphore(most)
        self.refusal: Exception | None = None

    def start(self, work: Callable[[], None], name: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.works.append(work)

    def call(self, function: Callable[[], Any]) -> list[Any]:
        outcome: list[Any] = []
        calling = in_own_thread(Reactor(), function, start=self.start, places=self.places)
        calling.addBoth(outcome.append)
        self.calling = calling
        return outcome


def exit_it() -> None:
    raise SystemExit("no bus")


def test_the_result_comes_and_the_place_is_free() -> None:
    """What the function returns, or raises (whatever that is), is the outcome."""
    threads = Threads(most=1)
    for function in (lambda: 7, exit_it, lambda: 8):
        outcome = threads.call(function)
        assert outcome == []
        threads.works.pop()()
        assert len(outcome) == 1
    assert outcome == [8]


def test_too_many_calls_fail_at_once() -> None:
    """Calls that never end don't take all threads: one more is a failed reading."""
    threads = Threads(most=1)
    first = threads.call(lambda: 1)
    second = threads.call(lambda: 2)
    assert second[0].check(ReadingFailed)
    threads.works.pop()()
    assert first == [1]
    threads.refusal = RuntimeError("can't start new thread")
    for _ in range(3):
        assert "can't start" in str(threads.call(lambda: 3)[0].value)


def test_a_call_that_is_cancelled_ends_for_nobody() -> None:
    """Cancelled, it fails at once; what it gives later is dropped, and its place is free then."""
    threads = Threads(most=1)
    outcome = threads.call(lambda: 1)
    threads.calling.cancel()
    assert outcome[0].check(CancelledError)
    threads.works.pop()()
    assert len(outcome) == 1
    assert threads.call(lambda: 2) == []


PROGRAM = """
import sys, time
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from oda.threads import in_own_thread, leave_threads_behind
leave_threads_behind(reactor)
def hang():
    for _ in range(12):
        deferToThread(time.sleep, 3600)
    in_own_thread(reactor, time.sleep, 3600)
    deferred = in_own_thread(reactor, lambda: 5)
    deferred.addCallback(print)
    deferred.addBoth(lambda _: reactor.stop())
reactor.callWhenRunning(hang)
reactor.run()
"""


@pytest.mark.e2e
def test_a_process_ends_without_its_threads() -> None:
    """Blocking calls that never end hold up neither other calls nor the end of the process."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("5\n", "")
