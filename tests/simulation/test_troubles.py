"""What is wrong shows in the status of an agent that runs, from its beginning to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from oda.datastreams.clock import EARLIEST_MS
from oda.model import MessageClass
from oda.settings import Schedule
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
    assert "1 message set aside" in codes(world)["dead_letters"]
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


def why(world: World, datastream: str = "sim.a") -> tuple[str, bool]:
    """What ``oda send`` is told of a datapoint that waits, and whether that is hopeless."""
    answer = world.life.agent.supervision.explain_waiting({"datastream": datastream})
    return answer["text"], answer["hopeless"]


def test_why_a_datapoint_waits(make_world: Callable[..., World]) -> None:
    """A commit that takes its time; a disk that fails, while the platform can still read it, and
    when it can't any more: only the last is hopeless."""
    world = connected(make_world)
    assert why(world) == ("it is written with others within 0.02 s (outboxCommitWindow)", False)
    world.disk.weather.state = "hangs"
    world.life.publishers.publish("sim.a", 3)
    later(world, 3.0)
    assert why(world) == ("the disk has not answered for 3 s", False)
    world.disk.weather.state = "full"
    world.disk.weather_changed()
    later(world, 1.0)
    text, is_hopeless = why(world)
    assert "disk is full; the agent accepts it once the platform has read it" in text
    assert not is_hopeless
    world.network.weather.answer = "refuse"
    assert world.network.wire is not None
    world.network.wire.reset()
    later(world, 1.0)
    text, is_hopeless = why(world)
    assert "disk is full; and there is no connection" in text
    assert is_hopeless


def test_why_a_collected_datapoint_waits(make_world: Callable[..., World]) -> None:
    """For its line of the configuration; others don't."""
    world = connected(make_world)
    line = Schedule(datastream_id="sim.b", first_s=60.0, period_s=60.0)
    world.life.agent.parts.events.set_schedules([line])
    assert why(world, "sim.b")[0] == "the dispatcher collects sim.b and publishes it every 60 s"
    assert "outboxCommitWindow" in why(world)[0]
