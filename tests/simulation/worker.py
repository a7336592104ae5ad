"""When a job of the outbox's worker begins and ends, and whether it fails: the disk's timing.

A job has its effect at the moment at which it ends; a crash before that may or may not still have
it, as a commit that was under way may or may not have reached the disk.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.outbox.worker import IWorker
from tests.simulation.history import History
from tests.simulation.scheduler import Entry, LifeReactor, Scheduler

_log = Logger()

Job = Callable[[], Any]
Done = Callable[[Any], None]


@dataclass
class DiskWeather:
    """How the disk is now. ``state`` is "works", "full", "broken" (I/O errors) or "hangs"."""

    commit_s: tuple[float, float] = (0.0001, 0.001)
    state: str = "works"


def disk_error(state: str) -> Exception:
    """What SQLite raises on a disk in this state."""
    full = state == "full"
    error = sqlite3.OperationalError("database or disk is full" if full else "disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_IOERR
    return error


@implementer(IWorker)
class SimulatedWorker:
    """The worker of one life. ``after_job()`` is called when a job has had its effect."""

    def __init__(
        self,
        scheduler: Scheduler,
        reactor: LifeReactor,
        weather: DiskWeather,
        history: History,
        random: Random,
        after_job: Callable[[], None],
    ) -> None:
        self._scheduler = scheduler
        self._reactor = reactor
        self._weather = weather
        self._history = history
        self._random = random
        self._after_job = after_job
        self._jobs: deque[tuple[Job, Done]] = deque()
        self._entry: Entry | None = None
        #: When the newest jobs began and ended; the last has not ended if its end is infinite.
        self._times: deque[tuple[float, float]] = deque(maxlen=4)

    def is_held_up(self, from_s: float, within_s: float) -> bool:
        """Whether a job that had not ended at ``from_s``, or began ``within_s`` seconds after it,
        or the one job that followed on that, is still under way, or was when the process died."""
        since = [one for one in self._times if one[1] > from_s]
        return (
            0 < len(since) <= 2 and since[-1][1] == float("inf") and since[0][0] < from_s + within_s
        )

    def run(self, job: Job, done: Done, takes_long: bool = False, aside: bool = False) -> None:
        if not self._reactor.effect():
            return
        self._jobs.append((job, done))
        if len(self._jobs) == 1:
            self._begin()

    def wait(self) -> bool:
        if self._weather.state == "hangs":
            return False
        # The reactor stands still while it waits: no time passes that others could see.
        if self._jobs and not self._reactor.is_dead:
            self._end()
        return True

    def stop(self) -> None:
        if self._jobs and not self._reactor.is_dead:
            self._history.violate("the worker was stopped with jobs left")

    def weather_changed(self) -> None:
        """A disk that hung goes on."""
        if self._jobs and self._entry is None:
            self._begin()

    def died(self) -> None:
        """The process is gone. What was under way may still have its effect."""
        if self._entry is not None:
            self._entry.cancel()
        if self._jobs and self._weather.state == "works" and self._random.random() < 0.5:
            self._history.say("disk", "the commit under way has reached the disk")
            self._outcome(self._jobs[0][0])
            self._after_job()
        self._jobs.clear()

    def _begin(self) -> None:
        self._entry = None
        if not self._times or self._times[-1][1] != float("inf"):
            self._times.append((self._scheduler.now_s, float("inf")))
        if self._weather.state != "hangs":
            low, high = self._weather.commit_s
            self._entry = self._scheduler.later(self._random.uniform(low, high), self._end)

    def _end(self) -> None:
        if self._weather.state == "hangs" and self._entry is not None:
            self._entry = None  # it hung before the job ended
            return
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None
        job, done = self._jobs[0]
        state = self._weather.state
        outcome: Any
        if state in ("full", "broken"):
            outcome = Failure(disk_error(state))
        else:
            outcome = self._outcome(job)
            self._after_job()
        self._jobs.popleft()
        self._times.append((self._times.pop()[0], self._scheduler.now_s))
        # The next one begins before anybody hears of this one: that is what a thread does.
        if self._jobs:
            self._begin()
        if self._reactor.enter():
            try:
                done(outcome)
            except Exception:
                _log.failure("the end of a job raised")

    @staticmethod
    def _outcome(job: Job) -> Any:
        try:
            return job()
        except Exception:
            return Failure()
