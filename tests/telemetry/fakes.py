"""What surrounds the telemetry package, as fakes that record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oda.codecs.json import JsonCodec
from oda.errors import NotConnected, OutboxFull
from oda.interfaces import (
    IConnector,
    ICounters,
    IDatastreamAccess,
    IDatastreamRegistry,
    IEventDispatcher,
    IStateManager,
    IWallClock,
)
from oda.model import ContentType, DatastreamValue, Event, ValueStatus

NOW_MS = 1_700_000_000_000


@implementer(IWallClock)
class FakeWallClock:
    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.time_ms = now_ms

    def now_ms(self) -> int:
        return self.time_ms


@implementer(ICounters)
class FakeCounters:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def increment(self, name: str, amount: int = 1, **labels: str) -> None:
        self.counts[name] += amount
        self.calls[name] += 1

    def observe(self, name: str, value: float, **labels: str) -> None:
        self.calls[name] += 1


@implementer(IConnector)
class FakeConnector:
    """Accepts at once, or when told to: ``hold`` keeps the Deferreds in ``waiting``."""

    is_connected = True

    def __init__(self) -> None:
        self.hold = False
        self.full = False
        self.payloads: list[bytes] = []
        self.fresh: list[bytes | None] = []
        self.sizes: list[int] = []
        self.content_types: list[ContentType] = []
        self.waiting: list[Deferred[int]] = []

    def uplink(
        self,
        payload: bytes,
        content_type: ContentType,
        datapoints: int = 0,
        fresh_payload: bytes | None = None,
    ) -> Deferred[int]:
        if self.full:
            return fail(OutboxFull("full"))
        self.payloads.append(payload)
        self.fresh.append(fresh_payload)
        self.sizes.append(datapoints)
        self.content_types.append(content_type)
        if self.hold:
            answer: Deferred[int] = Deferred()
            self.waiting.append(answer)
            return answer
        return succeed(len(self.payloads))

    def uplink_response(self, payload: bytes, content_type: ContentType) -> Deferred[int]:
        raise AssertionError("telemetry answers no operation")

    def uplink_no_qos(self, payload: bytes, content_type: ContentType) -> None:
        raise NotConnected("telemetry is never sent without a guarantee")

    def documents(self) -> list[Any]:
        return [JsonCodec().decode(payload) for payload in self.payloads]

    def values(self) -> list[Any]:
        """Every value that went up, in order."""
        return [
            point.get("value")
            for document in self.documents()
            for stream in document["datastreams"]
            for point in stream["datapoints"]
        ]


@implementer(IDatastreamRegistry)
class FakeRegistry:
    """Knows what ``readable`` lists, as (device, datastream); its host is dev-1."""

    def __init__(self, readable: Iterable[tuple[str, str]] = ()) -> None:
        self.readable = list(readable)

    def add_getter(self, getter: Any) -> None:
        raise AssertionError("not used")

    remove_getter = add_getter

    def add_setter(self, setter: Any) -> None:
        raise AssertionError("not used")

    remove_setter = add_setter

    def getters(self, datastream_id: str, device_pattern: str) -> list[tuple[str, Any]]:
        return [
            (device_id, self)
            for device_id, name in sorted(self.readable)
            if name == datastream_id and _matches(device_pattern, device_id)
        ]

    def setter(self, datastream_id: str, device_id: str) -> Any:
        return None

    def writable(self, device_pattern: str) -> list[tuple[str, str]]:
        return []

    def canonical_id(self, device_id: str) -> str:
        return "" if device_id == "dev-1" else device_id

    def datastream_ids(self, device_pattern: str) -> list[str]:
        return sorted(
            {name for device_id, name in self.readable if _matches(device_pattern, device_id)}
        )


@implementer(IDatastreamAccess)
class FakeAccess:
    """Answers with ``values[(device, datastream)]``: a value, a reason of failure in an
    ``Exception``, or a Deferred. ``asked`` and ``written`` record."""

    def __init__(self, values: dict[tuple[str, str], Any] | None = None) -> None:
        self.values = values or {}
        self.asked: list[tuple[str, str]] = []
        self.written: list[tuple[str, str, Any]] = []
        self.writes: dict[str, Deferred[DatastreamValue]] = {}

    def read(self, datastream_id: str, device_pattern: str) -> Deferred[list[DatastreamValue]]:
        self.asked.append((datastream_id, device_pattern))
        found: list[DatastreamValue] = []
        for (device_id, name), value in sorted(self.values.items(), key=lambda item: item[0]):
            if name != datastream_id or not _matches(device_pattern, device_id):
                continue
            if isinstance(value, Deferred):
                return value
            found.append(_value(name, device_id, value))
        return succeed(
            found or [DatastreamValue(datastream_id, device_pattern, ValueStatus.NOT_FOUND)]
        )

    def read_all(self, device_pattern: str) -> Deferred[list[DatastreamValue]]:
        self.asked.append(("", device_pattern))
        return succeed(
            [
                _value(name, device_id, value)
                for (device_id, name), value in sorted(self.values.items(), key=lambda i: i[0][1])
                if _matches(device_pattern, device_id)
            ]
        )

    def write(self, device_id: str, datastream_id: str, value: Any) -> Deferred[DatastreamValue]:
        self.written.append((device_id, datastream_id, value))
        if datastream_id in self.writes:
            return self.writes[datastream_id]
        return succeed(DatastreamValue(datastream_id, device_id, ValueStatus.OK, value))


@implementer(IEventDispatcher)
class FakeDispatcher:
    """Accepts at once; with ``answer`` set, what that returns is the answer. ``urgent`` are those
    of ``events`` that came by ``publish_now``."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.urgent: list[Event] = []
        self.answer: Callable[[Event], Deferred[None]] = lambda event: succeed(None)

    def publish(self, events: Event | Sequence[Event]) -> Deferred[None]:
        if isinstance(events, Event):
            self.events.append(events)
            return self.answer(events)
        self.events.extend(events)
        return self.answer(events[0])

    def publish_now(self, events: Event | Sequence[Event]) -> Deferred[None]:
        self.urgent.extend((events,) if isinstance(events, Event) else events)
        return self.publish(events)


