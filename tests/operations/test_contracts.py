"""Everything that stands behind an interface keeps it."""

from __future__ import annotations

from typing import Any

import pytest
from zope.interface.verify import verifyObject

from oda.codecs import check_value
from oda.interfaces import (
    ICounters,
    IDispatcher,
    IJournal,
    IOperation,
    IOutbox,
    IStateManager,
    ITimeSource,
    IWallClock,
)
from oda.operations import (
    GetDeviceParameters,
    RefreshInfo,
    SetClockEquipment,
    SetDeviceParameters,
    SynchronizeClock,
)

from .fake_outbox import FakeJournal, FakeOutbox
from .fakes import (
    Bench,
    FakeCounters,
    FakeOperation,
    FakeStateManager,
    FakeTimeSource,
    FakeWallClock,
    TimeSources,
)

STATE = FakeStateManager()
OPERATIONS = [
    RefreshInfo(STATE, check_value, FakeCounters()),
    GetDeviceParameters(STATE, check_value),
    SetDeviceParameters(STATE),
    SetClockEquipment(STATE, FakeWallClock()),
    SynchronizeClock(STATE, TimeSources().open, FakeWallClock()),
]


@pytest.mark.parametrize(
    ("interface", "provider"),
    [
        (IDispatcher, Bench().dispatcher),
        (IJournal, FakeJournal()),
        (IOutbox, FakeOutbox()),
        *((IOperation, operation) for operation in OPERATIONS),
        (IStateManager, STATE),
        (IWallClock, FakeWallClock()),
        (ITimeSource, FakeTimeSource(0)),
        (ICounters, FakeCounters()),
        (IOperation, FakeOperation("X", lambda request, progress: None)),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_provides_its_interface(interface: Any, provider: Any) -> None:
    """The implementations, and the doubles used instead of others, keep the contracts."""
    assert verifyObject(interface, provider)


def test_only_reading_operations_may_run_twice() -> None:
    """What acts on the device says so: it is put on record before it runs."""
    assert {operation.name: operation.reads_only for operation in OPERATIONS} == {
        "REFRESH_INFO": True,
        "GET_DEVICE_PARAMETERS": True,
        "SET_DEVICE_PARAMETERS": False,
        "SET_CLOCK_EQUIPMENT": False,
        "SYNCHRONIZE_CLOCK": False,
    }
