"""The in-memory state manager keeps values, and knows which were published.

A value that arrives is only kept. It becomes telemetry when a line of the collector names its
datastream, or when GET or REFRESH answers with it (OpenGate protocol, "Configuration files": values
are kept, the collector publishes those not yet sent). GET and REFRESH read the source when they
arrive. Kept values are their answer only for a device of which nothing here reads that datastream,
so that its values only arrive. A value is marked as published once it was accepted for delivery. A
crash in between sends it a second time with the same ``at``, which is harmless.

Changed settings take effect in the running manager: it moves what it has kept to another file. When
the realtime manager replaces this one, everything unpublished is published at once, and whatever
still arrives here is passed on to the dispatcher.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Any

from msgspec import structs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.errors import EventRejected
from oda.interfaces import (
    IChangeFilter,
    ICounters,
    IDatastreamAccess,
    IDatastreamRegistry,
    IDating,
    IEventDispatcher,
    IStateManager,
    IWallClock,
)
from oda.log import Logger
from oda.model import HOST, DatastreamValue, Event, ValueStatus
from oda.settings import StateManagerSettings
from oda.slices import gather_in_slices
from oda.telemetry.arrival import ArrivalClock
from oda.telemetry.history import History, Kept, encode_event
from oda.telemetry.keeper import Keeper
from oda.telemetry.place import Place, find_place
from oda.telemetry.reading import FailureChanges, chosen, events_of, value_of
from oda.telemetry.validation import CheckValue, accept_event
from oda.telemetry.writing import write_in_order

log = Logger()

#: The key with which an operator sets the path of the history.
DATABASE_KEY = "es.amplia.oda.statemanager.inmemory.cfg: databasePath"


@implementer(IStateManager)
class InMemoryStateManager:
    """``clock`` is the reactor, ``boot_id`` names this boot of the machine ("": unknown). Without
    ``dating`` the time of day is always believed.

    If the history of ``settings`` can't be opened, values are kept in memory until it can: a disk
    that is read-only at boot must not stop the agent. Neither ``get`` nor ``read`` waits until what
    was read is kept or published; a failure of that is logged when it begins.
    """

    def __init__(
        self,
        clock: IReactorTime,
        access: IDatastreamAccess,
        registry: IDatastreamRegistry,
        dispatcher: IEventDispatcher,
        settings: StateManagerSettings,
        check_value: CheckValue,
        wall_clock: IWallClock,
        counters: ICounters,
        boot_id: str = "",
        dating: IDating | None = None,
    ) -> None:
        self._clock = clock
        self._dating = dating
        self._boot_id = boot_id
        self._access = access
        self._registry = registry
        self._dispatcher = dispatcher
        self._settings = settings
        self._check_value = check_value
        self._wall_clock = wall_clock
        self._counters = counters
        self._is_waiting_for_file = False
        self._keeper = Keeper(clock, self._open_at_start(settings), dispatcher, counters)
        self._is_retired = False
        self._failures = FailureChanges()
        self._forgetting = LoopingCall(self._forget)
        self._forgetting.clock = clock

    def start(self) -> None:
        """Forget what is too old, now and every ``forget_period_s``."""
        self._begin_forgetting()

    def _begin_forgetting(self) -> None:
        if self._settings.forget_period_s > 0:
            self._forgetting.start(self._settings.forget_period_s, now=True)
        else:
            self._forget()

    def stop(self) -> None:
        """Commit what has arrived and close the history; later events are refused."""
        if self._forgetting.running:
            self._forgetting.stop()
        self._keeper.close()

    def reconfigure(self, settings: StateManagerSettings) -> None:
        """Follow changed settings, with everything that is kept.

        If another history can't be opened or written, raises ``OSError`` or ``sqlite3.Error`` and
        changes nothing.
        """
        if _is_elsewhere(_place(self._settings), _place(settings)):
            self._move_to(settings)
        else:
            self._keeper.set_max_data(settings.max_data)
        self._settings = settings
        if self._forgetting.running:
            self._forgetting.stop()
            self._begin_forgetting()

    def retire(self) -> None:
        """The realtime manager takes over: publish every kept value that is unpublished.

        The history is closed when each of them has an answer. Values that could not be published
        stay in the file; without a file they are lost, and counted.
        """
        self._is_retired = True
        if self._forgetting.running:
            self._forgetting.stop()
        self._keeper.retire()

    def get(
        self, device_pattern: str, datastream_ids: Sequence[str] | None
    ) -> Deferred[list[DatastreamValue]]:
        """See ``IStateManager.get``. What is read is also kept. Kept values in the answer that were
        never published are published now."""
        pattern = self._registry.canonical_id(device_pattern)
        if datastream_ids is None:
            known = {
                *self._registry.datastream_ids(pattern),
                *self._keeper.datastream_ids(pattern),
            }
            datastream_ids = sorted(known)
        return gather_in_slices(
            self._clock, (partial(self._get_one, name, pattern) for name in datastream_ids)
        )

    def set(
        self, device_id: str, values: Sequence[tuple[str, Any]]
    ) -> Deferred[list[DatastreamValue]]:
        """See ``IStateManager.set``. What was written is read again, so that the kept value is not
        the old one; the answer does not wait for that."""
        return write_in_order(self._access, device_id, values, self._clock).addCallback(
            self._read_written
        )

    def received(self, events: Sequence[Event]) -> Deferred[None]:
        """See ``IStateManager.received``: fires when the events are committed."""
        if self._is_retired:
            return self._dispatcher.publish(events)
        return self._keep(events).addCallback(lambda row_ids: None)

    def read(
        self, datastream_id: str, device_pattern: str, changes: IChangeFilter | None = None
    ) -> Deferred[list[DatastreamValue]]:
        """See ``IStateManager.read``: what was read is kept."""
        reading = self._access.read(datastream_id, device_pattern)
        return reading.addCallback(self._keep_values, changes)

    def collect(self, datastream_id: str, device_pattern: str) -> Deferred[int]:
        """See ``IStateManager.collect``. Fails with ``OutboxError`` if some values were not
        accepted: those are kept for the next time."""
        pattern = self._registry.canonical_id(device_pattern)
        return self._keeper.publish(self._keeper.unpublished(datastream_id, pattern))

    def _get_one(self, datastream_id: str, pattern: str) -> Deferred[list[DatastreamValue]]:
        read_here = {device_id for device_id, _ in self._registry.getters(datastream_id, pattern)}
        kept = [
            item
            for item in self._keeper.latest(datastream_id, pattern)
            if item.event.device_id not in read_here
        ]
        for item in kept:
            self._publish(item)
        answered = [value_of(item.event) for item in kept]
        if answered and not read_here:
            return succeed(answered)

        def have_read(values: list[DatastreamValue]) -> list[DatastreamValue]:
            for event in events_of(values):
                self._keep_and_publish(event)
            return sorted([*answered, *values], key=_device_order)

        # If nothing is kept either, the source answers NOT_FOUND.
        return self._access.read(datastream_id, pattern).addCallback(have_read)

    def _keep(self, events: Sequence[Event]) -> Deferred[list[int]]:
        # Encoded now: what the publisher later does with a value must not change what is kept.
        try:
            rows = [encode_event(self._accepted(event)) for event in events]
        except EventRejected as error:
            return self._reject(error, len(events))
        return self._keeper.keep(rows)

    def _reject(self, error: EventRejected, events: int) -> Deferred[Any]:
        self._counters.increment("events_rejected", events)
        return fail(error)

    def _accepted(self, event: Event) -> Event:
        """The event as it is kept: with a time or the moment at which it was taken, and with "" for
        the host."""
        event = accept_event(event, self._check_value)
        device_id = self._registry.canonical_id(event.device_id)
        has_time = event.at_ms is not None or event.taken is not None
        if has_time and device_id == event.device_id:
            return event
        at_ms, taken = event.at_ms, event.taken
        if not has_time:
            if self._dating is None or self._dating.is_right():
                at_ms = self._wall_clock.now_ms()
            else:
                taken = self._dating.moment()
        return Event(
            event.datastream_id,
            event.value,
            device_id,
            at_ms,
            event.feed,
            event.path,
            event.from_ms,
            taken,
        )

    def _keep_values(
        self, values: list[DatastreamValue], changes: IChangeFilter | None = None
    ) -> list[DatastreamValue]:
        for event in events_of(values if changes is None else chosen(values, changes)):
            # One by one: a value that can't be kept must not affect the others.
            keeping = self.received((event,))
            if changes is not None:
                keeping.addErrback(_forget, changes, event.device_id)
            self._watch(keeping, event)
        return values

    def _keep_and_publish(self, event: Event) -> None:
        if self._is_retired:
            self._watch(self._dispatcher.publish_now(event), event)
            return
        try:
            accepted = self._accepted(event)
            row = encode_event(accepted)
        except EventRejected as error:
            self._watch(self._reject(error, 1), event)
            return
        self._keeper.keep((row,)).addCallbacks(
            lambda row_ids: self._publish(Kept(row_ids[0], False, accepted)),
            # A broken history must not keep the value from the platform as well.
            lambda failure: self._watch(self._dispatcher.publish_now(accepted), accepted),
        )

    def _publish(self, item: Kept) -> None:
        self._watch(self._keeper.publish((item,), is_urgent=True), item.event)

    def _read_written(self, outcomes: list[DatastreamValue]) -> list[DatastreamValue]:
        for outcome in outcomes:
            if outcome.status is ValueStatus.OK and self._registry.getters(
                outcome.datastream_id, outcome.device_id
            ):
                self.read(outcome.datastream_id, outcome.device_id)
        return outcomes

    def _open_history(self, settings: StateManagerSettings) -> History:
        clock = ArrivalClock(self._clock.seconds, self._wall_clock, self._boot_id)
        place = _place(settings)
        if place is None:
            return History(None, settings.max_data, clock)
        history = History(place.path, settings.max_data, clock)
        if place.note:
            log.info(
                "{key}: {note}; values are kept in {path}",
                key=DATABASE_KEY,
                note=place.note,
                path=str(place.path),
            )
        return history

    def _open_at_start(self, settings: StateManagerSettings) -> History:
        try:
            return self._open_history(settings)
        except (OSError, sqlite3.Error) as error:
            log.error(
                "{key}: the history {path} can't be opened; values are kept in memory until it can:"
                " {reason}",
                key=DATABASE_KEY,
                path=str(settings.database_path),
                reason=str(error),
            )
            self._is_waiting_for_file = True
            return self._open_history(structs.replace(settings, database_path=None))

    def _open_late(self) -> None:
        try:
            self._move_to(self._settings)
        except (OSError, sqlite3.Error):
            return  # already logged; the next look tries again
        log.info("the history {path} works now", path=str(self._settings.database_path))

    def _move_to(self, settings: StateManagerSettings) -> None:
        history = self._open_history(settings)
        try:
            self._keeper.move_to(history)
        except BaseException:
            history.close()
            raise
        self._is_waiting_for_file = False

    def _forget(self) -> None:
        if self._is_waiting_for_file:
            self._open_late()
        self._keeper.forget(int(self._settings.forget_time_s * 1000))

    def _watch(self, handing_over: Deferred[Any], event: Event) -> None:
        """Log that ``event`` could not be kept or published, once until it works again."""
        place = (event.datastream_id, event.device_id)

        def succeeded(_: object) -> None:
            if self._failures.succeeded(place):
                log.info("keeps {datastream_id} again", datastream_id=event.datastream_id)

        def failed(failure: Failure) -> None:
            if self._failures.failed(place):
                log.warn(
                    "could not keep or publish what was read of {datastream_id}: {reason}",
                    datastream_id=event.datastream_id,
                    reason=failure.getErrorMessage(),
                )

        handing_over.addCallbacks(succeeded, failed)


def _forget(failure: Failure, changes: IChangeFilter, device_id: str) -> Failure:
    changes.forget(device_id)
    return failure


def _place(settings: StateManagerSettings) -> Place | None:
    return None if settings.database_path is None else find_place(settings.database_path)


def _is_elsewhere(old: Place | None, new: Place | None) -> bool:
    """Whether it is another file: two connections to one file would copy the file into itself."""
    if old is None or new is None:
        return old is not new
    one, other = old.path, new.path
    return one != other and not (one.exists() and other.exists() and one.samefile(other))


def _device_order(value: DatastreamValue) -> tuple[bool, str]:
    return (value.device_id != HOST, value.device_id)
