"""Stopping and reconfiguring, from every state of the connection."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from oda.model import LinkState
from tests.wire.states import NAMES, STATES
from tests.wire.world import World, connector_settings

MakeWorld = Callable[..., World]


def sockets(world: World) -> int:
    return sum(wire.client.connected for wire in world.network.wires)


def assert_nothing_left(world: World) -> None:
    assert world.timers == []
    assert sockets(world) == 0
    assert not any(connector.state == "connecting" for connector in world.network.connectors)
    assert not world.is_connected


@pytest.mark.parametrize(("reach", "state"), list(zip(STATES, NAMES, strict=True)))
def test_the_status_names_every_state(
    world: World, reach: Callable[[World], None], state: LinkState
) -> None:
    """What the status says is the state that the link is in, until it has stopped."""
    assert world.service.status().state is LinkState.STOPPED
    reach(world)
    assert world.service.status().state is state
    world.stop()
    world.pass_time(10)
    assert world.service.status().state is LinkState.STOPPED


@pytest.mark.parametrize("reach", STATES)
def test_stops_from_every_state(world: World, reach: Callable[[World], None]) -> None:
    """From whatever state, stopping ends within the close's limit, leaves no timer and no socket,
    and nothing begins again."""
    reach(world)
    stopped = world.stop()
    world.pass_time(5.1)
    assert stopped.called
    world.device_info.answer = "late"
    for receiver in world.network.nameResolver.waiting:
        receiver.resolutionComplete()
    world.pass_time(1000)
    assert_nothing_left(world)
    attempts = len(world.network.connectors)
    world.pass_time(1000)
    assert len(world.network.connectors) == attempts


@pytest.mark.parametrize("reach", STATES)
def test_starts_again_after_stopping_in_every_state(
    world: World, reach: Callable[[World], None]
) -> None:
    """A start right after the stop, before its Deferred has fired, leads to one connection."""
    reach(world)
    world.device_info.answer = "dev-1"
    world.network.nameResolver.names["localhost"] = ["127.0.0.1"]
    world.network.default = world.platform
    world.service.stopService()
    world.service.startService()
    world.pass_time(40)
    assert world.is_connected
    assert sockets(world) == 1
    stopped = world.stop()
    world.pass_time(6)
    assert stopped.called
    assert_nothing_left(world)


@pytest.mark.parametrize("reach", STATES)
def test_reconfigures_from_every_state(world: World, reach: Callable[[World], None]) -> None:
    """From whatever state, other settings lead to one connection made with them."""
    reach(world)
    world.device_info.answer = "other"
    world.network.default = world.platform
    world.service.reconfigure(connector_settings(host="192.0.2.99", path="/new"))
    world.pass_time(6)
    assert world.is_connected
    assert world.peer.request.path == "/new/other"
    assert world.network.tcpClients[-1][0] == "192.0.2.99"
    world.pass_time(100)
    assert sockets(world) == 1
    stopped = world.stop()
    world.pass_time(6)
    assert stopped.called
    assert_nothing_left(world)


def test_many_reconfigurations_at_once(world: World) -> None:
    """A burst of changes ends in one connection, made with the last of them."""
    world.start()
    for number in range(5):
        world.service.reconfigure(connector_settings(path=f"/p{number}"))
    world.pass_time(6)
    assert world.peer.request.path == "/p4/dev-1"
    assert sockets(world) == 1


def test_reconfiguring_while_stopped(world: World) -> None:
    """Settings that arrive before the start are those it uses."""
    world.service.reconfigure(connector_settings(path="/later"))
    world.pass_time(100)
    assert world.network.connectors == []
    world.start()
    assert world.peer.request.path == "/later/dev-1"


def test_another_platform_is_met_without_prejudice(world: World) -> None:
    """What was learnt about the pongs of one platform is not held against another: its silence is
    a dead connection at first."""
    world.platform.pong = lambda payload: b""
    world.start()
    world.pass_time(70)
    assert world.log.has("another payload")
    world.log.events.clear()
    world.platform.pong = lambda payload: None
    world.service.reconfigure(connector_settings(host="192.0.2.99"))
    world.pass_time(31)
    assert world.log.has("no pong within 30 s")


def test_drains_before_closing(world: World) -> None:
    """Stopping delivers what waits, gets it acknowledged, and only then closes with 1000."""
    world.start()
    world.wire.server.is_held = True
    for number in range(1000):
        world.uplink(b'{"n":%d}' % number)
    stopped = world.stop()
    world.pass_time(1)
    assert not stopped.called
    assert world.peer.closed is None
    world.wire.release()
    world.pass_time(1)
    assert stopped.called
    assert len(world.platform.received) == 1000
    assert world.peer.closed == (True, 1000, "the agent is stopping")
    assert world.outbox.counts()["waiting"] == world.outbox.counts()["in_flight"] == 0


def test_draining_has_a_limit(world: World) -> None:
    """A platform that acknowledges nothing delays the end by five seconds, then five more at most
    for the closing handshake; nothing is lost from the outbox."""
    world.start()
    world.pass_time(1)
    world.wire.hold()
    world.uplink(b'{"n":1}')
    stopped = world.stop()
    world.pass_time(9.9)
    assert not stopped.called
    world.pass_time(0.2)
    assert stopped.called
    assert world.outbox.counts()["waiting"] == 1
    assert_nothing_left(world)


def test_a_connection_lost_while_draining(world: World) -> None:
    """When the connection breaks while stopping, stopping is over at once."""
    world.start()
    world.wire.hold()
    world.uplink(b'{"n":1}')
    stopped = world.stop()
    world.wire.client.is_held = False
    world.wire.reset()
    world.settle()
    assert stopped.called
    assert_nothing_left(world)


def test_a_platform_that_ignores_the_close(world: World) -> None:
    """The close handshake has a limit of its own."""
    world.start()
    world.pass_time(1)
    world.wire.server.is_held = True
    stopped = world.stop()
    world.pass_time(4.9)
    assert not stopped.called
    world.pass_time(0.2)
    assert stopped.called


def test_a_platform_that_never_drops_the_connection(make_world: MakeWorld) -> None:
    """After the platform's own close it has the close's limit to drop TCP; then the agent does. The
    end is the platform's all the same: it may have told all its devices to go."""
    world = make_world(settings=connector_settings(close_timeout_s=2.0)).start()
    world.peer.dropConnection = lambda abort=False: None
    world.peer.sendCloseFrame(1001)
    world.pass_time(1.9)
    assert len(world.network.connectors) == 1
    world.pass_time(1)
    assert world.log.has("connection lost: closed by the platform with code 1001", "in 45.0 s")
    world.pass_time(45)
    assert world.is_connected
    assert len(world.network.connectors) == 2


