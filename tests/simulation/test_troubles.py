"""What is wrong shows in the status of an agent that runs, from its beginning to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from oda.datastreams.clock import EARLIEST_MS
from oda.model import MessageClass
from tests.simulation.world import World


def codes(world: World) -> dict[str, str]:
    """The troubles by their codes, with their texts."""
    status: dict[str, Any] = world.life.agent.supervision.status({})
    return {one["code"]: one["text"] for one in status["troubles"]}


def state(world: World) -> str:
    """The agent in one word."""
    return str(world.life.agent.supervision.status({})["state"])


def later(world: World, seconds: float) -> None:
    world.scheduler.run_until(world.scheduler.now_s + seconds)


def connected(make_world: Callable[..., World]) -> World:
    """An agent that is connected, and well."""
    world = make_world()
    world.begin()
    later(world, 2.0)
    assert (state(world), codes(world)) == ("ready", {})
    return world


@pytest.mark.parametrize(
    ("weather", "words"),
    [("full", "database or disk is full"), ("hangs", "the disk does not answer")],
)
def test_a_disk(make_world: Callable[..., World], weather: str, words: str) -> None:
    """One that fails is told at once, one that hangs after some seconds; the connection is well all
    the same. The trouble ends with the first commit that works."""
    world = connected(make_world)
    world.disk.weather.state = weather
    world.life.publishers.publish("sim.a", 3)
    later(world, 8.0)
    assert state(world) == "troubled"
    assert words in codes(world)["disk"]
    world.disk.weather.state = "works"
    world.disk.weather_changed()
    later(world, 8.0)
    assert (state(world), codes(world)) == ("ready", {})


def test_dead_letters(make_world: Callable[..., World]) -> None:
    """As long as there are any."""
    world = connected(make_world)
    outbox = world.life.agent.parts.outbox
    world.platform.habits.pong = "lost"
    world.life.publishers.publish("sim.a", 1)
    later(world, 0.01)
    outbox.bury(list(outbox.backlogs[MessageClass.TELEMETRY].queue.in_flight), "refused")
    later(world, 1.5)
    assert "1 messages are set aside" in codes(world)["dead_letters"]
    outbox.purge()
    later(world, 1.5)
    assert "dead_letters" not in codes(world)


def test_a_clock_that_can_not_be_right(make_world: Callable[..., World]) -> None:
    """Before the day on which this version was built."""
    world = connected(make_world)
    world.wall_clock.set_ms(EARLIEST_MS - 1)
    assert "time of day" in codes(world)["clock"]
    world.wall_clock.set_ms(EARLIEST_MS)
    assert codes(world) == {}


def test_a_platform_that_answers_no_pings(make_world: Callable[..., World]) -> None:
    """From the moment at which the agent takes it for one."""
    world = make_world()
    world.platform.habits.pong = "lost"
    world.begin()
    world.platform.is_trusted = True  # it may be silent from the first ping on
    later(world, 90.0)
    assert "not acknowledged" in codes(world)["pongs"]
