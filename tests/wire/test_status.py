"""What the connector says of its connection, through its life."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from oda.interfaces import IConnectionObservable
from oda.model import LinkState
from tests.wire.fakes import FakeDeviceInfo
from tests.wire.world import World

MakeWorld = Callable[..., World]


def test_the_contract_is_provided(world: World) -> None:
    """``ConnectorService`` can be observed."""
    assert verifyObject(IConnectionObservable, world.service)


def test_states_follow_the_life(make_world: MakeWorld) -> None:
    """Stopped, identifying, open, waiting, open again, stopped."""
    answer: Deferred[str] = Deferred()
    world = make_world(device_info=FakeDeviceInfo(answer))
    assert world.service.status().state is LinkState.STOPPED
    world.start()
    assert world.service.status().state is LinkState.IDENTIFYING
    answer.callback("dev-1")
    world.settle()
    assert world.service.status().state is LinkState.OPEN
    world.peer.transport.abortConnection()
    world.settle()
    waiting = world.service.status()
    assert waiting.state is LinkState.WAITING
    assert waiting.retry_in_s is not None
    assert waiting.last_end
    world.pass_time(waiting.retry_in_s)
    assert world.service.status().state is LinkState.OPEN
    world.stop()
    world.pass_time(10)
    assert world.service.status().state is LinkState.STOPPED


def test_an_open_connection_tells_its_age_and_address(world: World) -> None:
    """The URL is the one for people: it never holds the key."""
    world.start()
    world.pass_time(12)
    status = world.service.status()
    assert status.since_s == pytest.approx(12)
    assert status.url.startswith("ws://")
    assert status.url.endswith("/dev-1")
    assert (status.retry_in_s, status.platform_certificate_ends_ms) == (None, None)


def test_a_waiting_pause_counts_down(world: World) -> None:
    """How long it has waited and how long it still will, together the pause."""
    world.start()
    world.peer.transport.abortConnection()
    world.settle()
    first = world.service.status()
    assert first.retry_in_s is not None
    world.pass_time(first.retry_in_s / 2)
    second = world.service.status()
    assert second.since_s == pytest.approx(first.retry_in_s / 2)
    assert second.retry_in_s == pytest.approx(first.retry_in_s / 2)


def test_an_unanswered_ping_is_seen_waiting(world: World) -> None:
    """From its sending on; what it would prove counts as unacknowledged until then."""
    world.start()
    world.pass_time(1)
    assert world.service.status().ping_waits_s is None
    world.wire.hold(up=False)
    world.uplink(b"{}")
    world.pass_time(5)
    status = world.service.status()
    assert status.unacknowledged == 1
    assert status.ping_waits_s is not None
    assert 4 < status.ping_waits_s <= 5


def test_a_connection_is_proven_by_its_first_pong(world: World) -> None:
    """Open is not proven: until the platform has answered the probe nobody knows whether it reads;
    what was proven of an earlier connection doesn't count."""
    world.start()
    assert world.service.status().is_proven
    world.platform.pong = lambda payload: None
    world.peer.transport.abortConnection()
    world.settle()
    world.pass_time(2)
    assert world.is_connected
    assert not world.service.status().is_proven
    world.platform.pong = lambda payload: payload
    world.peer.transport.abortConnection()
    world.settle()
    world.pass_time(3)
    assert world.is_connected
    assert world.service.status().is_proven