@pytest.mark.parametrize("reach", STATES)
@pytest.mark.parametrize("is_early", [False, True], ids=["while it stops", "before it stops"])
def test_a_stop_in_a_hurry_waits_for_nobody(
    world: World, reach: Callable[[World], None], is_early: bool
) -> None:
    """From every state, the end takes no time; what was not acknowledged stays in the outbox."""
    reach(world)
    for wire in world.network.wires:
        wire.hold()
    world.uplink(b'{"n":1}')
    if is_early:
        world.service.hurry()
        stopped = world.stop()
    else:
        stopped = world.stop()
        world.service.hurry()
    world.settle()
    assert stopped.called
    counts = world.outbox.counts()
    assert counts["waiting"] + counts["in_flight"] == 1
    assert_nothing_left(world)


def test_a_reconnection_forgets_no_hurry(world: World) -> None:
    """It holds for the next stop, whatever connection that finds."""
    world.start()
    world.service.hurry()
    world.service.reconfigure(connector_settings(path="/other"))
    world.pass_time(1)
    assert world.is_connected
    world.wire.hold()
    assert world.stop().called
    assert_nothing_left(world)


def test_a_start_after_a_hurry_is_an_ordinary_one(world: World) -> None:
    """It holds for one stop."""
    world.start()
    world.service.hurry()
    world.stop()
    world.service.startService()
    world.settle()
    world.stop()
    world.pass_time(1)
    assert world.peer.closed == (True, 1000, "the agent is stopping")


def test_stopping_twice_and_without_a_start(world: World) -> None:
    """Every call's Deferred fires, whatever came before."""
    assert world.service.stopService().called
    world.start()
    first, second = world.service.stopService(), world.service.stopService()
    world.pass_time(1)
    assert first.called
    assert second.called
    assert world.service.stopService().called
    assert_nothing_left(world)
