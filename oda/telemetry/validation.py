"""What an event has to be, to be published. Pure.

The checks that a well-formed event passes are inlined where they are cheap: this runs for every
datapoint of the agent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oda.errors import EncodeError, EventRejected
from oda.model import Event

#: Times and plain integers fit into 64 bits with a sign in every format.
MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**63 - 1

#: Raises ``EncodeError`` for a value that no format carries; the second argument is its place.
CheckValue = Callable[[Any, str], None]


def check_value_of(event: Event, check_value: CheckValue) -> None:
    """Raise ``EventRejected`` unless the value can be sent."""
    value = event.value
    kind = type(value)
    if kind is float:
        if value - value == 0.0:  # false for the infinities and NaN only
            return
    elif kind is int:
        if MIN_INTEGER <= value <= MAX_INTEGER:
            return
    elif kind is bool or value is None:
        return
    try:
        check_value(value, "value")
    except EncodeError as error:
        raise EventRejected(_name(event), str(error)) from error


def check_place(event: Event) -> None:
    """Raise ``EventRejected`` unless datastream, device, feed and path are well-formed."""
    if type(event.datastream_id) is not str or not event.datastream_id:
        raise EventRejected(_name(event), "the datastream id must be a text that is not empty")
    if type(event.device_id) is not str:
        raise EventRejected(_name(event), "the device id must be a text")
    if event.feed is not None and type(event.feed) is not str:
        raise EventRejected(_name(event), "the feed must be a text or None")
    if type(event.path) is not tuple or any(type(step) is not str for step in event.path):
        raise EventRejected(_name(event), "the path must be a tuple of texts")
    for text in (event.datastream_id, event.device_id, event.feed or "", *event.path):
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise EventRejected(_name(event), f"{text!r} is not valid Unicode") from error


def check_times(event: Event) -> None:
    """Raise ``EventRejected`` unless ``at_ms`` and ``from_ms`` are None or 64-bit integers."""
    for name, time_ms in (("at_ms", event.at_ms), ("from_ms", event.from_ms)):
        if time_ms is None:
            continue
        if type(time_ms) is not int or not MIN_INTEGER <= time_ms <= MAX_INTEGER:
            raise EventRejected(
                _name(event), f"{name} must be milliseconds since 1970 or None, not {time_ms!r}"
            )


def check_event(event: Event, check_value: CheckValue) -> None:
    """Raise ``EventRejected`` unless every member of the event can be sent."""
    if not isinstance(event, Event):
        raise EventRejected("", f"an Event is needed, not {type(event).__name__}")
    check_place(event)
    check_times(event)
    check_value_of(event, check_value)


def _name(event: Event) -> str:
    return event.datastream_id if isinstance(event.datastream_id, str) else ""
