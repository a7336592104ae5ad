"""A failed write holds nothing of what was to be written.

Python's search for cycles is rare in the agent's process, so a failure in a cycle with the frame
that handled it would keep each refused value, of megabytes perhaps, for a long time.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from zope.interface import implementer

from oda.datastreams.clock import SystemWallClock
from oda.datastreams.reading import DatastreamAccess
from oda.datastreams.registry import DatastreamRegistry
from oda.interfaces import IDatastreamSetter


class Value:
    """Something whose end can be seen."""


@implementer(IDatastreamSetter)
class Bad:
    """A setter that fails to write, or already to list its devices."""

    datastream_id = "d"

    def __init__(self, lists: bool) -> None:
        self._lists = lists

    def devices(self) -> tuple[str, ...]:
        if not self._lists:
            raise ValueError("no list")
        return ("",)

    def set(self, device_id: str, value: Any) -> None:
        raise SystemExit("no write")


@pytest.fixture
def no_search() -> Iterator[None]:
    """Without Python's search for cycles."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("lists", [True, False])
def test_a_failed_write_holds_no_value(lists: bool) -> None:
    """Once its outcome is gone, so is the value, without a search for cycles."""
    registry = DatastreamRegistry()
    registry.add_setter(Bad(lists))
    access = DatastreamAccess(registry, SystemWallClock(), Clock())
    value = Value()
    seen = weakref.ref(value)
    outcomes: list[Any] = []
    access.write("", "d", value).addCallback(outcomes.append)
    assert outcomes[0].error
    outcomes.clear()
    del value
    assert seen() is None
