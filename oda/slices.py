"""Long work in slices: the reactor gets a turn every few milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")

#: How long one slice may hold the reactor, in seconds; the last step may exceed it.
SLICE_S = 0.005


def gather_in_slices(
    clock: IReactorTime, steps: Iterable[Callable[[], Deferred[list[T]]]]
) -> Deferred[list[T]]:
    """Start the steps in order, as many at once as fit into a slice. Fires with the results of all
    steps, in the order of the steps.

    Fails with the first failure. It has already fired on return if all steps end at once and within
    one slice. Cancelling it cancels the open steps and starts no more.
    """
    gathering = _Gathering(clock, steps)
    gathering.go_on()
    return gathering.done


class _Gathering(Generic[T]):
    def __init__(
        self, clock: IReactorTime, steps: Iterable[Callable[[], Deferred[list[T]]]]
    ) -> None:
        self.done: Deferred[list[T]] = Deferred(self._cancel)
        self._clock = clock
        self._steps = iter(steps)
        self._results: list[list[T]] = []
        self._open: dict[int, Deferred[Any]] = {}
        self._next_slice: IDelayedCall | None = None
        self._all_begun = False

    def go_on(self) -> None:
        self._next_slice = None
        end_s = self._clock.seconds() + SLICE_S
        for step in self._steps:
            index = len(self._results)
            self._results.append([])
            result = step()
            self._open[index] = result
            result.addCallbacks(self._came, self._failed, (index,), errbackArgs=(index,))
            if self.done.called:
                return
            if self._clock.seconds() >= end_s:
                self._next_slice = self._clock.callLater(0, self.go_on)
                return
        self._all_begun = True
        self._consider()

    def _came(self, values: list[T], index: int) -> None:
        self._open.pop(index, None)
        self._results[index] = values
        self._consider()

    def _failed(self, failure: Failure, index: int) -> None:
        self._open.pop(index, None)
        if not self.done.called:
            self._stop()
            self.done.errback(failure)

    def _consider(self) -> None:
        if self._all_begun and not self._open and not self.done.called:
            self.done.callback([value for values in self._results for value in values])

    def _cancel(self, _: Deferred[list[T]]) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._next_slice is not None:
            self._next_slice.cancel()
            self._next_slice = None
        for result in list(self._open.values()):
            result.cancel()
