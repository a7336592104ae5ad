"""Worlds in which nothing happens by itself, for tests that bring about one state."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import txaio
from twisted.logger import globalLogPublisher

from oda.datastreams.clock import EARLIEST_MS
from tests.simulation.disk import FakeDisk, SqliteDisk
from tests.simulation.plan import Plan
from tests.simulation.world import World


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes one, with a store in memory or in files."""
    loop = txaio.config.loop
    made: list[World] = []

    def make(has_files: bool = False) -> World:
        disk = {"commit_s": (0.0001, 0.0005), "has_files": has_files, "head_rows": 3}
        settings: dict[str, dict[str, Any]] = {"outbox": {}, "connector": {}, "disk": disk}
        plan = Plan("by hand", settings, (), 0.0)
        world = World(plan, SqliteDisk if has_files else FakeDisk, tmp_path)
        world.wall_clock.set_ms(EARLIEST_MS)  # a time that the agent believes
        made.append(world)
        return world

    yield make
    for world in made:
        world.close()
        globalLogPublisher.removeObserver(world.history.observer)
    made.clear()
    gc.collect()
    txaio.config.loop = loop
