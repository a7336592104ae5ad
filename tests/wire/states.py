"""The ways into each state of the connection: each function brings a new ``World`` there."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError

from oda.errors import ReadingFailed
from oda.model import LinkState
from tests.wire.platform import RawPlatform, say
from tests.wire.world import World, connector_settings


def identifying(world: World) -> None:
    world.device_info.answer = Deferred()
    world.start()


def identifying_again(world: World) -> None:
    world.device_info.answer = ReadingFailed("not yet")
    world.start()
    assert world.log.has("trying again in 30 s")


def resolving(world: World) -> None:
    world.network.nameResolver.names["localhost"] = None
    world.service.reconfigure(connector_settings(host="localhost"))
    world.start()
    assert world.network.nameResolver.waiting


def connecting(world: World) -> None:
    world.network.default = None
    world.start()
    assert world.network.connectors[-1].state == "connecting"


def upgrading(world: World) -> None:
    world.network.default = RawPlatform()
    world.start()
    assert world.network.connectors[-1].state == "connected"


def is_open(world: World) -> None:
    world.start()
    assert world.is_connected


def closing(world: World) -> None:
    world.start()
    world.wire.server.is_held = True
    world.service.reconfigure(world.settings)
    world.settle()
    assert not world.is_connected


def closed_by_platform(world: World) -> None:
    world.start()
    world.peer.sendCloseFrame(1001)
    world.wire.client.is_held = True
    world.settle()
    assert not world.is_connected


def waiting(world: World) -> None:
    world.network.default = ConnectionRefusedError()
    world.start()
    assert world.log.has("connecting again in")


STATES = [
    identifying,
    identifying_again,
    resolving,
    connecting,
    upgrading,
    is_open,
    closing,
    closed_by_platform,
    waiting,
]
NAMES = [
    LinkState.IDENTIFYING,
    LinkState.IDENTIFYING,
    LinkState.CONNECTING,
    LinkState.CONNECTING,
    LinkState.CONNECTING,
    LinkState.OPEN,
    LinkState.CLOSING,
    LinkState.CLOSING,
    LinkState.WAITING,
]


# -- the same states on the way to the end, and after a refusal ----------------------------------


def draining(world: World) -> None:
    world.start()
    world.wire.hold()
    world.uplink(b'{"n":1}')
    world.service.stopService()
    assert world.is_connected


def closing_at_the_end(world: World) -> None:
    world.start()
    world.pass_time(1)
    world.wire.server.is_held = True
    world.service.stopService()
    world.settle()
    assert not world.is_connected


def refused(world: World) -> None:
    """An answer to the upgrade that refuses it has come; the socket is still up."""
    world.network.default = RawPlatform(say(b"HTTP/1.1 503 Busy\r\n\r\n"))
    world.network.on_wire = lambda wire: setattr(wire.client, "is_held", True)
    world.start()
    world.network.on_wire = lambda wire: None
    world.wire.client.is_held = False


def stopped_and_started(world: World) -> None:
    closing_at_the_end(world)
    world.service.startService()


def not_started(world: World) -> None:
    """Nothing has happened yet."""


#: All of them, with those that a stop may not find.
ALL_STATES = [*STATES, draining, closing_at_the_end, refused, stopped_and_started, not_started]
