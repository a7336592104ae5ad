"""Values read become events. Pure."""

from __future__ import annotations

from collections.abc import Iterable

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
    )
