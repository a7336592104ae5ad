"""Getters, setters and clocks for the tests, which record what was asked of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from zope.interface import implementer

from oda.interfaces import IDatastreamGetter, IDatastreamSetter, IWallClock
from oda.model import HOST, Reading


@implementer(IWallClock)
class FixedClock:
    """A time of day that stands still until told."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.time_ms = now_ms

    def now_ms(self) -> int:
        return self.time_ms


@implementer(IDatastreamGetter)
class FakeGetter:
    """Answers with what ``answer(device_id)`` gives, or raises what it raises."""

    def __init__(
        self,
        datastream_id: str,
        devices: Iterable[str] = (HOST,),
        answer: Callable[[str], Any] = lambda device_id: Reading(device_id),
    ) -> None:
        self.datastream_id = datastream_id
        self.served = list(devices)
        self.answer = answer
        self.asked: list[str] = []

    def devices(self) -> Iterable[str]:
        return self.served

    def get(self, device_id: str) -> Any:
        self.asked.append(device_id)
        return self.answer(device_id)

    def __repr__(self) -> str:
        return f"FakeGetter({self.datastream_id!r})"


@implementer(IDatastreamSetter)
class FakeSetter:
    """Records what is written; ``answer`` decides how it ends."""

    def __init__(
        self,
        datastream_id: str,
        devices: Iterable[str] = (HOST,),
        answer: Callable[[Any], Any] = lambda value: None,
    ) -> None:
        self.datastream_id = datastream_id
        self.served = list(devices)
        self.answer = answer
        self.written: list[tuple[str, Any]] = []

    def devices(self) -> Iterable[str]:
        return self.served

    def set(self, device_id: str, value: Any) -> Any:
        self.written.append((device_id, value))
        return self.answer(value)

    def __repr__(self) -> str:
        return f"FakeSetter({self.datastream_id!r})"
