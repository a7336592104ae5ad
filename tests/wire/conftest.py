"""Every world a test makes is closed again, and nothing may have gone wrong unseen in it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.wire.world import World


@pytest.fixture(scope="session", autouse=True)
def _quick_collections() -> Iterator[None]:
    """Every test collects garbage to find forgotten Deferreds; what is there before is no part of
    that, and would make it slow."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def make_world() -> Iterator[Callable[..., World]]:
    """Make a ``World``. At the end no failure may have been logged, not even one that a forgotten
    Deferred reports when it is collected; a test that expects one empties ``world.log.events``.
    Nor may the link have gone from a state to one that can't follow it."""
    worlds: list[World] = []

    def make(**arguments: Any) -> World:
        world = World(**arguments)
        worlds.append(world)
        return world

    yield make
    gc.collect()
    failures = [failure for world in worlds for failure in world.log.failures]
    failures += [world.log.lines for world in worlds if world.log.has("a defect: the link goes")]
    for world in reversed(worlds):
        world.close()
    assert failures == []


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A connector that has not been started."""
    return make_world()
