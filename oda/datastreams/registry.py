"""Who reads and who writes which datastream of which device.

Getters and setters are kept by datastream only: which devices they serve is their own affair and
may change, so they are asked at every lookup. A datastream rarely has more than a few of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from zope.interface import implementer

from oda.datastreams.patterns import WILDCARD, DevicePattern, device_order
from oda.errors import DatastreamNotFound, DatastreamTaken
from oda.interfaces import IDatastreamGetter, IDatastreamRegistry, IDatastreamSetter
from oda.model import HOST

T = TypeVar("T")


@implementer(IDatastreamRegistry)
class DatastreamRegistry:
    """The getters and setters of an agent. ``host_id`` is set once the device id is known."""

    def __init__(self, host_id: str = HOST) -> None:
        self.host_id = host_id
        self._getters: dict[str, list[IDatastreamGetter]] = {}
        self._setters: dict[str, list[IDatastreamSetter]] = {}

    def add_getter(self, getter: IDatastreamGetter) -> None:
        """See ``IDatastreamRegistry.add_getter``."""
        others = self._getters.get(getter.datastream_id, [])
        for device_id in getter.devices():
            for other in others:
                if device_id in other.devices():
                    raise DatastreamTaken(_taken("read", getter, other, device_id))
        self._getters.setdefault(getter.datastream_id, []).append(getter)

    def remove_getter(self, getter: IDatastreamGetter) -> None:
        """See ``IDatastreamRegistry.remove_getter``."""
        _remove(self._getters, getter.datastream_id, getter, "getter")

    def add_setter(self, setter: IDatastreamSetter) -> None:
        """See ``IDatastreamRegistry.add_setter``."""
        others = self._setters.get(setter.datastream_id, [])
        for device_id in setter.devices():
            for other in others:
                if device_id in other.devices():
                    raise DatastreamTaken(_taken("written", setter, other, device_id))
        self._setters.setdefault(setter.datastream_id, []).append(setter)

    def remove_setter(self, setter: IDatastreamSetter) -> None:
        """See ``IDatastreamRegistry.remove_setter``."""
        _remove(self._setters, setter.datastream_id, setter, "setter")

    def getters(
        self, datastream_id: str, device_pattern: str
    ) -> list[tuple[str, IDatastreamGetter]]:
        """See ``IDatastreamRegistry.getters``."""
        candidates = self._getters.get(datastream_id)
        if candidates is None:
            return []
        if WILDCARD not in device_pattern:
            device_id = self.canonical_id(device_pattern)
            for getter in candidates:
                if device_id in getter.devices():
                    return [(device_id, getter)]
            return []
        matches = DevicePattern(device_pattern).matches
        found: dict[str, IDatastreamGetter] = {}
        for getter in candidates:
            for device_id in getter.devices():
                if matches(device_id):
                    found.setdefault(device_id, getter)
        return [(device_id, found[device_id]) for device_id in sorted(found, key=device_order)]

    def setter(self, datastream_id: str, device_id: str) -> IDatastreamSetter | None:
        """See ``IDatastreamRegistry.setter``."""
        device_id = self.canonical_id(device_id)
        for setter in self._setters.get(datastream_id, ()):
            if device_id in setter.devices():
                return setter
        return None

    def datastream_ids(self, device_pattern: str) -> list[str]:
        """See ``IDatastreamRegistry.datastream_ids``."""
        pattern = DevicePattern(self.canonical_id(device_pattern))
        return sorted(
            datastream_id
            for datastream_id, getters in self._getters.items()
            if any(pattern.matches(device_id) for device_id in _devices(getters))
        )

    def canonical_id(self, device_id: str) -> str:
        """See ``IDatastreamRegistry.canonical_id``."""
        return HOST if device_id == self.host_id else device_id


def _devices(getters: list[IDatastreamGetter]) -> Iterator[str]:
    for getter in getters:
        yield from getter.devices()


def _remove(table: dict[str, list[T]], datastream_id: str, entry: T, kind: str) -> None:
    entries = table.get(datastream_id, [])
    remaining = [other for other in entries if other is not entry]
    if len(remaining) == len(entries):
        raise DatastreamNotFound(f"{entry!r} is no registered {kind} of {datastream_id!r}")
    if remaining:
        table[datastream_id] = remaining
    else:
        del table[datastream_id]


def _taken(action: str, newcomer: object, owner: object, device_id: str) -> str:
    return f"{newcomer!r}: {device_id!r} is {action} by {owner!r}"
