"""Random sequences of events: whatever happens in whatever order, there is a way on.

``ODA_SEQUENCES`` sets how many sequences are run (200 without it), ``ODA_SEQUENCES_SEED`` the first
seed; a failure names the seed of its sequence, by which it is run again alone.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError, TCPTimedOutError

from oda.errors import ReadingFailed
from oda.model import ContentType
from oda.settings import OutboxSettings
from tests.wire.fakes import FakeDeviceInfo, FakeDispatcher, echo
from tests.wire.platform import RawPlatform, say
from tests.wire.world import World, connector_settings

SEQUENCES = int(os.environ.get("ODA_SEQUENCES", "200"))
FIRST_SEED = int(os.environ.get("ODA_SEQUENCES_SEED", "1"))
CHUNKS = 20

WINDOW = OutboxSettings(window_messages=5, window_bytes=400, max_rows=30, linger_s=3.0)


class Sequence:
    """One world, one seed, and the events that may happen in it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = World(
            settings=connector_settings(
                host="two.example",
                connection_timeout_s=3.0,
                keep_alive_interval_s=4.0,
                pong_timeout_s=1.0,
                reconnect_max_delay_s=8.0,
                max_message_size_bytes=200_000,
            ),
            window=WINDOW,
            dispatcher=FakeDispatcher(echo),
            device_info=FakeDeviceInfo(),
            random=self.chance.random,
        )
        self.world.network.nameResolver.names["two.example"] = ["192.0.2.1", "192.0.2.2"]
        self.is_running = False
        self.questions: list[Deferred[Any]] = []
        self.stopped: list[Deferred[None]] = []
        self.done: list[str] = []
        self.platforms = [
            self.world.platform,
            self.world.platform,
            self.world.platform,
            ConnectionRefusedError(),
            TCPTimedOutError(),
            None,
            RawPlatform(),
            RawPlatform(say(b"HTTP/1.1 503 Busy\r\nRetry-After: 2\r\n\r\n")),
            RawPlatform(say(b"HTTP/1.1 401 No\r\n\r\n")),
            RawPlatform(say(bytes(range(256)) + b"\r\n\r\n")),
            RawPlatform(say(b"", and_close=True)),
        ]

    # -- events ------------------------------------------------------------------------------

    def start(self) -> None:
        self.is_running = True
        self.world.service.startService()

    def stop(self) -> None:
        self.is_running = False
        self.stopped.append(self.world.service.stopService())

    def reconfigure(self) -> None:
        reconnect = self.chance.random() < 0.7
        self.world.service.reconfigure(self.world.settings, reconnect=reconnect)

    def change_platform(self) -> None:
        host = self.chance.choice(["192.0.2.1", "192.0.2.2"])
        self.world.network.platforms[host] = self.chance.choice(self.platforms)

    def change_pongs(self) -> None:
        self.world.platform.pong = self.chance.choice(
            [lambda p: p, lambda p: p, lambda p: None, lambda p: b"", lambda p: p[::-1]]
        )

    def change_identity(self) -> None:
        self.world.device_info.answer = self.chance.choice(
            ["dev-1", "dev-2", "", ReadingFailed("not now"), self.ask_identity]
        )

    def ask_identity(self) -> Deferred[Any]:
        self.questions.append(Deferred())
        return self.questions[-1]

    def answer_identity(self) -> None:
        questions, self.questions = self.questions, []
        for question in questions:
            if self.chance.random() < 0.5:
                question.callback("dev-3")
            else:
                question.errback(ReadingFailed("no"))

    def change_names(self) -> None:
        self.world.network.nameResolver.names["two.example"] = self.chance.choice(
            [["192.0.2.1", "192.0.2.2"], ["192.0.2.2"], [], None]
        )

    def answer_name(self) -> None:
        for receiver in self.world.network.nameResolver.waiting:
            receiver.resolutionComplete()
        self.world.network.nameResolver.waiting.clear()

    def uplink(self) -> None:
        for _ in range(self.chance.randrange(1, 8)):
            payload = b"x" * self.chance.choice([0, 1, 100, 70_000])
            put = self.chance.choice(
                [self.world.service.uplink, self.world.service.uplink_response]
            )
            put(payload, ContentType.JSON).addErrback(lambda failure: None)

    def cut(self) -> None:
        for wire in self.world.network.wires:
            self.chance.choice([wire.reset, wire.finish])()

    def hold(self) -> None:
        for wire in self.world.network.wires:
            wire.hold(up=self.chance.random() < 0.5, down=self.chance.random() < 0.5)

    def release(self) -> None:
        for wire in self.world.network.wires:
            wire.release()

    def slow_down(self) -> None:
        for wire in self.world.network.wires:
            wire.client.chunk = self.chance.choice([None, 1000, 40_000])

    def platform_closes(self) -> None:
        if self.world.platform.peers and self.world.peer.may_send:
            self.world.peer.sendCloseFrame(self.chance.choice([1000, 1001, 1009, 1012, 1013, 4000]))

    def platform_sends(self) -> None:
        if self.world.platform.peers and self.world.peer.may_send:
            self.world.peer.sendMessage(b'{"a":1}')

    def platform_misbehaves(self) -> None:
        if self.world.platform.peers and self.world.peer.may_send:
            self.world.peer.sendFrame(
                opcode=self.chance.choice([0, 3, 9, 11]), payload=b"x" * 130, rsv=1
            )

    def pong(self) -> None:
        if self.world.platform.peers and self.world.peer.may_send:
            self.world.peer.sendPong(self.chance.choice([b"", b"odd", *self.world.peer.pings[-2:]]))

    def pass_time(self) -> None:
        self.world.pass_time(self.chance.choice([0.0, 0.05, 0.5, 1.0, 2.5, 10.0, 100.0]))

    # -- laws --------------------------------------------------------------------------------

    def check(self) -> None:
        """A socket, a timer or a pending answer, unless stopped; nothing at all then."""
        network = self.world.network
        sockets = [wire for wire in network.wires if wire.client.connected]
        attempts = [one for one in network.connectors if one.state == "connecting"]
        timers = self.world.timers
        assert len(sockets) + len(attempts) <= 1, "more than one connection"
        is_stopped = not self.is_running and all(one.called for one in self.stopped)
        if is_stopped:
            assert not sockets
            assert not attempts
            assert not timers, timers
        else:
            assert sockets or attempts or timers or self.questions, "nothing leads on"
        if sockets and self.world.is_connected:
            assert timers, "an open connection without a timer is not watched"
        counts = self.world.outbox.counts()
        assert counts["in_flight"] == 0 or sockets, "in flight without a connection"

    def run(self, length: int) -> None:
        events: list[Callable[[], None]] = [
            *[self.pass_time] * 4,
            *[self.start, self.stop, self.reconfigure, self.change_platform, self.change_pongs],
            *[self.change_identity, self.answer_identity, self.change_names, self.answer_name],
            *[self.uplink, self.uplink, self.cut, self.hold, self.release, self.slow_down],
            *[self.platform_closes, self.platform_sends, self.platform_misbehaves, self.pong],
        ]
        self.start()
        self.world.settle()
        for _ in range(length):
            event = self.chance.choice(events)
            self.done.append(event.__name__)
            event()
            if self.chance.random() < 0.8:
                self.world.settle()
                self.check()
        self.end_well()

    def end_well(self) -> None:
        """With a sound platform the agent is connected again, delivers, and stops."""
        world = self.world
        self.release()
        world.device_info.answer = "dev-1"
        self.answer_identity()
        self.answer_name()
        world.network.nameResolver.names["two.example"] = ["192.0.2.1"]
        world.network.platforms = {"192.0.2.1": world.platform}
        world.platform.pong = lambda payload: payload
        self.start()
        world.settle()
        world.pass_time(120)
        assert world.is_connected, "not connected again"
        world.pass_time(20)
        counts = world.outbox.counts()
        assert counts["waiting"] == counts["in_flight"] == 0, counts
        self.stop()
        world.pass_time(15)
        assert all(one.called for one in self.stopped), "the stop never ends"
        self.check()
        assert not world.log.failures, world.log.failures


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_there_is_always_a_way_on(chunk: int) -> None:
    """After every event the connection has a socket, a timer or a pending answer; after a stop it
    has none; and with a sound platform it always ends connected, with everything delivered."""
    for seed in range(FIRST_SEED + chunk, FIRST_SEED + SEQUENCES, CHUNKS):
        sequence = Sequence(seed)
        try:
            sequence.run(length=40)
        except Exception as error:
            error.add_note(f"ODA_SEQUENCES=1 ODA_SEQUENCES_SEED={seed}: {sequence.done}")
            raise
        finally:
            sequence.world.close()
