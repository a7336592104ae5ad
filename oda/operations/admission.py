"""Limits how many operations run at once, and how many wait for their turn.

No operation starts while answers wait that the network has not accepted. Each operation would add
another answer, and a hundred long answers at once exceed the intended size of the outbox.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: While there is no room for answers, the admission checks again after this time, in seconds.
LOOK_S = 0.1


class Runnable(Protocol):
    """An operation that waits for its turn."""

    def run(self) -> None: ...


class Admission:
    """Lets ``max_running`` operations run and ``max_waiting`` more wait, first come first served.

    Each admitted operation must call ``leave`` exactly once, and later ``fill``, which starts
    others: an operation that leaves reports its end before that. A change of the limits does not
    affect running operations. ``has_room`` says whether there is room for one more answer;
    ``clock`` is the reactor.
    """

    def __init__(
        self,
        max_running: int,
        max_waiting: int,
        clock: IReactorTime,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self.max_running = max_running
        self.max_waiting = max_waiting
        self._clock = clock
        self._has_room = has_room
        self._look: IDelayedCall | None = None
        self._running = 0
        # A dict keeps the order, and allows cheap withdrawal from the middle.
        self._waiting: dict[Runnable, None] = {}
        self._is_starting = False

    @property
    def running(self) -> int:
        """How many are running."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many are waiting."""
        return len(self._waiting)

    def enter(self, operation: Runnable) -> bool:
        """Run the operation now or later; False when there is no room even to wait."""
        if self._running < self.max_running and not self._waiting and self._has_room():
            self._running += 1
            operation.run()
            return True
        if len(self._waiting) >= self.max_waiting:
            return False
        self._waiting[operation] = None
        self.fill()
        return True

    def withdraw(self, operation: Runnable) -> None:
        """Stop waiting for this operation."""
        self._waiting.pop(operation, None)
        if not self._waiting:
            self.stop()

    def leave(self) -> None:
        """A running operation has ended; its place is free. Calls no other code."""
        self._running -= 1

    def fill(self) -> None:
        """Give free places to waiting operations; call this after ``leave``, and after
        ``max_running`` was raised."""
        # A loop with a guard, not recursion: a thousand waiting operations that end at once would
        # otherwise start each other a thousand levels deep.
        if self._is_starting:
            return
        self._is_starting = True
        try:
            while self._waiting and self._running < self.max_running and self._has_room():
                operation = next(iter(self._waiting))
                del self._waiting[operation]
                self._running += 1
                operation.run()
        finally:
            self._is_starting = False
        if self._waiting and self._running < self.max_running and self._look is None:
            self._look = self._clock.callLater(LOOK_S, self._look_again)

    def stop(self) -> None:
        """Cancel the timer."""
        look, self._look = self._look, None
        if look is not None:
            look.cancel()

    def _look_again(self) -> None:
        self._look = None
        self.fill()
