"""Whatever the platform does, the agent comes back by itself and says in one line what happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import ConnectionRefusedError, NoRouteError

from oda.connector.route import Route
from oda.errors import ReadingFailed
from tests.wire.fakes import FakeDeviceInfo
from tests.wire.platform import RawPlatform, say
from tests.wire.world import HOST, World, connector_settings

MakeWorld = Callable[..., World]


def recovers(world: World, within_s: float) -> None:
    """With the real platform back, the agent is connected again and delivers."""
    world.network.platforms = {}
    world.network.default = world.platform
    world.pass_time(within_s)
    assert world.is_connected
    world.uplink(b'{"after":1}')
    assert world.peer.payloads[-1] == b'{"after":1}'


def warnings(world: World) -> list[str]:
    """The lines an operator sees about the connection that failed or broke."""
    return [line for line in world.log.lines if "connecting again in" in line]


def test_platform_killed_and_restarted(world: World) -> None:
    """A platform that goes away and comes back gets a new connection, and what was handed over
    meanwhile."""
    world.start()
    world.network.default = ConnectionRefusedError()
    world.wire.reset()
    world.uplink(b'{"meanwhile":1}')
    world.pass_time(20)
    assert not world.is_connected
    recovers(world, 40)
    assert world.platform.received[0] == b'{"meanwhile":1}'
    assert warnings(world)[0].startswith("connection lost: the TCP connection broke; ")
    assert all("refused by other side" in line for line in warnings(world)[1:])


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda world: world.wire.reset(), "the TCP connection broke"),
        (lambda world: world.wire.finish(), "the other side closed the TCP connection"),
        (lambda world: world.peer.sendClose(1000, "bye"), "closed by the platform with code 1000"),
        (lambda world: world.peer.sendClose(), "closed by the platform without a code"),
        (lambda world: world.peer.sendCloseFrame(1011), "closed by the platform with code 1011"),
        (lambda world: world.peer.sendClose(4000, "später"), "4000 ('später')"),
    ],
)
def test_every_end_of_a_connection(world: World, end: Callable[[World], None], words: str) -> None:
    """However an open connection ends, one line tells it as it was, and a new one is made."""
    world.start()
    end(world)
    world.settle()
    assert not world.is_connected
    (line,) = warnings(world)
    assert words in line
    recovers(world, 1)


@pytest.mark.parametrize(
    ("answer", "words", "wait_s"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", ["401", "is the API key right?"], (67.5, 67.5)),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", ["403", "may this device connect"], (67.5, 67.5)),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", ["404", "'Not Found'", "is 'path' right"], (0.5, 0.5)),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: 100\r\n\r\n", ["503", "'Busy'"], (145, 145)),
        (b"HTTP/1.0 503 Service Unavailable\r\n\r\n", ["503"], (67.5, 67.5)),
        (b"HTTP/1.1 429\r\nRetry-After: 90\r\n\r\n", ["429"], (135, 135)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ["200"], (0.5, 0.5)),
        (b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n", ["302"], (0.5, 0.5)),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", ["Upgrade"], (0.5, 0.5)),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
            ["Accept"],
            (0.5, 0.5),
        ),
        (b"HTTP/1.1 999999 Odd\r\n\r\n", ["no connection"], (0.5, 0.5)),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", ["no connection"], (0.5, 0.5)),
        (b"\r\n\r\n", ["no connection"], (0.5, 0.5)),
        (bytes(range(256)) + b"\r\n\r\n", ["is not HTTP"], (0.5, 0.5)),
        (b"\x16\x03\x01\xff\xfe\r\n\r\n", ["is not HTTP"], (0.5, 0.5)),
        (b"", ["the other side closed the TCP connection"], (0.5, 0.5)),
    ],
    ids=lambda value: repr(value[:28]) if isinstance(value, bytes) else "",
)
def test_refused_upgrades(
    world: World, answer: bytes, words: list[str], wait_s: tuple[float, float]
) -> None:
    """Every answer that is no upgrade is one readable line, waits as long as it should, and is
    tried again."""
    platform = RawPlatform(say(answer))
    world.network.default = platform
    world.start()
    (line,) = warnings(world)
    assert "\n" not in line
    assert all(word in line for word in words), line
    shortest, longest = wait_s
    world.pass_time(shortest - 0.01)
    assert len(platform.peers) == 1
    world.pass_time(longest - shortest + 0.02)
    assert len(platform.peers) == 2
    recovers(world, 300)


def test_refusal_by_a_real_server(world: World) -> None:
    """The same with a WebSocket server that checks the key."""
    world.platform.refusal = (401, "Unauthorized")
    world.start()
    assert world.log.has("HTTP status 401", "is the API key right?")
    world.platform.refusal = None
    recovers(world, 70)


def test_a_silent_platform(world: World) -> None:
    """A platform that accepts TCP and stays silent costs the time limit, then a new attempt."""
    world.network.default = RawPlatform()
    world.start()
    world.pass_time(31)
    recovers(world, 31)


def test_a_platform_that_never_pongs(world: World) -> None:
    """After two connections given up as dead the agent goes on without proofs, and says so; the
    messages go through on each."""
    world.platform.pong = lambda payload: None
    world.start()
    world.uplink(b'{"n":1}')
    world.pass_time(30.1)
    assert world.log.has("connection lost", "no pong within 30 s")
    world.pass_time(31)
    assert world.log.has("never answers pings")
    assert world.is_connected
    assert world.platform.received == [b'{"n":1}'] * 2  # replayed: nobody had acknowledged it
    world.uplink(b'{"n":2}')
    world.pass_time(1000)
    assert world.is_connected
    assert len(world.platform.peers) == 2
    assert world.platform.received[2:] == [b'{"n":2}']
    assert world.outbox.counts()["in_flight"] == 0


@pytest.mark.parametrize("error", [ConnectionRefusedError(), NoRouteError()])
def test_no_tcp_connection(world: World, error: Exception) -> None:
    """A host that refuses, or can't be reached, is tried again with growing waits."""
    world.network.default = error
    world.start()
    world.pass_time(1000)
    starts = [line for line in world.log.lines if line.startswith("connecting to")]
    # chance is 0.5: waits of 0.5, 1, 2 ... 128, 150, 150 seconds
    assert 10 <= len(starts) <= 15
    recovers(world, 151)


