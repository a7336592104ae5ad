"""Who reads and who writes which datastream of which device.

Getters and setters are kept by datastream only: which devices they serve is their own affair and
may change, so they are asked at every lookup. A datastream rarely has more than a few of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from zope.interface import implementer

from oda.errors import DatastreamNotFound, DatastreamTaken
from oda.interfaces import IDatastreamGetter, IDatastreamRegistry, IDatastreamSetter
from oda.model import HOST, WILDCARD, DevicePattern, device_order

T = TypeVar("T", IDatastreamGetter, IDatastreamSetter)


class _Table(Generic[T]):
    """Entries by datastream. Fallbacks stand behind the others and don't conflict with them."""

    def __init__(self, action: str) -> None:
        self.entries: dict[str, list[T]] = {}
        self._fallbacks: dict[str, list[T]] = {}
        self._action = action

    def add(self, entry: T, fallback: bool) -> None:
        everybody = self.entries.get(entry.datastream_id, [])
        fallbacks = self._fallbacks.get(entry.datastream_id, [])
        own = everybody[: len(everybody) - len(fallbacks)]
        for device_id in entry.devices():
            for other in fallbacks if fallback else own:
                if device_id in other.devices():
                    raise DatastreamTaken(
                        f"{entry!r}: datastream {entry.datastream_id!r} of device {device_id!r} "
                        f"is {self._action} by {other!r} already"
                    )
        (fallbacks if fallback else own).append(entry)
        self._store(entry.datastream_id, own, fallbacks)

    def remove(self, entry: T) -> None:
        everybody = self.entries.get(entry.datastream_id, [])
        if not any(other is entry for other in everybody):
            raise DatastreamNotFound(f"{entry!r} is not registered for {entry.datastream_id!r}")
        fallbacks = self._fallbacks.get(entry.datastream_id, [])
        own = everybody[: len(everybody) - len(fallbacks)]
        self._store(
            entry.datastream_id,
            [other for other in own if other is not entry],
            [other for other in fallbacks if other is not entry],
        )

    def _store(self, datastream_id: str, own: list[T], fallbacks: list[T]) -> None:
        for table, entries in ((self.entries, own + fallbacks), (self._fallbacks, fallbacks)):
            if entries:
                table[datastream_id] = entries
            else:
                table.pop(datastream_id, None)


@implementer(IDatastreamRegistry)
class DatastreamRegistry:
    """The getters and setters of an agent. ``host_id`` is set once the device id is known."""

    def __init__(self, host_id: str = HOST) -> None:
        self.host_id = host_id
        self._getters: _Table[IDatastreamGetter] = _Table("read")
        self._setters: _Table[IDatastreamSetter] = _Table("written")

    def add_getter(self, getter: IDatastreamGetter, fallback: bool = False) -> None:
        """See ``IDatastreamRegistry.add_getter``. A ``fallback`` gives way to any other getter of
        the same datastream and device, whichever came first: that is how built-ins are replaced."""
        self._getters.add(getter, fallback)

    def remove_getter(self, getter: IDatastreamGetter) -> None:
        """See ``IDatastreamRegistry.remove_getter``."""
        self._getters.remove(getter)

    def add_setter(self, setter: IDatastreamSetter, fallback: bool = False) -> None:
        """See ``IDatastreamRegistry.add_setter``; ``fallback`` as in ``add_getter``."""
        self._setters.add(setter, fallback)

    def remove_setter(self, setter: IDatastreamSetter) -> None:
        """See ``IDatastreamRegistry.remove_setter``."""
        self._setters.remove(setter)

    def getters(
        self, datastream_id: str, device_pattern: str
    ) -> list[tuple[str, IDatastreamGetter]]:
        """See ``IDatastreamRegistry.getters``."""
        candidates = self._getters.entries.get(datastream_id)
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
        for setter in self._setters.entries.get(datastream_id, ()):
            if device_id in setter.devices():
                return setter
        return None

    def datastream_ids(self, device_pattern: str) -> list[str]:
        """See ``IDatastreamRegistry.datastream_ids``."""
        pattern = DevicePattern(self.canonical_id(device_pattern))
        return sorted(
            datastream_id
            for datastream_id, getters in self._getters.entries.items()
            if any(pattern.matches(device_id) for device_id in _devices(getters))
        )

    def canonical_id(self, device_id: str) -> str:
        """See ``IDatastreamRegistry.canonical_id``."""
        return HOST if device_id == self.host_id else device_id


def _devices(getters: list[IDatastreamGetter]) -> Iterator[str]:
    for getter in getters:
        yield from getter.devices()
