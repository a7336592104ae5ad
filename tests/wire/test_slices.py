"""A platform that asks without a pause does not keep the agent from its other work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from twisted.internet.defer import Deferred

from oda.connector.protocol import READING_SLICE_S
from tests.wire.fakes import FakeDispatcher, echo
from tests.wire.world import World, connector_settings

MakeWorld = Callable[..., World]
#: How long each message takes, in seconds; two of them fill a slice.
WORK_S = READING_SLICE_S * 0.6


class Slow(FakeDispatcher):
    """Each message takes its time on the reactor's clock."""

    def __init__(self) -> None:
        super().__init__(echo)
        self.world: World | None = None

    def process(self, payload: bytes, content_type: Any) -> Deferred[bytes | None]:
        if self.world is not None:
            self.world.network.rightNow += WORK_S
        return super().process(payload, content_type)


class Busy:
    """A connected agent, and a timer that is due in every iteration of the reactor."""

    def __init__(self, make_world: MakeWorld, compression: bool) -> None:
        self.dispatcher = Slow()
        options = {"perMessageCompressionAccept": accept} if compression else {}
        self.world = make_world(
            dispatcher=self.dispatcher,
            settings=connector_settings(compression=compression),
            platform_options=options,
        ).start()
        self.protocol: Any = self.world.service._link._protocol
        self.dispatcher.world = self.world
        self.handled: list[int] = []
        self.ticks = 0

    def tick(self, times: int) -> None:
        """Note what was handled until now, ``times`` times."""
        self.handled.append(len(self.dispatcher.received))
        if times:
            self.world.network.callLater(0, self.tick, times - 1)

    def ask(self, count: int) -> list[bytes]:
        """The platform writes requests in one go."""
        asked = [b'{"n":%d}' % number for number in range(count)]
        for payload in asked:
            self.world.peer.sendMessage(payload, isBinary=True)
        return asked


def accept(offers: list[Any]) -> Any:
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(offer)
    return None


@pytest.mark.parametrize("compression", [False, True], ids=["plain", "deflate"])
def test_timers_get_their_turn_between_messages(make_world: MakeWorld, compression: bool) -> None:
    """However many messages one chunk holds, a timer that is due waits for one slice of them; and
    all are handled, once and in order."""
    busy = Busy(make_world, compression)
    asked = busy.ask(40)
    busy.tick(60)
    busy.world.settle()
    steps = [after - before for before, after in zip(busy.handled, busy.handled[1:], strict=False)]
    assert max(steps) == 2
    assert [payload for payload, _ in busy.dispatcher.received] == asked
    busy.world.pass_time(1)
    assert busy.world.peer.payloads == asked


def test_what_is_left_of_a_lost_connection_leaves_no_timer(make_world: MakeWorld) -> None:
    """Nothing of it is handled afterwards."""
    busy = Busy(make_world, False)
    busy.ask(40)
    busy.world.wire.deliver()
    assert len(busy.dispatcher.received) == 2
    busy.protocol.abort("for the test")
    busy.world.stop()
    busy.world.settle()
    assert len(busy.dispatcher.received) < 40
    assert not busy.world.timers


def test_a_close_frame_behind_messages_is_read_in_its_turn(make_world: MakeWorld) -> None:
    """The messages before it are handled, then the connection ends in good order."""
    busy = Busy(make_world, False)
    busy.ask(10)
    busy.world.peer.sendClose(1000)
    busy.world.settle()
    assert len(busy.dispatcher.received) == 10
    assert not busy.world.is_connected
