"""Values read become events; failures known already are told from new ones. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from oda.model import DatastreamValue, Event, ValueStatus


def events_of(values: Iterable[DatastreamValue]) -> list[Event]:
    """The events that publish what was read: those with status OK and a value.

    A datastream may read as null; there is no datapoint to that, because a datapoint without a
    value says nothing (OpenGate protocol, "Telemetry": members that are null are left out).
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


def value_of(event: Event) -> DatastreamValue:
    """The value that answers with a kept event."""
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
        """It failed; True when it had not before."""
        if thing in self._failing:
            return False
        self._failing.add(thing)
        return True

    def succeeded(self, thing: Hashable) -> bool:
        """It worked; True when it had failed before."""
        if thing not in self._failing:
            return False
        self._failing.discard(thing)
        return True

    def forget(self) -> None:
        """Begin anew: nothing is failing."""
        self._failing.clear()
