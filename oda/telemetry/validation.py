"""What an event must be to be published, and the form in which it is taken. A time that does not
look like milliseconds is sent all the same, with one warning for each datastream.

An accepted value belongs to the agent: a dict or list is copied when it is checked, so that its
publisher may go on changing it. Plain values can't change and need no copy.

The checks that a well-formed event passes are inlined where they are cheap, because this runs for
every datapoint of the agent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from oda.errors import EncodeError, EventRejected
from oda.log import Logger
from oda.model import Event, Moment
from oda.timestamps import SURE_FROM_MS, SURE_TO_MS, doubt, show

log = Logger()

#: Times and plain integers fit into 64 bits with a sign in every format.
MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**63 - 1

#: Raises ``EncodeError`` for a value that no format carries; the second argument is its place.
CheckValue = Callable[[Any, str], None]

#: The containers that a value may be made of; a tuple can hold a list.
_CONTAINERS = frozenset((dict, list, tuple))

#: For how many datastreams a warning is remembered; further ones get none.
MAX_NAMES = 1000

#: A time this close to the machine's is as believable as the machine's clock.
_NEAR_MS = 86_400_000


def accept_value(event: Event, check_value: CheckValue) -> Any:
    """A copy that no other code can change; raises ``EventRejected`` if it can't be sent."""
    value = event.value
    kind = type(value)
    if kind is float:
        if value - value == 0.0:  # false for the infinities and NaN only
            return value
    elif kind is int:
        if MIN_INTEGER <= value <= MAX_INTEGER:
            return value
    elif kind is bool or value is None:
        return value
    try:
        check_value(value, "value")
    except EncodeError as error:
        raise EventRejected(_name(event), str(error)) from error
    # A value that passed the check holds only what to_builtins copies unchanged.
    return msgspec.to_builtins(value) if kind in _CONTAINERS else value


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
            # A foreign object's own words may be endless, or raise.
            kind = (
                "a number of more than 64 bits" if type(time_ms) is int else type(time_ms).__name__
            )
            raise EventRejected(
                _name(event), f"{name} must be milliseconds since 1970 or None, not {kind}"
            )


def accept_event(event: Event, check_value: CheckValue) -> Event:
    """The event with a value that no other code can change.

    Raises ``EventRejected`` unless every member of the event can be sent.
    """
    if not isinstance(event, Event):
        raise EventRejected("", f"an Event is needed, not {type(event).__name__}")
    check_place(event)
    check_times(event)
    if event.taken is not None and type(event.taken) is not Moment:
        raise EventRejected(_name(event), "taken must be a Moment or None")
    value = accept_value(event, check_value)
    if value is event.value:
        return event
    return Event(
        event.datastream_id,
        value,
        event.device_id,
        event.at_ms,
        event.feed,
        event.path,
        event.from_ms,
        event.taken,
    )


def _name(event: Event) -> str:
    return event.datastream_id if isinstance(event.datastream_id, str) else ""


class TimeDoubts:
    """``now_ms`` gives the machine's time. A device whose clock was never set lives in 1970, where
    present times in seconds would lie."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._told: set[str] = set()

    def consider(self, event: Event) -> None:
        """Warn if the event's times are doubtful, once for each datastream."""
        for time_ms in (event.at_ms, event.from_ms):
            if time_ms is None or SURE_FROM_MS <= time_ms <= SURE_TO_MS:
                continue
            other = doubt(time_ms)
            if (
                other is None
                or event.datastream_id in self._told
                or len(self._told) == MAX_NAMES
                or abs(time_ms - self._now_ms()) < _NEAR_MS
            ):
                continue
            self._told.add(event.datastream_id)
            log.warn(
                "a datapoint of {datastream_id} has the time {time_ms}, which seems to be {other}:"
                " in milliseconds since 1970 it is {day}. The agent sends it unchanged",
                datastream_id=event.datastream_id,
                time_ms=time_ms,
                other=other,
                day=show(time_ms),
            )
