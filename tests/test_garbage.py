"""What a process that is nothing but an agent does about garbage."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from oda.garbage import (
    PERIOD_S,
    SETTLED_AFTER_S,
    THRESHOLDS,
    GarbageService,
    memory_returner,
)


@pytest.fixture(autouse=True)
def _process() -> Iterator[None]:
    """Collections happen only where the test makes them, and afterwards as before."""
    before = gc.get_threshold()
    gc.disable()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()
    gc.enable()


class Ring:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


def test_cycles_are_gone_soon_however_little_happens() -> None:
    """And not before the period is over; then free memory is given back, too."""
    clock = Clock()
    given_back: list[float] = []
    service = GarbageService(clock, lambda: given_back.append(clock.seconds()))
    service.startService()
    clock.advance(SETTLED_AFTER_S)
    ring = weakref.ref(Ring())
    clock.advance(PERIOD_S - 1)
    assert ring() is not None
    assert given_back == []
    clock.advance(1)
    assert ring() is None
    assert given_back == [SETTLED_AFTER_S + PERIOD_S]


@pytest.mark.parametrize("seconds", [0.0, SETTLED_AFTER_S, SETTLED_AFTER_S + PERIOD_S])
def test_a_process_that_stops_leaves_no_timer_behind(seconds: float) -> None:
    """Whether it stops before or after anything was due."""
    clock = Clock()
    service = GarbageService(clock, lambda: None)
    service.startService()
    clock.advance(seconds)
    service.stopService()
    assert clock.getDelayedCalls() == []


def test_what_exists_is_set_aside_when_the_process_has_started() -> None:
    """No search goes through it any more, but it is searched once before. Not at once: that would
    hold up the first connection."""
    clock = Clock()
    ring = weakref.ref(Ring())
    kept = [ring]
    GarbageService(clock, lambda: None).startService()
    assert ring() is not None
    clock.advance(SETTLED_AFTER_S)
    assert ring() is None
    assert gc.get_threshold() == THRESHOLDS
    assert gc.is_tracked(kept)
    assert all(kept is not tracked for tracked in gc.get_objects())


def test_giving_memory_back_is_harmless() -> None:
    """Wherever the tests run: with glibc, or with another library that has no such call."""
    give_back = memory_returner()
    give_back()
    give_back()
