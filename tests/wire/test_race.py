"""Several addresses of one name: a dead one among them costs a quarter of a second (RFC 8305)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

from twisted.internet.error import ConnectionRefusedError, NoRouteError

from tests.wire.network import Resolution, Resolver
from tests.wire.platform import RawPlatform
from tests.wire.world import World, connector_settings

MakeWorld = Callable[..., World]
ONE, TWO, THREE = "192.0.2.7", "2001:db8::7", "192.0.2.8"


class RotatingResolver(Resolver):
    """Begins its answer with another address each time."""

    def __init__(self, *orders: list[str]) -> None:
        super().__init__()
        self._orders = cycle(orders)

    def resolveHostName(
        self, receiver: Any, hostName: str, *more: Any, **options: Any
    ) -> Resolution:
        self.names[hostName] = next(self._orders)
        return super().resolveHostName(receiver, hostName, *more, **options)


def racing(make_world: MakeWorld, platforms: dict[str, Any], **settings: Any) -> World:
    """A world whose platform has the addresses of ``platforms``, in their order."""
    usual = {"host": "many.example", "connection_timeout_s": 10.0}
    world = make_world(settings=connector_settings(**{**usual, **settings}))
    world.network.nameResolver.names["many.example"] = list(platforms)
    world.network.platforms = {
        address: world.platform if platform == "alive" else platform
        for address, platform in platforms.items()
    }
    return world


def tried(world: World) -> list[str]:
    """The addresses to which a TCP connection was begun, in order."""
    return [host for host, *_ in world.network.tcpClients]


def assert_no_other_connection(world: World) -> None:
    """Nothing is left of the race but the connection that was made."""
    states = [connector.state for connector in world.network.connectors]
    assert states.count("connected") == 1
    assert "connecting" not in states


def test_a_dead_address_costs_its_head_start(make_world: MakeWorld) -> None:
    """The next address is tried after 250 ms."""
    world = racing(make_world, {ONE: None, TWO: "alive"}).start()
    world.pass_time(0.24)
    assert tried(world) == [ONE]
    world.pass_time(0.02)
    assert tried(world) == [ONE, TWO]
    assert world.is_connected
    assert_no_other_connection(world)


def test_a_proxy_s_addresses_are_raced(make_world: MakeWorld) -> None:
    """They are what TCP connects to; the platform's are the proxy's business."""
    proxy = {"proxy_host": "many.example", "proxy_port": 3128, "host": "192.0.2.99"}
    world = racing(make_world, {ONE: None, TWO: RawPlatform()}, **proxy).start()
    world.pass_time(0.26)
    assert [(host, port) for host, port, *_ in world.network.tcpClients] == [
        (ONE, 3128),
        (TWO, 3128),
    ]
    assert_no_other_connection(world)


def test_an_address_that_fails_makes_room_at_once(make_world: MakeWorld) -> None:
    """No head start is waited for when there is nobody to wait for."""
    world = racing(make_world, {ONE: ConnectionRefusedError(), TWO: "alive"}).start()
    assert world.is_connected
    assert world.network.seconds() == 0
    assert_no_other_connection(world)


def test_the_first_that_answers_wins(make_world: MakeWorld) -> None:
    """A slow first address may still win; the others are stopped, and nothing of them is left."""
    world = racing(make_world, {ONE: None, TWO: None, THREE: None}).start()
    world.pass_time(0.3)
    assert tried(world) == [ONE, TWO]
    world.network.connectors[0].accept(world.platform)
    world.settle()
    assert world.is_connected
    assert_no_other_connection(world)
    world.pass_time(1)
    assert tried(world) == [ONE, TWO]
    assert not world.log.has("no connection")


def test_one_that_fails_does_not_end_the_race(make_world: MakeWorld) -> None:
    """As long as another one may still answer, the attempt goes on."""
    world = racing(make_world, {ONE: None, THREE: ConnectionRefusedError()}).start()
    world.pass_time(5)
    assert tried(world) == [ONE, THREE]
    assert not world.log.has("no connection")
    world.network.connectors[0].accept(world.platform)
    world.settle()
    assert world.is_connected


def test_a_resolver_that_rotates(make_world: MakeWorld) -> None:
    """Whichever address comes first, every attempt reaches the living one."""
    world = racing(make_world, {ONE: None, THREE: "alive"})
    world.network.nameResolver = RotatingResolver([ONE, THREE], [THREE, ONE])
    world.start()
    for _ in range(6):
        world.pass_time(61)
        assert world.is_connected
        world.wire.reset()
    assert not world.log.has("no connection")


def test_the_one_that_worked_is_the_first_the_next_time(make_world: MakeWorld) -> None:
    """A connection that had lasted is made again at the same address, without a race."""
    world = racing(make_world, {ONE: None, THREE: "alive"}).start()
    world.pass_time(61)
    world.wire.reset()
    world.pass_time(1)
    assert world.is_connected
    assert tried(world) == [ONE, THREE, THREE]


def test_the_one_that_worked_may_die(make_world: MakeWorld) -> None:
    """Then the others are raced against it as before."""
    world = racing(make_world, {ONE: "alive", THREE: "alive"}).start()
    world.pass_time(61)
    world.network.platforms[ONE] = None
    world.wire.reset()
    world.pass_time(0.8)
    assert world.is_connected
    assert tried(world) == [ONE, ONE, THREE]


def test_an_address_that_accepts_and_does_not_serve(make_world: MakeWorld) -> None:
    """TCP says nothing about the WebSocket: it costs the limit once, and the next attempt begins
    with the other address."""
    world = racing(make_world, {ONE: RawPlatform(), THREE: "alive"}).start()
    world.pass_time(10.01)
    assert world.log.has("no connection", "answer to the upgrade")
    world.pass_time(1)
    assert world.is_connected
    assert tried(world) == [ONE, THREE]


def test_an_address_that_does_not_read(make_world: MakeWorld) -> None:
    """A connection that the agent gives up as dead says that another address may serve better."""
    world = racing(make_world, {ONE: "alive", THREE: "alive"}, pong_timeout_s=5.0).start()
    world.pass_time(61)
    world.wire.hold()
    world.pass_time(200)
    assert world.is_connected
    assert tried(world) == [ONE, THREE]


def test_the_addresses_share_one_limit(make_world: MakeWorld) -> None:
    """When none of them answers, the attempt ends with the limit, and all are stopped."""
    world = racing(make_world, {ONE: None, TWO: None, THREE: None}).start()
    world.pass_time(9.9)
    assert tried(world) == [ONE, TWO, THREE]
    world.pass_time(0.2)
    assert world.log.has("not open within 10 s (while opening the TCP connection)")
    assert {connector.state for connector in world.network.connectors} == {"disconnected"}
    assert len(world.timers) == 1  # the wait before the next attempt


def test_each_address_has_its_failure(make_world: MakeWorld) -> None:
    """The line names what was wrong with each, and says a common failure once."""
    different = {ONE: ConnectionRefusedError(), TWO: NoRouteError("no IPv6"), THREE: NoRouteError()}
    world = racing(make_world, different).start()
    (line,) = [line for line in world.log.lines if line.startswith("no connection")]
    assert f"{ONE}: Connection was refused" in line
    assert f"{TWO}: No route to host" in line
    world.network.platforms = {}
    world.network.default = ConnectionRefusedError()
    world.pass_time(1)
    assert [line.count("refused") for line in world.log.lines if "no connection" in line][1] == 1


def test_many_addresses_are_not_all_named(make_world: MakeWorld) -> None:
    """A line in the log stays readable."""
    errors = {f"192.0.2.{number}": NoRouteError(str(number)) for number in range(20)}
    world = racing(make_world, errors).start()
    (line,) = [line for line in world.log.lines if line.startswith("no connection")]
    assert "192.0.2.3: " in line
    assert "192.0.2.4: " not in line
    assert "and 16 more" in line


def test_stopping_in_the_middle_of_a_race(make_world: MakeWorld) -> None:
    """No connection and no timer is left behind."""
    world = racing(make_world, {ONE: None, TWO: None, THREE: None}).start()
    world.pass_time(0.3)
    assert world.stop().called
    assert {connector.state for connector in world.network.connectors} == {"disconnected"}
    assert world.timers == []
    world.pass_time(100)
    assert tried(world) == [ONE, TWO]


def test_a_reactor_that_fails_in_the_middle_of_a_race(make_world: MakeWorld) -> None:
    """The attempt is over with all that belongs to it, and another one follows."""
    world = racing(make_world, {ONE: None, THREE: "alive"}).start()
    world.network.is_raising = OSError("too many open files")
    world.pass_time(0.26)
    assert world.log.has("no connection", "a defect while opening the TCP connection")
    assert world.network.connectors[0].state == "disconnected"
    world.network.is_raising = None
    world.pass_time(3)
    assert world.is_connected
    world.log.events.clear()  # the defect is logged with its traceback
