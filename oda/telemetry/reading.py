"""Turns values that were read into events, and tells new failures from known ones. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from oda.interfaces import IChangeFilter
from oda.model import DatastreamValue, Event, ValueStatus


def events_of(values: Iterable[DatastreamValue]) -> list[Event]:
    """The events that publish what was read: values with status OK that are not null.

    A datastream may read as null. That gives no datapoint, because a datapoint without a value says
    nothing (OpenGate protocol, "Telemetry": members that are null are left out).
    """
    return [
        Event(
            datastream_id=value.datastream_id,
            value=value.value,
            device_id=value.device_id,
            at_ms=value.at_ms,
            feed=value.feed,
            taken=value.taken,
        )
        for value in values
        if value.status is ValueStatus.OK and value.value is not None
    ]


def chosen(
    values: Iterable[DatastreamValue], changes: IChangeFilter | None
) -> list[DatastreamValue]:
    """The values to publish: all, or those that ``changes`` lets pass."""
    if changes is None:
        return list(values)
    return [
        value
        for value in values
        if value.status is ValueStatus.OK and value.value is not None and changes.passes(value)
    ]


def value_of(event: Event) -> DatastreamValue:
    """A kept event as the value in an answer."""
    return DatastreamValue(
        datastream_id=event.datastream_id,
        device_id=event.device_id,
        status=ValueStatus.OK,
        value=event.value,
        at_ms=event.at_ms,
        feed=event.feed,
        taken=event.taken,
    )


class FailureChanges:
    """Which of many things are failing now."""

    def __init__(self) -> None:
        self._failing: set[Hashable] = set()

    def failed(self, thing: Hashable) -> bool:
        """It failed; True if it had not failed before."""
        if thing in self._failing:
            return False
        self._failing.add(thing)
        return True

    def succeeded(self, thing: Hashable) -> bool:
        """It worked; True if it had failed before."""
        if thing not in self._failing:
            return False
        self._failing.discard(thing)
        return True

    def forget(self) -> None:
        """Start again: nothing is failing."""
        self._failing.clear()
