"""What a plugin needs of the reactor: calls from threads, run where the test waits for them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from queue import Queue
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

#: Longer than anything takes that works.
LIMIT_S = 20.0


class Loop:
    """A reactor that runs only while somebody waits for something. Its time is ``clock``."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._calls: Queue[Callable[[], object]] = Queue()

    def callFromThread(self, function: Callable[..., object], *a: Any, **k: Any) -> None:
        self._calls.put(lambda: function(*a, **k))

    def callLater(self, delay_s: float, function: Callable[..., object], *a: Any) -> Any:
        return self.clock.callLater(delay_s, function, *a)

    def until(self, is_done: Callable[[], bool]) -> None:
        """Run calls until ``is_done``; raises ``queue.Empty`` when nothing comes any more."""
        while not is_done():
            self._calls.get(timeout=LIMIT_S)()

    def result(self, waiting: Deferred[Any]) -> Any:
        """What it fires with; raises what it fails with."""
        outcome: list[Any] = []
        waiting.addBoth(outcome.append)
        self.until(lambda: bool(outcome))
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return outcome[0]


class AsyncioThread:
    """An asyncio loop in a thread, for the servers that need one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run it there; returns what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LIMIT_S)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT_S)
        self._loop.close()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that nobody uses."""
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
