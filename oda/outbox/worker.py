"""Runs the work that may wait for a disk: in the reactor's thread, in a thread of its own, or in
whichever suits this disk.

Jobs run one at a time, in the order given.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from twisted.python.failure import Failure
from zope.interface import Interface, implementer

Job = Callable[[], Any]
Done = Callable[[Any], None]

#: How long the reactor's thread may wait for a commit on average, in seconds. Another thread costs
#: as much while the reactor is busy: two wake-ups, and at each statement up to the interpreter's
#: switch interval of 5 ms until one of the two threads lets the other run.
SLOW_S = 0.005
#: The longest time that the reactor waits for a disk that hangs, in seconds.
WAIT_S = 5.0
#: The number of commits to average over: a single slow commit is no reason to change the thread, a
#: very slow one is.
_AVERAGED = 16


class IWorker(Interface):
    """Runs jobs one after the other."""

    def run(job: Job, done: Done, takes_long: bool = False, aside: bool = False) -> None:
        """Run ``job``, then call ``done`` in the reactor's thread with its result, or with the
        ``Failure`` of its error. ``takes_long`` jobs are not commits. ``aside``: the reactor has
        other work to do meanwhile."""

    def wait() -> bool:
        """Wait until the oldest job, if any, is done, and call its ``done`` at once. Returns False
        if the job takes longer than the reactor may be blocked; the job then continues."""

    def stop() -> None:
        """No job is left and none will follow; nothing is running afterwards."""


@implementer(IWorker)
class InlineWorker:
    """Runs each job at once in the reactor's thread, which waits for the disk."""

    def run(self, job: Job, done: Done, takes_long: bool = False, aside: bool = False) -> None:
        done(_outcome(job))

    def wait(self) -> bool:
        """Nothing to do."""
        return True

    def stop(self) -> None:
        """Nothing to do."""


class _Task:
    """A job of the thread. Its end is reported once: through the reactor, or by ``wait``."""

    __slots__ = ("_done", "_ended", "_is_told", "_job", "_outcome")

    def __init__(self, job: Job, done: Done) -> None:
        self._job = job
        self._done = done
        self._ended = threading.Event()
        self._outcome: Any = None
        self._is_told = False

    def work(self) -> None:
        self._outcome = _outcome(self._job)
        self._ended.set()

    def wait(self) -> bool:
        return self._ended.wait(WAIT_S)

    def tell(self) -> None:
        self._ended.wait()
        if not self._is_told:
            self._is_told = True
            self._done(self._outcome)


@implementer(IWorker)
class ThreadWorker:
    """Runs jobs in one thread, which the first job starts.

    ``call_from_thread`` is the reactor's ``callFromThread``.
    """

    def __init__(self, call_from_thread: Callable[..., Any]) -> None:
        self._call_from_thread = call_from_thread
        self._jobs: SimpleQueue[_Task | None] = SimpleQueue()
        self._tasks: deque[_Task] = deque()
        self._thread: threading.Thread | None = None

    def run(self, job: Job, done: Done, takes_long: bool = False, aside: bool = False) -> None:
        if self._thread is None:
            # A daemon: the process must be able to end even if the reactor has crashed.
            self._thread = threading.Thread(target=self._work, name="oda-outbox", daemon=True)
            self._thread.start()
        task = _Task(job, done)
        self._tasks.append(task)
        self._jobs.put(task)

    def wait(self) -> bool:
        if self._tasks:
            if not self._tasks[0].wait():
                return False
            self._tasks.popleft().tell()
        return True

    def stop(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (task := self._jobs.get()) is not None:
            task.work()
            self._call_from_thread(self._tell, task)

    def _tell(self, task: _Task) -> None:
        if self._tasks and self._tasks[0] is task:
            self._tasks.popleft()
        task.tell()


@implementer(IWorker)
class AdaptiveWorker:
    """Runs jobs in the reactor's thread while the disk is fast; on a slow disk, and for jobs that
    run aside, in ``thread``.

    A commit on a fast disk takes less time than handing it to a thread (two threads of one
    interpreter get in each other's way). On a slow disk the reactor must not wait for it.
    ``seconds`` is a monotonic clock that runs during a job.
    """

    def __init__(self, thread: IWorker, seconds: Callable[[], float]) -> None:
        self._thread = thread
        self._seconds = seconds
        self._average_s = 0.0
        self._in_thread = 0

    def run(self, job: Job, done: Done, takes_long: bool = False, aside: bool = False) -> None:
        if takes_long or aside or self._in_thread or self._average_s > SLOW_S:
            self._in_thread += 1
            timed = job if takes_long else lambda: self._timed(job)
            self._thread.run(timed, lambda outcome: self._ended(done, outcome), takes_long)
        else:
            done(_outcome(lambda: self._timed(job)))

    def wait(self) -> bool:
        return self._thread.wait()

    def stop(self) -> None:
        self._thread.stop()

    def _ended(self, done: Done, outcome: Any) -> None:
        self._in_thread -= 1
        done(outcome)

    def _timed(self, job: Job) -> Any:
        started_s = self._seconds()
        try:
            return job()
        finally:
            took_s = self._seconds() - started_s
            self._average_s += (took_s - self._average_s) / _AVERAGED


def _outcome(job: Job) -> Any:
    try:
        return job()
    except Exception:  # noqa: BLE001 - the owner of the job handles it
        return Failure()
