"""Calls that block, each in a thread of its own that nobody waits for.

The threads of the reactor's pool are few, shared by everything in the process, and waited for at
its end: a call that hangs takes one away for good. A daemon thread hurts nobody but itself.
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

#: How many calls may run at once: each costs memory, and what hangs is never given back.
MAX_CALLS = 64

_places = BoundedSemaphore(MAX_CALLS)


def start_daemon(work: Callable[[], None], name: str) -> None:
    """Run ``work`` in a thread that the end of the process does not wait for."""
    Thread(target=work, name=name, daemon=True).start()


def in_own_thread(
    reactor: Any,
    function: Callable[..., T],
    *arguments: Any,
    start: Callable[[Callable[[], None], str], None] = start_daemon,
    places: Any = _places,
) -> Deferred[T]:
    """Call ``function(*arguments)`` in a thread of its own; the Deferred fires with what it
    returns, or fails with what it raises, in the reactor's thread.

    Fails with ``ReadingFailed`` when ``MAX_CALLS`` calls run already. Cancelling it makes it fail
    at once; the call goes on for nobody.
    """
    if not places.acquire(blocking=False):
        return fail(ReadingFailed(f"{MAX_CALLS} blocking calls run already, and none of them ends"))
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
        except BaseException:  # noqa: BLE001 - nobody else would hear of it
            outcome = Failure()
        places.release()
        with suppress(Exception):  # the reactor has ended: nobody waits
            reactor.callFromThread(conclude, outcome)

    try:
        start(work, "oda blocking call")
    except RuntimeError as error:  # no thread can be started
        places.release()
        return fail(ReadingFailed(str(error)))
    return done


class _Unwatched(list[Thread]):
    """Where a pool notes its threads, to wait for them when it stops; it keeps none."""

    def append(self, thread: Thread) -> None:
        """Not noted."""


def leave_threads_behind(reactor: Any) -> None:
    """Make the end of the process wait for no thread of the reactor's pool.

    Code of others may have put calls there that never end. To be called before the pool has any
    thread: Twisted waits for those that the pool notes, the interpreter for those that are no
    daemons.
    """
    pool = reactor.getThreadPool()
    pool.threads = _Unwatched()
    pool.threadFactory = partial(Thread, daemon=True)
