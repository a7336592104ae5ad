"""Reading and writing datastreams: turns whatever a getter or setter does into a
``DatastreamValue``.

A getter that answers at once costs no timer and no Deferred of its own, because a poller may read
thousands of them every second. A Deferred gets a time limit that holds even if the getter ignores
its cancellation: a reading that never completes must not block its caller.

A dict or list is copied: its getter may change it while other readings of the same answer are
pending. A ``Decimal`` becomes the number with the same digits. If there is none, it stays a value
that no format can carry, and the sender reports that.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from math import isfinite
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.boundary import contained, foreign_code, reason_of
from oda.errors import DatastreamError
from oda.interfaces import (
    IDatastreamAccess,
    IDatastreamGetter,
    IDatastreamRegistry,
    IDating,
    ILimitsItself,
    IWallClock,
)
from oda.log import Logger
from oda.model import DatastreamValue, Moment, Reading, ValueStatus
from oda.slices import gather_in_slices

#: The default time limit of a reading or writing, in seconds.
DEFAULT_TIMEOUT_S = 30.0

#: A value with deeper nesting is not copied, because no format carries it.
_MAX_DEPTH = 64

#: The reason for readings that are open when the caller's Deferred is cancelled.
CANCELLED = "cancelled"

_CONTAINERS = frozenset((dict, list, tuple))
_CONVERTED = _CONTAINERS | {Decimal}

log = Logger()


@implementer(IDatastreamAccess)
class DatastreamAccess:
    """Reads and writes through the registered getters and setters.

    A getter or setter may also be a coroutine function. ``timeout_s`` limits each reading and each
    writing, in seconds of the reactor's clock. Without ``dating`` the time of day is always
    believed.
    """

    def __init__(
        self,
        registry: IDatastreamRegistry,
        wall_clock: IWallClock,
        reactor: IReactorTime,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        dating: IDating | None = None,
    ) -> None:
        self.timeout_s = timeout_s
        self._dating = dating
        self._registry = registry
        self._wall_clock = wall_clock
        self._reactor = reactor
        self._broken: set[tuple[str, str, str]] = set()

    def read(self, datastream_id: str, device_pattern: str) -> Deferred[list[DatastreamValue]]:
        """See ``IDatastreamAccess.read``."""
        outcomes = self._start_reading(datastream_id, device_pattern)
        if len(outcomes) == 1 and type(outcomes[0]) is DatastreamValue:  # nearly every reading
            return succeed([outcomes[0]])
        return _gather(outcomes)

    def read_all(self, device_pattern: str) -> Deferred[list[DatastreamValue]]:
        """See ``IDatastreamAccess.read_all``."""
        try:
            with foreign_code:
                datastream_ids = self._registry.datastream_ids(device_pattern)
        except Exception as error:  # noqa: BLE001 - devices() is foreign code; the answer must be a value
            return succeed([self._failed(_failure(error), "read", "*", device_pattern)])
        return gather_in_slices(
            self._reactor,
            (partial(self.read, datastream_id, device_pattern) for datastream_id in datastream_ids),
        )

    def write(self, device_id: str, datastream_id: str, value: Any) -> Deferred[DatastreamValue]:
        """See ``IDatastreamAccess.write``."""
        device_id = self._registry.canonical_id(device_id)

        def written(_: object) -> DatastreamValue:
            self._recovered("write", datastream_id, device_id)
            at_ms, taken = self._now()
            return DatastreamValue(
                datastream_id, device_id, ValueStatus.OK, value, at_ms, taken=taken
            )

        try:
            setter = self._registry.setter(datastream_id, device_id)
            if setter is None:
                return succeed(DatastreamValue(datastream_id, device_id, ValueStatus.NOT_FOUND))
            result = setter.set(device_id, value)
            outcome = self._finish(result, "write", datastream_id, device_id, written)
        except BaseException as raised:  # noqa: BLE001 - a setter is foreign code; the outcome must be a value
            # No local name for the failure: its traceback holds this frame, and with it the value.
            return succeed(
                self._failed(Failure(contained(raised)), "write", datastream_id, device_id)
            )
        return outcome if isinstance(outcome, Deferred) else succeed(outcome)

    def _start_reading(
        self, datastream_id: str, device_pattern: str
    ) -> list[DatastreamValue | Deferred[DatastreamValue]]:
        try:
            found = self._registry.getters(datastream_id, device_pattern)
        except BaseException as raised:  # noqa: BLE001 - devices() is foreign code; the answer must be a value
            return [self._failed(Failure(contained(raised)), "read", datastream_id, device_pattern)]
        if not found:
            device_id = self._registry.canonical_id(device_pattern)
            return [DatastreamValue(datastream_id, device_id, ValueStatus.NOT_FOUND)]
        return [self._read_one(datastream_id, *pair) for pair in found]

    def _read_one(
        self, datastream_id: str, device_id: str, getter: IDatastreamGetter
    ) -> DatastreamValue | Deferred[DatastreamValue]:
        try:
            result = getter.get(device_id)
            # The getter's object is foreign too: reading it may fail.
            if type(result) is Reading:  # the way of nearly every reading
                return self._came(result, datastream_id, device_id)
            return self._finish(
                result,
                "read",
                datastream_id,
                device_id,
                lambda reading: self._came(reading, datastream_id, device_id),
                bool(ILimitsItself.providedBy(getter)),
            )
        except BaseException as raised:  # noqa: BLE001 - a getter is foreign code; the outcome must be a value
            return self._failed(Failure(contained(raised)), "read", datastream_id, device_id)

    def _came(self, reading: object, datastream_id: str, device_id: str) -> DatastreamValue:
        if not isinstance(reading, Reading):
            error = TypeError(f"the getter gave {type(reading).__name__}, not a Reading")
            return self._failed(_failure(error), "read", datastream_id, device_id)
        at_ms, feed = reading.at_ms, reading.feed
        if (at_ms is not None and type(at_ms) is not int) or not (
            feed is None or isinstance(feed, str)
        ):
            error = TypeError(
                "the reading's at_ms must be whole milliseconds, its feed a text, or they are None"
            )
            return self._failed(_failure(error), "read", datastream_id, device_id)
        if self._broken:
            self._recovered("read", datastream_id, device_id)
        value = reading.value
        taken = None
        if at_ms is None:
            at_ms, taken = self._now()
        return DatastreamValue(
            datastream_id,
            device_id,
            ValueStatus.OK,
            _own(value) if type(value) in _CONVERTED else value,
            at_ms,
            feed,
            taken=taken,
        )

    def _now(self) -> tuple[int | None, Moment | None]:
        """The time of day where it can be believed, else the moment."""
        dating = self._dating
        if dating is None or dating.is_right():
            return self._wall_clock.now_ms(), None
        return None, dating.moment()

    def _finish(
        self,
        result: object,
        verb: str,
        datastream_id: str,
        device_id: str,
        complete: Callable[[Any], DatastreamValue],
        limits_itself: bool = False,
    ) -> DatastreamValue | Deferred[DatastreamValue]:
        """Make the outcome from the result of a getter or setter: now, or when it fires."""
        if inspect.iscoroutine(result):
            result = Deferred.fromCoroutine(result)
        if not isinstance(result, Deferred):
            return complete(result)
        pending = _Pending(
            result,
            complete,
            lambda failure: self._failed(failure, verb, datastream_id, device_id),
            lambda reason: _error(datastream_id, device_id, reason),
        )
        return pending.start(self._reactor, None if limits_itself else self.timeout_s)

    def _failed(
        self, failure: Failure, verb: str, datastream_id: str, device_id: str
    ) -> DatastreamValue:
        reason = reason_of(failure.value)
        key = (verb, datastream_id, device_id)
        if not isinstance(failure.value, DatastreamError) and key not in self._broken:
            self._broken.add(key)
            log.failure(
                "could not {verb} {datastream_id} of device {device_id!r}",
                failure,
                verb=verb,
                datastream_id=datastream_id,
                device_id=device_id,
            )
        return _error(datastream_id, device_id, reason)

    def _recovered(self, verb: str, datastream_id: str, device_id: str) -> None:
        self._broken.discard((verb, datastream_id, device_id))


class _Pending:
    """One running reading or writing; its answer fires exactly once, whatever the source does."""

    def __init__(
        self,
        source: Deferred[Any],
        complete: Callable[[Any], DatastreamValue],
        fail: Callable[[Failure], DatastreamValue],
        abandon: Callable[[str], DatastreamValue],
    ) -> None:
        self._source = source
        self._fail = fail
        self._abandon = abandon
        self._outcome: DatastreamValue | None = None
        self._answer: Deferred[DatastreamValue] | None = None
        self._timer: IDelayedCall | None = None
        source.addCallbacks(
            lambda result: self._settle(complete, result),
            lambda failure: self._settle(fail, failure),
        )

    def start(
        self, reactor: IReactorTime, timeout_s: float | None
    ) -> DatastreamValue | Deferred[DatastreamValue]:
        """The outcome if it is already there, else a Deferred of it that fires within the limit, if
        there is one."""
        if self._outcome is not None:
            return self._outcome
        if timeout_s is not None:
            reason = f"no answer within {timeout_s:g} s"
            self._timer = reactor.callLater(timeout_s, self._give_up, reason)
        self._answer = Deferred(lambda _: self._give_up(CANCELLED))
        return self._answer

    def _give_up(self, reason: str) -> None:
        self._settle(self._abandon, reason)
        try:
            with foreign_code:
                self._source.cancel()
        except Exception:  # noqa: BLE001 - a foreign canceller; the outcome is already out
            log.failure("cancelling a reading failed")

    def _settle(self, make: Callable[[Any], DatastreamValue], material: object) -> None:
        if self._outcome is not None:
            return  # it came after the time limit
        try:
            with foreign_code:
                self._outcome = make(material)
        except Exception as error:  # noqa: BLE001 - foreign objects; the outcome must be a value
            self._outcome = self._fail(Failure(error))
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._answer is not None:
            self._answer.callback(self._outcome)


def _own(value: Any) -> Any:
    """A copy that the getter can't change. An invalid value is unchanged: its sender reports what
    is wrong with it."""
    try:
        return _copy(value, _MAX_DEPTH)
    except RecursionError:
        return value


def _copy(value: Any, room: int) -> Any:
    kind = type(value)
    if kind is Decimal:
        return _number(value)
    if kind not in _CONTAINERS:
        return value
    if not room:
        raise RecursionError
    if kind is dict:
        return {key: _copy(member, room - 1) for key, member in value.items()}
    return kind([_copy(member, room - 1) for member in value])


def _number(value: Decimal) -> Any:
    """The number with the same digits; ``value`` itself if there is none."""
    if not value.is_finite():
        return value
    number = float(value)
    return number if isfinite(number) and Decimal(repr(number)) == value else value


def _error(datastream_id: str, device_id: str, reason: str) -> DatastreamValue:
    return DatastreamValue(datastream_id, device_id, ValueStatus.ERROR, error=reason)


def _failure(error: Exception) -> Failure:
    return Failure(error)


def _gather(
    outcomes: list[Any],
) -> Deferred[list[DatastreamValue]]:
    """All values in order, once the last has arrived; cancelling it cancels the open ones."""
    waiting = [outcome for outcome in outcomes if isinstance(outcome, Deferred)]
    if not waiting:
        return succeed(outcomes)

    def merge(results: list[tuple[bool, DatastreamValue]]) -> list[DatastreamValue]:
        came = iter(results)
        return [next(came)[1] if isinstance(o, Deferred) else o for o in outcomes]

    return DeferredList(waiting).addCallback(merge)
