"""A stop ends, whatever the disk, the network and the operations are doing.

Every combination of their states is brought about in a simulated world, in which ten seconds pass
at once. tests/e2e/test_stops.py does the same to a few whole processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product

import pytest

from tests.simulation.network import Network
from tests.simulation.platform import Habits
from tests.simulation.workload import ACT
from tests.simulation.world import World

#: A stop ends within so many seconds.
LIMIT_S = 10.0

State = Callable[[World], None]


def _as_it_is(world: World) -> None:
    """Everything works."""


def _disk_is(state: str) -> State:
    def change(world: World) -> None:
        world.facts.excuses.add("disk")
        world.disk.weather.state = state
        world.disk.weather_changed()

    return change


def _slow_disk(world: World) -> None:
    world.disk.weather.commit_s = (2.0, 2.0)


def _strike(action: str) -> State:
    def change(world: World) -> None:
        world.facts.excuses |= {"disk", "store"}
        assert world.disk.strike(action)

    return change


#: What becomes of the disk of an agent that works.
DISKS: dict[str, State] = {
    "works": _as_it_is,
    "is slow": _slow_disk,
    "is full": _disk_is("full"),
    "can't be read": _disk_is("broken"),
    "hangs": _disk_is("hangs"),
    "loses the file": _strike("delete"),
    "has another file": _strike("replace"),
}


def _hold(network: Network, *directions: str) -> None:
    assert network.wire is not None
    for direction in directions:
        getattr(network.wire, direction).is_held = True


def _lost(answer: str) -> State:
    def change(world: World) -> None:
        world.network.weather.answer = answer
        assert world.network.wire is not None
        world.network.wire.reset()

    return change


def _upgrades_never(world: World) -> None:
    assert world.network.wire is not None
    world.network.wire.reset()
    before = world.network.wire
    while world.network.wire is before:
        world.scheduler.run_until(world.scheduler.now_s + 0.01)
    _hold(world.network, "up", "down")


def _refuses_upgrades(world: World) -> None:
    world.platform.habits = Habits(http_status=503)
    assert world.network.wire is not None
    world.network.wire.reset()


#: What becomes of the network of an agent that is connected.
NETWORKS: dict[str, State] = {
    "is connected": _as_it_is,
    "answers nothing": _lost("silence"),
    "refuses": _lost("refuse"),
    "upgrades never": _upgrades_never,
    "refuses upgrades": _refuses_upgrades,
    "is half open": lambda world: _hold(world.network, "up", "down"),
    "reads nothing": lambda world: _hold(world.network, "up"),
    "says nothing": lambda world: _hold(world.network, "down"),
}


def _ask(seconds: float) -> State:
    def change(world: World) -> None:
        world.platform.ask("r1", ACT, {"seconds": seconds, "size": 10}, True)
        world.scheduler.run_until(world.scheduler.now_s + 0.05)

    return change


#: What the agent does at that moment: each is asked for before the disk and the network change, or
#: after the disk alone did.
OPERATIONS: dict[str, tuple[State, State]] = {
    "none": (_as_it_is, _as_it_is),
    "running": (_ask(60.0), _as_it_is),
    "waiting for its commit": (_as_it_is, _ask(0.0)),
}


@contextmanager
def passing(world: World, seconds: float) -> Iterator[None]:
    """Let the time pass after what the block does."""
    yield
    world.scheduler.run_until(world.scheduler.now_s + seconds)


def stop(world: World, limit_s: float = LIMIT_S) -> float:
    """Stop the agent; the seconds that took. Everybody was told, and every loss."""
    began_s = world.scheduler.now_s
    ended: list[float] = []
    world.life.stop(lambda _: ended.append(world.scheduler.now_s))
    world.scheduler.run_until(began_s + limit_s)
    text = world.history.text()
    assert ended, text
    facts = world.facts
    assert not facts.violations, text
    outcomes = {number: one.outcome for number, one in facts.published.items()}
    assert all(outcomes.values()), f"{outcomes}\n{text}"
    refused = [number for number, outcome in outcomes.items() if outcome != "accepted"]
    if refused:
        assert "which could not be written: " in text, text
        assert "written: \n" not in text
    return ended[0] - began_s


@pytest.mark.parametrize(
    ("disk", "network", "operation"), list(product(DISKS, NETWORKS, OPERATIONS)), ids=str
)
def test_a_stop_ends_in_every_state(
    make_world: Callable[..., World], disk: str, network: str, operation: str
) -> None:
    """Ten seconds after it was asked to stop, the agent has ended: nothing of it is left running,
    everybody who published something has an answer, and the log says what is lost, and why."""
    world = make_world(has_files="file" in disk)
    with passing(world, 2.0):
        world.begin()
        world.life.publishers.publish("sim.a", 5)
    before, after = OPERATIONS[operation]
    before(world)
    DISKS[disk](world)
    after(world)
    NETWORKS[network](world)
    with passing(world, 3.0):
        world.life.publishers.publish("sim.b", 8)
    world.life.publishers.publish("sim.c", 8)
    stop(world)


@pytest.mark.parametrize("network", ["accept", "refuse", "silence"])
@pytest.mark.parametrize("disk", ["full", "broken"])
def test_a_stop_ends_without_a_store(
    make_world: Callable[..., World], disk: str, network: str
) -> None:
    """The same for an agent whose store could never be opened: its directory can't be written."""
    world = make_world()
    world.network.weather.answer = network
    _disk_is(disk)(world)
    with passing(world, 2.0):
        world._begin_life()
    with passing(world, 5.0):
        world.life.publishers.publish("sim.a", 8)
    stop(world)


@pytest.mark.parametrize("damage", ["empty", "no log", "scribble"])
def test_a_stop_ends_while_a_damaged_store_is_copied(
    make_world: Callable[..., World], damage: str
) -> None:
    """A stop waits neither for the copy nor for what is in it."""
    world = make_world(has_files=True)
    world.network.weather.answer = "refuse"
    with passing(world, 2.0):
        world.begin()
        for _ in range(20):
            world.life.publishers.publish("sim.a", 50, size=2000, as_list=False)
    stop(world)
    world.disk.stopped()
    world.life.reactor.die()
    world.disk.damage(damage)
    world._begin_life()
    _disk_is("hangs")(world)
    with passing(world, 1.0):
        world.life.publishers.publish("sim.b", 8)
    stop(world)


def test_a_stop_that_hurries_waits_for_nothing(make_world: Callable[..., World]) -> None:
    """A second signal cuts every step short; the disk alone gets a second for what is accepted."""
    world = make_world()
    with passing(world, 2.0):
        world.begin()
    _hold(world.network, "up", "down")
    _disk_is("hangs")(world)
    with passing(world, 1.0):
        world.life.publishers.publish("sim.a", 8)
    world.scheduler.later(0.5, world.life.agent.hurry)
    assert stop(world) < 2.0


def test_what_hung_in_a_stop_leaves_nothing_behind(make_world: Callable[..., World]) -> None:
    """In a process that goes on, the store is closed as soon as the disk answers after all: another
    agent can use it."""
    world = make_world()
    with passing(world, 2.0):
        world.begin()
    _disk_is("hangs")(world)
    with passing(world, 1.0):
        world.life.publishers.publish("sim.a", 8)
    stop(world)
    with passing(world, 1.0):
        _disk_is("works")(world)
    assert world.disk._worker is not None
    assert not world.disk._worker._jobs
    assert not world.facts.violations
