"""Writes several datastreams of a device, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from oda.interfaces import IDatastreamAccess
from oda.model import DatastreamValue, ValueStatus
from oda.slices import SLICE_S


def write_in_order(
    access: IDatastreamAccess,
    device_id: str,
    values: Sequence[tuple[str, Any]],
    clock: IReactorTime,
) -> Deferred[list[DatastreamValue]]:
    """Write ``values`` in order, each when the one before has ended, in slices of ``clock``, the
    reactor.

    The Deferred fires with one outcome for each and never fails. Cancelling it cancels the write in
    progress; those after it are not started and have status ERROR.
    """
    return _Writing(access, device_id, values, clock).done


class _Writing:
    def __init__(
        self,
        access: IDatastreamAccess,
        device_id: str,
        values: Sequence[tuple[str, Any]],
        clock: IReactorTime,
    ) -> None:
        self._clock = clock
        self._next_slice: IDelayedCall | None = None
        self.done: Deferred[list[DatastreamValue]] = Deferred(self._cancel)
        self._access = access
        self._device_id = device_id
        self._values: Iterator[tuple[str, Any]] = iter(tuple(values))
        self._outcomes: list[DatastreamValue] = []
        self._current: Deferred[DatastreamValue] | None = None
        self._is_cancelled = False
        self._go_on()

    def _go_on(self) -> None:
        # A loop, not a chain of callbacks: a long list of immediate writes must not recurse.
        self._next_slice = None
        end_s = self._clock.seconds() + SLICE_S
        for datastream_id, value in self._values:
            if self._is_cancelled:
                self._outcomes.append(self._not_begun(datastream_id))
                continue
            writing = self._access.write(self._device_id, datastream_id, value)
            if not writing.called or writing.paused:
                self._current = writing
                writing.addCallback(self._late)
                return
            writing.addCallback(self._outcomes.append)
            if self._clock.seconds() >= end_s and not self._is_cancelled:
                self._next_slice = self._clock.callLater(0, self._go_on)
                return
        self.done.callback(self._outcomes)

    def _late(self, outcome: DatastreamValue) -> None:
        self._outcomes.append(outcome)
        self._current = None
        self._go_on()

    def _cancel(self, _: Deferred[list[DatastreamValue]]) -> None:
        self._is_cancelled = True
        if self._current is not None:
            self._current.cancel()
        elif self._next_slice is not None:
            self._next_slice.cancel()
            self._go_on()

    def _not_begun(self, datastream_id: str) -> DatastreamValue:
        return DatastreamValue(
            datastream_id, self._device_id, ValueStatus.ERROR, error="not started: cancelled"
        )
