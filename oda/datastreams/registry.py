"""The getters and setters of each datastream and device.

They are stored by datastream only. Which devices they serve is up to them and may change, so every
lookup asks them. A datastream rarely has more than a few of them.

``devices()`` is foreign code. If it fails, its getter counts for the requested devices: reading
them fails, and the other getters of the datastream are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from zope.interface import implementer

from oda.boundary import contained, foreign_code, reason_of
from oda.errors import DatastreamError, DatastreamNotFound, DatastreamTaken
from oda.interfaces import IDatastreamGetter, IDatastreamRegistry, IDatastreamSetter
from oda.log import Logger
from oda.model import HOST, WILDCARD, DevicePattern, Reading, device_order
from oda.wording import is_unicode

log = Logger()

T = TypeVar("T", IDatastreamGetter, IDatastreamSetter)


class _Table(Generic[T]):
    """Entries by datastream. Fallbacks come last and don't conflict with other entries."""

    def __init__(self, action: str) -> None:
        self.entries: dict[str, list[T]] = {}
        self._fallbacks: dict[str, list[T]] = {}
        self._action = action

    def add(self, entry: T, fallback: bool) -> None:
        datastream_id = _datastream_of(entry)
        everybody = self.entries.get(datastream_id, [])
        fallbacks = self._fallbacks.get(datastream_id, [])
        own = everybody[: len(everybody) - len(fallbacks)]
        others = fallbacks if fallback else own
        for device_id in _listed(entry) if others else ():
            for other in others:
                if device_id in _listed(other):
                    raise DatastreamTaken(
                        f"{entry!r}: datastream {datastream_id!r} of device {device_id!r} "
                        f"is already {self._action} by {other!r}"
                    )
        longer = others.copy()
        longer.append(entry)
        if fallback:
            self._store(datastream_id, own, longer)
        else:
            self._store(datastream_id, longer, fallbacks)

    def remove(self, entry: T) -> None:
        # From where it was put, even if its datastream id has changed since.
        places = [name for name, table in self.entries.items() if _is_in(table, entry)]
        if not places:
            raise DatastreamNotFound(f"{entry!r} is not registered")
        datastream_id = places[0]
        everybody = self.entries[datastream_id]
        fallbacks = self._fallbacks.get(datastream_id, [])
        own = everybody[: len(everybody) - len(fallbacks)]
        self._store(
            datastream_id,
            [other for other in own if other is not entry],
            [other for other in fallbacks if other is not entry],
        )

    def _store(self, datastream_id: str, own: list[T], fallbacks: list[T]) -> None:
        everybody = own + fallbacks if own else fallbacks  # often the same list: nothing alters it
        for table, entries in ((self.entries, everybody), (self._fallbacks, fallbacks)):
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
        the same datastream and device, whichever came first: this is how components replace
        built-in readings."""
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
            broken: _Unlistable | None = None
            for getter in candidates:
                try:
                    if device_id in getter.devices():
                        return [(device_id, getter)]
                except BaseException as raised:  # noqa: BLE001 - foreign code; a reading reports it
                    broken = broken or _Unlistable(datastream_id, contained(raised))
            return [] if broken is None else [(device_id, broken)]
        matches = DevicePattern(device_pattern).matches
        found: dict[str, IDatastreamGetter] = {}
        for getter in candidates:
            try:
                with foreign_code:
                    for device_id in getter.devices():
                        if matches(device_id):
                            found.setdefault(device_id, getter)
            except Exception as error:  # noqa: BLE001 - a reading reports it
                found.setdefault(device_pattern, _Unlistable(datastream_id, error))
        return [(device_id, found[device_id]) for device_id in sorted(found, key=device_order)]

    def setter(self, datastream_id: str, device_id: str) -> IDatastreamSetter | None:
        """See ``IDatastreamRegistry.setter``."""
        device_id = self.canonical_id(device_id)
        problem: Exception | None = None
        for setter in self._setters.entries.get(datastream_id, ()):
            try:
                if device_id in setter.devices():
                    return setter
            except BaseException as raised:  # noqa: BLE001 - raised below, unless another setter serves it
                problem = problem or contained(raised)
        try:
            if problem is not None:
                raise problem
        finally:
            del problem  # its traceback holds this frame, and those of the callers
        return None

    def writable(self, device_pattern: str) -> list[tuple[str, str]]:
        """See ``IDatastreamRegistry.writable``. A setter that can't list its devices is left
        out."""
        pattern = DevicePattern(self.canonical_id(device_pattern))
        found: list[tuple[str, str]] = []
        for datastream_id in sorted(self._setters.entries):
            served = {
                device_id
                for setter in self._setters.entries[datastream_id]
                for device_id in _listed(setter)
                if pattern.matches(device_id)
            }
            found += [(datastream_id, device_id) for device_id in sorted(served, key=device_order)]
        return found

    def datastream_ids(self, device_pattern: str) -> list[str]:
        """See ``IDatastreamRegistry.datastream_ids``."""
        pattern = DevicePattern(self.canonical_id(device_pattern))
        return sorted(
            datastream_id
            for datastream_id, getters in self._getters.entries.items()
            if any(_may_serve(getter, pattern) for getter in getters)
        )

    def canonical_id(self, device_id: str) -> str:
        """See ``IDatastreamRegistry.canonical_id``."""
        return HOST if device_id == self.host_id else device_id


@implementer(IDatastreamGetter)
class _Unlistable:
    """Replaces a getter whose ``devices()`` failed: reading it fails with the reason."""

    def __init__(self, datastream_id: str, error: Exception) -> None:
        self.datastream_id = datastream_id
        self._error = error

    def devices(self) -> tuple[str, ...]:
        """No known devices."""
        return ()

    def get(self, device_id: str) -> Reading:
        """Fail like ``devices()``."""
        raise self._error


def _is_in(entries: Sequence[object], entry: object) -> bool:
    return any(other is entry for other in entries)


def _datastream_of(entry: IDatastreamGetter | IDatastreamSetter) -> str:
    """The datastream id, read once, as a plain text: it may be an enumeration member. Any other id
    would be stored among the ids, which could then not be sorted or sent."""
    given: object = entry.datastream_id
    if not isinstance(given, str) or not given:
        raise DatastreamError(f"{entry!r}: the datastream id must be a text that is not empty")
    datastream_id = str.__str__(given)
    if not is_unicode(datastream_id):
        raise DatastreamError(f"{entry!r}: the datastream id is not Unicode text")
    return datastream_id


def _listed(entry: IDatastreamGetter | IDatastreamSetter) -> Sequence[str]:
    """The devices, as far as they are known now."""
    try:
        with foreign_code:
            return tuple(entry.devices())
    except Exception as error:  # noqa: BLE001 - it may work later
        log.warn(
            "{entry} can't list its devices now: {reason}",
            entry=repr(entry),
            reason=reason_of(error),
        )
        return ()


def _may_serve(getter: IDatastreamGetter, pattern: DevicePattern) -> bool:
    """Whether it serves such a device; True if unknown, so that reading it shows why."""
    try:
        with foreign_code:
            return any(pattern.matches(device_id) for device_id in getter.devices())
    except Exception:  # noqa: BLE001 - see above
        return True
