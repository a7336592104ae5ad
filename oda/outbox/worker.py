"""Who does the work that may wait for a disk: a thread of its own, or the caller itself.

Jobs run one at a time, in the order in which they were given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from twisted.python.failure import Failure
from zope.interface import Interface, implementer

Job = Callable[[], Any]
Done = Callable[[Any], None]


class IWorker(Interface):
    """Runs jobs one after the other."""

    def run(job: Job, done: Done) -> None:
        """Run ``job`` and then call ``done``, in the reactor's thread, with what it returned, or
        with the ``Failure`` of what it raised."""

    def stop() -> None:
        """No job will come any more, and none is left; nothing is running afterwards."""


@implementer(IWorker)
class InlineWorker:
    """Runs each job at once, in the reactor's thread, which waits for the disk."""

    def run(self, job: Job, done: Done) -> None:
        done(_outcome(job))

    def stop(self) -> None:
        """Nothing to do."""


@implementer(IWorker)
class ThreadWorker:
    """Runs jobs in one thread, which is started by the first of them.

    ``call_from_thread`` is the reactor's ``callFromThread``.
    """

    def __init__(self, call_from_thread: Callable[..., Any]) -> None:
        self._call_from_thread = call_from_thread
        self._jobs: SimpleQueue[tuple[Job, Done] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, job: Job, done: Done) -> None:
        if self._thread is None:
            # A daemon: a reactor that crashes must not leave a process that never ends.
            self._thread = threading.Thread(target=self._work, name="oda-outbox", daemon=True)
            self._thread.start()
        self._jobs.put((job, done))

    def stop(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while True:
            item = self._jobs.get()
            if item is None:
                return
            job, done = item
            self._call_from_thread(done, _outcome(job))


def _outcome(job: Job) -> Any:
    try:
        return job()
    except Exception:  # noqa: BLE001 - the one who gave the job deals with it
        return Failure()