def test_an_unknown_name(make_world: MakeWorld) -> None:
    """A name without an address is asked for again at the next attempt."""
    world = make_world(settings=connector_settings(host="nowhere.example"))
    world.start()
    assert world.log.has("no connection", "can't find the address of nowhere.example")
    world.network.nameResolver.names["nowhere.example"] = [HOST]
    recovers(world, 1)
    assert len(world.network.nameResolver.asked) == 2


def test_backoff_resets_only_after_a_stable_minute(make_world: MakeWorld) -> None:
    """A platform that accepts and drops at once is met with growing waits; after a connection that
    held a minute the wait is chosen from ``reconnectSpread`` again."""
    world = make_world(settings=connector_settings(reconnect_spread_s=2.0), random=lambda: 0.999)
    world.start()
    waits: list[float] = []
    for _ in range(5):
        world.wire.finish()
        began = world.network.seconds()
        while not world.is_connected:
            world.pass_time(0.1)
        waits.append(world.network.seconds() - began)
    assert waits == pytest.approx([2, 4, 8, 16, 32], abs=0.2)
    world.pass_time(59)
    world.wire.finish()
    world.pass_time(63)
    assert not world.is_connected
    world.pass_time(2)
    assert world.is_connected
    world.pass_time(61)
    world.wire.finish()
    world.pass_time(1.9)
    assert not world.is_connected
    world.pass_time(0.2)
    assert world.is_connected


@pytest.mark.parametrize("lasted_s", [1, 61])
@pytest.mark.parametrize(
    "end",
    [
        lambda world: world.wire.reset(),
        lambda world: world.wire.finish(),
        lambda world: world.peer.sendClose(1000, "bye"),
        lambda world: world.peer.sendCloseFrame(1011),
    ],
    ids=["reset", "finish", "1000", "1011"],
)
def test_an_end_that_may_concern_all_devices_is_spread(
    make_world: MakeWorld, end: Callable[[World], None], lasted_s: float
) -> None:
    """The platform may have ended the connections of all its devices at that moment: however long
    this one had lasted, the first attempt is spread over ``reconnectSpread``."""
    world = make_world(settings=connector_settings(reconnect_spread_s=10.0)).start()
    world.pass_time(lasted_s)
    end(world)
    world.settle()
    (line,) = warnings(world)
    assert "connecting again in 5.0 s" in line
    world.pass_time(5)
    assert world.is_connected


