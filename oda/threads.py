"""Blocking calls, each in a daemon thread of its own.

The reactor's pool has few threads, the whole process shares them, and the end of the process waits
for them: a call that hangs would occupy one for good. A daemon thread that hangs harms nothing
else.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import BoundedSemaphore, Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from oda.errors import ReadingFailed

T = TypeVar("T")

#: How many calls may run at once: each costs memory, and a call that hangs never returns it.
MAX_CALLS = 64

_places = BoundedSemaphore(MAX_CALLS)


def start_daemon(work: Callable[[], None], name: str) -> None:
    """Run ``work`` in a thread; the end of the process does not wait for it."""
    Thread(target=work, name=name, daemon=True).start()


def in_own_thread(
    reactor: Any,
    function: Callable[..., T],
    *arguments: Any,
    start: Callable[[Callable[[], None], str], None] = start_daemon,
    places: Any = _places,
) -> Deferred[T]:
    """Call ``function(*arguments)`` in its own thread. In the reactor's thread, the Deferred fires
    with the call's result or fails with its error.

    Fails with ``ReadingFailed`` when ``MAX_CALLS`` calls are already running. Cancelling it makes
    it fail at once; the call goes on, and its result is ignored.
    """
    if not places.acquire(blocking=False):
        return fail(ReadingFailed(f"{MAX_CALLS} blocking calls are running, and none has ended"))
    done: Deferred[T] = Deferred()

    def conclude(outcome: Any) -> None:
        if done.called:
            return  # cancelled
        if isinstance(outcome, Failure):
            done.errback(outcome)
        else:
            done.callback(outcome)

    def work() -> None:
        try:
            outcome: Any = function(*arguments)
        except BaseException:  # noqa: BLE001 - nothing else would report it
            outcome = Failure()
        places.release()
        with suppress(Exception):  # the reactor has ended, so nobody waits
            reactor.callFromThread(conclude, outcome)

    try:
        start(work, "oda blocking call")
    except RuntimeError as error:  # the system refuses another thread
        places.release()
        return fail(ReadingFailed(str(error)))
    return done


class _Unwatched(list[Thread]):
    """The list in which a pool records its threads, to wait for them at its end; stays empty."""

    def append(self, thread: Thread) -> None:
        """Ignore the thread."""


def leave_threads_behind(reactor: Any) -> None:
    """Let the process end without waiting for threads of the reactor's pool.

    Foreign code may have put calls there that never end. Call this before the pool has threads:
    Twisted waits for the threads that the pool records, the interpreter for those that are not
    daemons.
    """
    pool = reactor.getThreadPool()
    pool.threads = _Unwatched()
    pool.threadFactory = partial(Thread, daemon=True)
