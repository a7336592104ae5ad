"""The connection's ordinary life, against a real WebSocket server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from autobahn.websocket import HAS_NVX
from zope.interface.verify import verifyObject

from oda.interfaces import (
    IConnector,
    ICounters,
    IDeviceInfoProvider,
    IDispatcher,
    IOutbox,
)
from tests.wire.fakes import KEY, FakeDispatcher
from tests.wire.world import World

MakeWorld = Callable[..., World]


def test_contracts_are_provided(world: World) -> None:
    """The connector and everything that stands around it in these tests keep their contracts."""
    assert verifyObject(IConnector, world.service)
    assert verifyObject(IOutbox, world.outbox)
    assert verifyObject(ICounters, world.counters)
    assert verifyObject(IDeviceInfoProvider, world.device_info)
    assert verifyObject(IDispatcher, world.dispatcher)


def test_connects_as_this_device(world: World) -> None:
    """After the start the WebSocket opens at the path of the device, with its key."""
    world.start()
    assert world.is_connected
    assert world.peer.request.path == "/south/v80/sessions/dev-1"
    assert world.peer.request.headers["x-apikey"].encode("latin-1").decode() == KEY
    assert world.wire.client.no_delay


def test_telemetry_arrives_and_is_acknowledged(world: World) -> None:
    """A message handed over arrives as one binary frame and leaves the outbox's flight when its
    ping is answered."""
    world.start()
    world.uplink(b'{"n":1}')
    assert world.peer.messages == [(b'{"n":1}', True)]
    assert world.outbox.counts()["in_flight"] == 1
    world.pass_time(1)
    assert world.outbox.counts()["in_flight"] == 0
    assert world.outbox.counts()["lingering"] == 1


@pytest.mark.parametrize("is_binary", [False, True])
def test_operation_is_answered(make_world: MakeWorld, is_binary: bool) -> None:
    """What the platform sends goes to the dispatcher, and its answer back to the platform, whether
    the request came in a text or in a binary frame."""
    dispatcher = FakeDispatcher(lambda payload: b'{"answer":' + payload + b"}")
    world = make_world(dispatcher=dispatcher).start()
    world.peer.sendMessage(b'{"a":1}', isBinary=is_binary)
    world.settle()
    assert world.peer.payloads == [b'{"answer":{"a":1}}']


def test_stops_cleanly(world: World) -> None:
    """Stopping closes with code 1000, fires its Deferred and leaves no timer."""
    world.start()
    world.uplink(b"{}")
    stopped = world.stop()
    world.pass_time(1)
    assert stopped.called
    assert world.peer.closed is not None
    assert world.peer.closed[:2] == (True, 1000)
    assert world.timers == []
    assert not world.is_connected


def test_says_how_frames_are_masked(world: World) -> None:
    """At the start the log says whether there are Autobahn's native helpers."""
    world.start()
    assert world.log.has("masked natively" if HAS_NVX else "masked in Python")
