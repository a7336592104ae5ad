"""What stands in for the parts around the connector; each records what happened to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from oda.interfaces import ICounters, IDeviceInfoProvider, IDispatcher, IWallClock
from oda.model import ContentType
from oda.outbox.outbox import Outbox, make_outbox
from oda.settings import OutboxKind, OutboxSettings

KEY = "canary-KEY/7?&+ü"


@implementer(ICounters)
class FakeCounters:
    """``total(name)`` adds up a counter over its labels."""

    def __init__(self) -> None:
        self.values: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self.observed: list[tuple[str, float]] = []

    def increment(self, name: str, amount: int = 1, **labels: str) -> None:
        self.values[name, tuple(sorted(labels.items()))] += amount

    def observe(self, name: str, value: float, **labels: str) -> None:
        self.observed.append((name, value))

    def total(self, name: str) -> int:
        return sum(count for (known, _), count in self.values.items() if known == name)


@implementer(IDeviceInfoProvider)
class FakeDeviceInfo:
    """``answer`` is what ``device_id()`` returns; an exception is raised, a callable called."""

    def __init__(self, answer: Any = "dev-1", key: Any = KEY) -> None:
        self.answer = answer
        self.key = key
        self.asked = 0

    def device_id(self) -> Any:
        self.asked += 1
        answer = self.answer() if callable(self.answer) else self.answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def api_key(self) -> str:
        if isinstance(self.key, Exception):
            raise self.key
        return str(self.key)

    def serial_number(self) -> str:
        return "serial"

    def software(self) -> list[dict[str, str]]:
        return []


@implementer(IDispatcher)
class FakeDispatcher:
    """Records what it is given; ``answer(payload)`` makes the result (None by default)."""

    def __init__(self, answer: Callable[[bytes], Any] = lambda payload: None) -> None:
        self.received: list[tuple[bytes, ContentType | None]] = []
        self.answer = answer

    def process(self, payload: bytes, content_type: ContentType | None) -> Deferred[bytes | None]:
        self.received.append((payload, content_type))
        result = self.answer(payload)
        return result if isinstance(result, Deferred) else succeed(result)


def echo(payload: bytes) -> bytes:
    """The answer of an echo dispatcher."""
    return payload


@implementer(IWallClock)
class FakeWallClock:
    """A time of day that stands still."""

    def now_ms(self) -> int:
        return 1_750_000_000_000


@implementer(IReactorTime)
class OutboxTime:
    """The time of ``reactor`` for an outbox alone, so that its timers can be told from those of
    the connector: it has one for as long as it is open."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._calls: list[Any] = []
        self.seconds = reactor.seconds

    def callLater(self, delay: float, callable: Any, *args: object, **kwargs: object) -> Any:
        self._calls = self.getDelayedCalls()
        self._calls.append(self._reactor.callLater(delay, callable, *args, **kwargs))
        return self._calls[-1]

    def getDelayedCalls(self) -> list[Any]:
        """The calls that are still to come."""
        return [call for call in self._calls if call.active()]


def memory_outbox(settings: OutboxSettings, reactor: Any, counters: Any) -> Outbox:
    """An outbox in memory, open."""
    settings = msgspec.structs.replace(settings, kind=OutboxKind.MEMORY)
    outbox = make_outbox(settings, reactor, FakeWallClock(), counters)
    outbox.open()
    return outbox
