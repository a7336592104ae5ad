"""The realtime state manager keeps nothing and publishes every value as it arrives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.deferreds import result_now
from oda.interfaces import IChangeFilter, IDatastreamAccess, IEventDispatcher, IStateManager
from oda.log import Logger
from oda.model import DatastreamValue, Event
from oda.settings import StateManagerSettings
from oda.slices import gather_in_slices
from oda.telemetry.reading import FailureChanges, chosen, events_of
from oda.telemetry.writing import write_in_order
from oda.troubles import TroubleKind, Troubles

log = Logger()


@implementer(IStateManager)
class RealtimeStateManager:
    """A read goes to the source, and what was read is published.

    A read does not wait until its values are accepted for delivery: neither the answer to the
    platform nor the next poll may depend on the outbox. The manager logs a failure to publish when
    it begins. ``publish_now`` publishes what a request reads, because its answer also goes out now.
    Long reads are done in slices of ``clock``, the reactor.
    """

    def __init__(
        self,
        access: IDatastreamAccess,
        dispatcher: IEventDispatcher,
        clock: IReactorTime,
        troubles: Troubles | None = None,
    ) -> None:
        self._clock = clock
        self._access = access
        self._dispatcher = dispatcher
        self._failures = FailureChanges()
        self._troubles = troubles or Troubles(clock.seconds)

    def start(self) -> None:
        """Does nothing; only the in-memory state manager has something to start."""

    def stop(self) -> None:
        """Does nothing: no value is kept."""

    def reconfigure(self, settings: StateManagerSettings) -> None:
        """Does nothing: the settings are for the other state manager."""

    def retire(self) -> None:
        """Does nothing else: no value is kept that the next state manager could miss."""
        self._troubles.end_all(TroubleKind.PUBLISHING)

    def get(
        self, device_pattern: str, datastream_ids: Sequence[str] | None
    ) -> Deferred[list[DatastreamValue]]:
        """See ``IStateManager.get``."""
        if datastream_ids is None:
            return self._access.read_all(device_pattern).addCallback(self._publish_in_slices)
        if len(datastream_ids) == 1:  # by far the most frequent request
            return self._read_now(datastream_ids[0], device_pattern)
        return gather_in_slices(
            self._clock,
            (partial(self._read_now, name, device_pattern) for name in datastream_ids),
        )

    def set(
        self, device_id: str, values: Sequence[tuple[str, Any]]
    ) -> Deferred[list[DatastreamValue]]:
        """See ``IStateManager.set``. Each write begins when the one before has ended."""
        return write_in_order(self._access, device_id, values, self._clock)

    def received(self, events: Sequence[Event]) -> Deferred[None]:
        """See ``IStateManager.received``: the events are published at once."""
        return self._dispatcher.publish(events)

    def read(
        self, datastream_id: str, device_pattern: str, changes: IChangeFilter | None = None
    ) -> Deferred[list[DatastreamValue]]:
        """See ``IStateManager.read``."""
        reading = self._access.read(datastream_id, device_pattern)
        return reading.addCallback(self._publish_values, self._dispatcher.publish, changes)

    def collect(self, datastream_id: str, device_pattern: str) -> Deferred[int]:
        """Fires with 0: nothing is ever kept."""
        return succeed(0)

    def _read_now(self, datastream_id: str, device_pattern: str) -> Deferred[list[DatastreamValue]]:
        reading = self._access.read(datastream_id, device_pattern)
        values = result_now(reading, list)
        if values is None:
            return reading.addCallback(self._publish_values, self._dispatcher.publish_now)
        self._publish_values(values, self._dispatcher.publish_now)
        return reading

    def _publish_in_slices(self, values: list[DatastreamValue]) -> Deferred[list[DatastreamValue]]:
        def publish(value: DatastreamValue) -> Deferred[list[DatastreamValue]]:
            return succeed(self._publish_values([value], self._dispatcher.publish_now))

        return gather_in_slices(self._clock, (partial(publish, value) for value in values))

    def _publish_values(
        self,
        values: list[DatastreamValue],
        publish: Callable[[Event], Deferred[None]],
        changes: IChangeFilter | None = None,
    ) -> list[DatastreamValue]:
        for event in events_of(values if changes is None else chosen(values, changes)):
            # One by one: a value that can't be published must not affect the others. The
            # dispatcher gathers them again.
            publish(event).addCallbacks(
                self._published,
                self._not_published,
                callbackArgs=(event,),
                errbackArgs=(event, changes),
            )
        return values

    def _published(self, _: None, event: Event) -> None:
        if self._failures.succeeded((event.datastream_id, event.device_id)):
            self._troubles.end(TroubleKind.PUBLISHING, event.datastream_id)
            log.info("publishes {datastream_id} again", datastream_id=event.datastream_id)

    def _not_published(self, failure: Failure, event: Event, changes: IChangeFilter | None) -> None:
        if changes is not None:
            changes.forget(event.device_id)
        reason = failure.getErrorMessage()
        self._troubles.report(TroubleKind.PUBLISHING, reason, event.datastream_id)
        if self._failures.failed((event.datastream_id, event.device_id)):
            log.warn(
                "could not publish what was read of {datastream_id}: {reason}",
                datastream_id=event.datastream_id,
                reason=reason,
            )