@implementer(IStateManager)
class FakeStateManager:
    """Reads and collections are recorded and answered by ``answer``."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.answer: Callable[[str, str], Deferred[Any]] = lambda name, pattern: succeed(
            [DatastreamValue(name, pattern, ValueStatus.OK, 1, NOW_MS)]
        )

    def get(
        self, device_pattern: str, datastream_ids: Sequence[str] | None
    ) -> Deferred[list[DatastreamValue]]:
        raise AssertionError("not used")

    def set(
        self, device_id: str, values: Sequence[tuple[str, Any]]
    ) -> Deferred[list[DatastreamValue]]:
        raise AssertionError("not used")

    def received(self, events: Sequence[Event]) -> Deferred[None]:
        raise AssertionError("not used")

    def read(
        self, datastream_id: str, device_pattern: str, changes: Any = None
    ) -> Deferred[list[DatastreamValue]]:
        self.calls.append((datastream_id, device_pattern))
        return self.answer(datastream_id, device_pattern)

    def collect(self, datastream_id: str, device_pattern: str) -> Deferred[int]:
        self.calls.append((datastream_id, device_pattern))
        return self.answer(datastream_id, device_pattern)


def test_the_fakes_keep_the_contracts() -> None:
    """A fake that has drifted from its interface proves nothing."""
    verifyObject(IWallClock, FakeWallClock())
    verifyObject(ICounters, FakeCounters())
    verifyObject(IConnector, FakeConnector())
    verifyObject(IDatastreamRegistry, FakeRegistry())
    verifyObject(IDatastreamAccess, FakeAccess())
    verifyObject(IEventDispatcher, FakeDispatcher())
    verifyObject(IStateManager, FakeStateManager())


def result_of(deferred: Deferred[Any]) -> Any:
    """What ``deferred`` has fired with; raises what it failed with."""
    results: list[Any] = []
    failures: list[Any] = []
    deferred.addCallbacks(results.append, failures.append)
    if failures:
        failures[0].raiseException()
    assert results, "it has not fired"
    return results[0]


def has_fired(deferred: Deferred[Any]) -> bool:
    return bool(deferred.called)


def _matches(pattern: str, device_id: str) -> bool:
    """Device patterns, as far as the tests use them."""
    if pattern.endswith("*"):
        return device_id.startswith(pattern[:-1])
    return ("" if pattern == "dev-1" else pattern) == device_id


def _value(name: str, device_id: str, value: Any) -> DatastreamValue:
    if isinstance(value, Exception):
        return DatastreamValue(name, device_id, ValueStatus.ERROR, error=str(value))
    return DatastreamValue(name, device_id, ValueStatus.OK, value, NOW_MS)
