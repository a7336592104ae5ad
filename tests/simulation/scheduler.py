"""The one clock of a simulated world, and the reactors that run on it.

Everything that happens is an entry in one queue, ordered by its time and then by the order in which
it was entered. Each life of the agent has a ``LifeReactor``: its timers end with it. Whatever
reaches or leaves the agent passes ``LifeReactor.enter`` or ``LifeReactor.effect``; a *fuse* counts
them down and ends the life at zero, so a crash can come between any two callbacks and between any
two effects of one callback.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from oda.interfaces import IWallClock

_log = Logger()


class Entry:
    """Something that is going to happen, unless it is cancelled."""

    __slots__ = ("arguments", "call", "is_cancelled")

    def __init__(self, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.call = call
        self.arguments = arguments
        self.is_cancelled = False

    def cancel(self) -> None:
        """It does not happen."""
        self.is_cancelled = True


class StuckError(Exception):
    """So much happens without any time passing that the world would never end."""


class Scheduler:
    """``now_s`` is the time since the world began."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.entries = 0
        self._queue: list[tuple[float, int, Entry]] = []

    def seconds(self) -> float:
        """The time, as a reactor gives it."""
        return self.now_s

    def later(self, delay_s: float, call: Callable[..., Any], *arguments: Any) -> Entry:
        """Call it after ``delay_s`` seconds."""
        entry = Entry(call, arguments)
        self.entries += 1
        heappush(self._queue, (self.now_s + max(0.0, delay_s), self.entries, entry))
        return entry

    def run_until(self, end_s: float, limit: int = 2_000_000) -> None:
        """Let everything happen that is due until ``end_s``. Raises ``StuckError`` after ``limit``
        entries."""
        queue = self._queue
        while queue and queue[0][0] <= end_s:
            at_s, _, entry = heappop(queue)
            if entry.is_cancelled:
                continue
            limit -= 1
            if limit < 0:
                raise StuckError(f"too much happens at {at_s:.6f} s")
            self.now_s = at_s
            entry.call(*entry.arguments)
        self.now_s = max(self.now_s, end_s)


@implementer(IWallClock)
class SteppedWallClock:
    """The time of day of the machine: follows the scheduler, and can be stepped."""

    def __init__(self, scheduler: Scheduler, start_ms: int) -> None:
        self._scheduler = scheduler
        self.offset_ms = start_ms

    def now_ms(self) -> int:
        return self.offset_ms + int(self._scheduler.now_s * 1000)

    def set_ms(self, at_ms: int) -> None:
        """Set the clock, as an operation or a time service does."""
        self.offset_ms = at_ms - int(self._scheduler.now_s * 1000)


@implementer(IReactorTime)
class LifeReactor:
    """The reactor of one life of the agent. ``connect`` makes outgoing connections."""

    def __init__(
        self, scheduler: Scheduler, connect: Callable[..., Any], on_fuse: Callable[[], None]
    ) -> None:
        self._scheduler = scheduler
        self._connect = connect
        self._on_fuse = on_fuse
        self._calls: dict[DelayedCall, Entry] = {}
        self.is_dead = False
        #: After so many callbacks and effects the life ends; None: it does not.
        self.fuse: int | None = None
        self.effects = 0

    # -- what the agent uses -------------------------------------------------------------------

    def seconds(self) -> float:
        return self._scheduler.now_s

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        assert delay >= 0, delay
        timer = DelayedCall(
            self._scheduler.now_s + delay, call, args, kw, self._forget, self._again, self.seconds
        )
        if not self.is_dead:
            self._calls[timer] = self._scheduler.later(delay, self._due, timer)
        return timer

    def callFromThread(self, call: Callable[..., Any], *args: Any, **kw: Any) -> None:
        self.callLater(0, call, *args, **kw)

    def callWhenRunning(self, call: Callable[..., Any], *args: Any, **kw: Any) -> None:
        self.callLater(0, call, *args, **kw)

    def getDelayedCalls(self) -> list[DelayedCall]:
        return list(self._calls)

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30) -> Any:
        return self._connect(self, host, port, factory, timeout)

    # -- what the world uses -------------------------------------------------------------------

    def enter(self) -> bool:
        """Something is about to call into the agent; False when it can't: the life has ended."""
        return self.effect()

    def effect(self) -> bool:
        """The agent is about to have an effect; False when it can't: the life has ended."""
        if self.is_dead:
            return False
        self.effects += 1
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                self.fuse = None
                self._on_fuse()
                return not self.is_dead
        return True

    def die(self) -> None:
        """The process is gone: nothing of it happens any more."""
        self.is_dead = True
        for entry in self._calls.values():
            entry.cancel()
        self._calls.clear()

    def _due(self, timer: DelayedCall) -> None:
        if timer.delayed_time > 0:
            timer.activate_delay()
            self._calls[timer] = self._scheduler.later(
                timer.time - self._scheduler.now_s, self._due, timer
            )
            return
        del self._calls[timer]
        if self.enter():
            timer.called = 1
            try:
                timer.func(*timer.args, **timer.kw)
            except Exception:
                _log.failure("a timer raised")  # as a reactor does; the oracle reads the log

    def _forget(self, timer: DelayedCall) -> None:
        entry = self._calls.pop(timer, None)
        if entry is not None:
            entry.cancel()

    def _again(self, timer: DelayedCall) -> None:
        if self.is_dead:
            return
        self._calls[timer].cancel()
        self._calls[timer] = self._scheduler.later(
            timer.time - self._scheduler.now_s, self._due, timer
        )