def test_a_pause_ends_when_somebody_asks_for_it(make_world: MakeWorld) -> None:
    """The attempt begins at once; a long pause is told with the way to end it. The pause after the
    next failure is as long as if this one had lasted: a platform in need is not hammered."""
    world = make_world(settings=connector_settings(reconnect_spread_s=100.0)).start()
    world.wire.reset()
    world.settle()
    (line,) = warnings(world)
    assert "connecting again in 50.0 s ('oda reconnect' or SIGHUP: at once)" in line
    assert world.service.connect_now()
    world.settle()
    assert world.is_connected
    assert not world.service.connect_now()
    world.pass_time(1)
    world.wire.reset()
    world.settle()
    assert "connecting again in 100.0 s" in warnings(world)[1]  # the second window of the back-off


def test_a_question_for_the_id_is_asked_at_once(make_world: MakeWorld) -> None:
    """Where the device's id could not be read, the pause before the next question ends as well."""
    info = FakeDeviceInfo(ReadingFailed("no such file"))
    world = make_world(device_info=info).start()
    info.answer = "dev-1"
    assert world.service.connect_now()
    world.settle()
    assert world.is_connected


class FaultyRoute(Route):
    """The route of a connection that timed out."""

    def fault(self) -> str | None:
        return "Connection timed out"


@pytest.mark.parametrize(
    "end",
    [
        lambda world: world.wire.hold(),  # no pong any more
        lambda world: world.peer.sendCloseFrame(1009),
    ],
    ids=["dead", "1009"],
)
def test_an_end_of_ones_own_is_tried_again_at_once(
    make_world: MakeWorld, end: Callable[[World], None]
) -> None:
    """A connection that is dead, or that ended over what this device has sent, is no matter of
    other devices: it is made again within a second."""
    world = make_world(settings=connector_settings(reconnect_spread_s=10.0)).start()
    world.pass_time(61)
    end(world)
    world.pass_time(240)  # long enough for the next ping, and its pong to be missed
    (line,) = warnings(world)
    assert "connecting again in 0.5 s" in line
    assert world.is_connected


def test_a_fault_of_the_own_network_is_tried_again_at_once(make_world: MakeWorld) -> None:
    """When the kernel or its routes say that this device's network ended the connection, the line
    says so, and nothing is spread."""
    world = make_world(settings=connector_settings(reconnect_spread_s=10.0)).start()
    world.pass_time(61)
    protocol = world.wire.client.protocol
    protocol.route = FaultyRoute()
    world.wire.reset()
    (line,) = warnings(world)
    assert "the TCP connection broke (Connection timed out); connecting again in 0.5 s" in line


def test_the_agent_itself_begins_anew_at_once(make_world: MakeWorld) -> None:
    """Another address in the configuration is no matter of all devices: nothing is spread."""
    world = make_world().start()
    world.pass_time(61)
    world.network.platforms["192.0.2.9"] = ConnectionRefusedError()
    world.service.reconfigure(connector_settings(host="192.0.2.9"))
    world.pass_time(0.1)
    assert "connecting again in 0.5 s" in warnings(world)[0]


def test_the_spread_can_change(world: World) -> None:
    """``reconnectSpread`` takes effect while the connection stands; 0 is within a second."""
    world.start()
    world.pass_time(61)
    world.service.reconfigure(connector_settings(reconnect_spread_s=30.0), reconnect=False)
    world.wire.reset()
    assert "connecting again in 15.0 s" in warnings(world)[0]
    world.pass_time(80)
    world.service.reconfigure(connector_settings(reconnect_spread_s=0.0), reconnect=False)
    world.wire.reset()
    assert "connecting again in 0.5 s" in warnings(world)[1]


def test_the_device_id_comes_late_or_not_at_once(make_world: MakeWorld) -> None:
    """While the id can't be read the agent says why and asks again; then it connects."""
    from oda.errors import ReadingFailed

    world = make_world()
    world.device_info.answer = ReadingFailed("no serial number on this board")
    world.start()
    assert world.log.has("can't connect", "no serial number on this board")
    world.pass_time(61)
    assert world.device_info.asked == 3
    world.device_info.answer = "found"
    world.pass_time(30)
    assert world.peer.request.path.endswith("/found")


@pytest.mark.parametrize("answer", ["", "\ud800", 17, ValueError("broken provider")])
def test_a_device_info_that_misbehaves(make_world: MakeWorld, answer: Any) -> None:
    """No answer of a device info provider ends the attempts."""
    world = make_world()
    world.device_info.answer = answer
    world.start()
    world.device_info.answer = "good"
    world.pass_time(31)
    assert world.is_connected
    world.log.events.clear()  # a defect is logged with its traceback
