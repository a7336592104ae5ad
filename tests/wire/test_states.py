"""The state machine of the link, walked exhaustively: each state, each input, each input behind it.

``ODA_ALL_PAIRS=1`` puts every input behind every other one; without it only four come second.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError

from oda.connector.link import DRAIN_S
from oda.errors import ReadingFailed
from oda.model import ContentType, LinkState
from tests.wire.fakes import FakeDeviceInfo, FakeDispatcher
from tests.wire.platform import RawPlatform, say
from tests.wire.states import ALL_STATES
from tests.wire.world import HOST, World, connector_settings

CLOSE_S = 5.0
#: A stop that nobody hurries takes no longer, in seconds.
STOP_S = DRAIN_S + CLOSE_S
#: With a sound platform the agent is connected after so long, whatever was before, in seconds: the
#: limit of an attempt, the pause before the next question for the id, the longest pause.
RETURN_S = 60.0

#: The timer that has to lead on in each state; a question for the id that is open does, too.
LEADS: dict[LinkState, set[str]] = {
    LinkState.STOPPED: set(),
    LinkState.IDENTIFYING: {"Identification._start_again"},
    LinkState.CONNECTING: {"ConnectionAttempt._expire"},
    LinkState.OPEN: {"LoopingCall"},
    LinkState.CLOSING: {"UpgradingProtocol.abort"},
    LinkState.WAITING: {"PlatformClientFactory._reconnect"},
}
#: The timers of ``tests.wire.network`` are no part of the agent.
OF_THE_NETWORK = {"Connector.fail", "Network._answer", "End._aborted"}


class Walk:
    """One world, and everything that may happen in it."""

    def __init__(self) -> None:
        self.world = World(
            settings=self.settings(),
            dispatcher=FakeDispatcher(self.asked),
            device_info=FakeDeviceInfo(),
        )
        self.world.service.startService = self.noting_start  # type: ignore[method-assign]
        self.world.service.stopService = self.noting_stop  # type: ignore[method-assign]
        self.is_running = False
        #: Every stop, with the time at which it has to have ended.
        self.stops: list[tuple[float, Deferred[None]]] = []
        self.is_hurried = False
        self.questions: list[Deferred[Any]] = []
        self.on_message: Callable[[], None] = lambda: None
        self.on_stopped: Callable[[], None] = lambda: None

    @staticmethod
    def settings(**changes: Any) -> Any:
        usual = {"connection_timeout_s": 4.0, "reconnect_max_delay_s": 8.0}
        return connector_settings(**{**usual, "close_timeout_s": CLOSE_S, **changes})

    def asked(self, payload: bytes) -> None:
        action, self.on_message = self.on_message, lambda: None
        action()

    # -- inputs of the agent -----------------------------------------------------------------

    def noting_start(self) -> None:
        self.is_running, self.is_hurried = True, False
        type(self.world.service).startService(self.world.service)

    def noting_stop(self) -> Deferred[None]:
        self.is_running = False
        until_s = self.world.network.seconds() + (0.0 if self.is_hurried else STOP_S)
        stopped = type(self.world.service).stopService(self.world.service)
        self.stops.append((until_s, stopped))
        stopped.addCallback(lambda _: self.stop_has_ended())
        return stopped

    def stop_has_ended(self) -> None:
        action, self.on_stopped = self.on_stopped, lambda: None
        action()

    def start(self) -> None:
        self.noting_start()

    def stop(self) -> None:
        self.noting_stop()

    def hurry(self) -> None:
        self.is_hurried = True
        self.stops = [(self.world.network.seconds(), stopped) for _, stopped in self.stops]
        self.world.service.hurry()

    def reload(self) -> None:
        settings = self.settings(keep_alive_interval_s=7.0, pong_timeout_s=3.0)
        self.world.service.reconfigure(settings, reconnect=False)

    def reconnect(self) -> None:
        self.world.service.reconfigure(self.settings(path="/other"))

    def connect_now(self) -> None:
        self.world.service.connect_now()

    def move_to_a_name(self) -> None:
        self.world.network.nameResolver.names["two.example"] = ["192.0.2.7", HOST]
        self.world.service.reconfigure(self.settings(host="two.example"))

    # -- inputs from within callbacks --------------------------------------------------------

    def _in_message(self, action: Callable[[], None]) -> None:
        self.on_message = action
        self.platform_sends()

    def stop_in_message(self) -> None:
        self._in_message(self.stop)

    def hurried_stop_in_message(self) -> None:
        self._in_message(lambda: (self.hurry(), self.stop())[0])

    def reconnect_in_message(self) -> None:
        self._in_message(self.reconnect)

    def stop_when_asked_for_the_id(self) -> None:
        self.be_asked(lambda: (self.stop(), "dev-1")[1])

    def stop_when_asked_for_the_key(self) -> None:
        walk = self

        class Key:
            def __str__(self) -> str:
                walk.world.device_info.key = "key"
                walk.stop()
                return "key"

        self.world.device_info.key = Key()

    def reconnect_when_asked_for_the_id(self) -> None:
        def answer() -> str:
            self.world.device_info.answer = "dev-1"
            self.reconnect()
            return "dev-1"

        self.be_asked(answer)

    def start_when_stopped(self) -> None:
        self.on_stopped = self.start

    def start_and_stop_when_stopped(self) -> None:
        self.on_stopped = lambda: (self.start(), self.stop())[0]

    def restart_and_start_when_stopped(self) -> None:
        """Two who start at once: one while the stop goes on, one when it has ended."""
        self.on_stopped = self.start
        self.stop()
        self.start()

    # -- inputs of the world -----------------------------------------------------------------

    def be_asked(self, answer: Any) -> None:
        """Answer so from now on; a question that was not answered stays open."""
        before, self.world.device_info.answer = self.world.device_info.answer, answer
        if isinstance(before, Deferred):
            self.questions.append(before)

    def fail_to_identify(self) -> None:
        self.be_asked(ReadingFailed("not now"))

    def identify_never(self) -> None:
        self.be_asked(Deferred())

    def answer_identity(self) -> None:
        self.be_asked("dev-1")
        questions, self.questions = self.questions, []
        for question in questions:
            question.callback("dev-1")

    def answer_name(self) -> None:
        for receiver in self.world.network.nameResolver.waiting:
            receiver.resolutionComplete()
        self.world.network.nameResolver.waiting.clear()

    def refuse_tcp(self) -> None:
        self.world.network.default = ConnectionRefusedError()

    def never_answer_tcp(self) -> None:
        self.world.network.default = None

    def never_answer_the_upgrade(self) -> None:
        self.world.network.default = RawPlatform()

    def refuse_the_upgrade(self) -> None:
        self.world.network.default = RawPlatform(say(b"HTTP/1.1 401 No\r\n\r\n"))

    def be_sound(self) -> None:
        self.world.network.default = self.world.platform

    def cut(self) -> None:
        for wire in self.world.network.wires:
            wire.reset()

    def finish(self) -> None:
        for wire in self.world.network.wires:
            wire.finish()

    def hold(self) -> None:
        for wire in self.world.network.wires:
            wire.hold()

    def release(self) -> None:
        for wire in self.world.network.wires:
            wire.release()

    def platform_closes(self) -> None:
        if self.world.platform.peers and self.world.peer.may_send:
            self.world.peer.sendCloseFrame(1001)

    def platform_sends(self) -> None:
        if self.world.platform.peers and self.world.peer.may_send:
            self.world.peer.sendMessage(b'{"a":1}')

    def publish(self) -> None:
        self.world.service.uplink(b"x" * 100_000, ContentType.JSON)

    def wait_a_little(self) -> None:
        self.world.pass_time(0.3)

    def wait_for_a_limit(self) -> None:
        self.world.pass_time(5.1)

    def wait_long(self) -> None:
        self.world.pass_time(65.0)

    # -- laws --------------------------------------------------------------------------------

    def timers(self) -> Counter[str]:
        names: list[str] = []
        for call in self.world.timers:
            function = call.func
            if getattr(function, "__name__", "") == "guard":
                function = call.args[0]
            names.append(getattr(function, "__qualname__", type(function).__name__))
        return Counter(name for name in names if name not in OF_THE_NETWORK)

    def check(self) -> None:
        """The laws that hold at every moment at which nothing is left to do."""
        world, timers = self.world, self.timers()
        state = world.service.status().state
        sockets = sum(wire.client.connected for wire in world.network.wires)
        racing = [one for one in world.network.connectors if one.state == "connecting"]
        now_s = world.network.seconds()
        late = [one for until_s, one in self.stops if not one.called and now_s >= until_s]
        assert not late, "a stop has not ended in time"
        assert sockets <= 1, "two connections"
        assert len({id(one.factory) for one in racing}) <= 1, "two attempts"
        assert not (sockets and racing), "an attempt beside a connection"
        assert all(count == 1 for count in timers.values()), f"two timers: {timers}"
        leads = {name for needed in LEADS.values() for name in needed} & set(timers)
        is_asked = bool(self.questions) or isinstance(world.device_info.answer, Deferred)
        waits_for_the_id = state is LinkState.IDENTIFYING and is_asked
        assert leads == LEADS[state] or (waits_for_the_id and not leads), (state, timers)
        if state is LinkState.STOPPED:
            assert not timers, timers
        if state in (LinkState.OPEN, LinkState.CLOSING):
            assert sockets, "no connection, and the link waits for its end"
        if state in (LinkState.STOPPED, LinkState.IDENTIFYING, LinkState.WAITING):
            assert not sockets
            assert not racing
        if any(not one.called for _, one in self.stops):
            assert state in (LinkState.OPEN, LinkState.CLOSING), "nothing to wait for"
            assert state is not LinkState.OPEN or timers["_Drain._finish"]
        elif not self.is_running:
            assert state is LinkState.STOPPED
        else:
            assert state is not LinkState.STOPPED

    def step(self, name: str) -> None:
        getattr(self, name)()
        self.world.settle()
        self.check()

    def end_well(self) -> None:
        """With a sound platform an agent that runs is connected again; then it stops in time."""
        world = self.world
        self.release()
        self.be_sound()
        world.network.nameResolver.names["localhost"] = [HOST]
        self.answer_identity()
        world.device_info.key = "key"
        self.on_stopped = self.on_message = lambda: None
        world.settle()
        self.check()
        world.pass_time(RETURN_S)
        self.check()
        assert world.is_connected is self.is_running
        self.stop()
        world.pass_time(STOP_S)
        assert all(one.called for _, one in self.stops)
        self.check()
        world.pass_time(100)
        self.check()
        assert not world.log.failures, world.log.failures
        assert not world.log.has("a defect"), world.log.lines


OF_THE_AGENT = ["start", "stop", "hurry", "reload", "reconnect", "connect_now"]
INPUTS = [
    *OF_THE_AGENT,
    *["move_to_a_name", "stop_in_message", "hurried_stop_in_message", "reconnect_in_message"],
    *["stop_when_asked_for_the_id", "stop_when_asked_for_the_key"],
    *["reconnect_when_asked_for_the_id", "start_when_stopped", "start_and_stop_when_stopped"],
    *["restart_and_start_when_stopped", "fail_to_identify", "identify_never", "answer_identity"],
    *["answer_name", "refuse_tcp", "never_answer_tcp", "never_answer_the_upgrade"],
    *["refuse_the_upgrade", "be_sound", "cut", "finish", "hold", "release", "platform_closes"],
    *["platform_sends", "publish", "wait_a_little", "wait_for_a_limit", "wait_long"],
]
SECOND = INPUTS if os.environ.get("ODA_ALL_PAIRS") else ["start", "stop", "reconnect", "cut"]


@pytest.mark.parametrize("reach", ALL_STATES)
@pytest.mark.parametrize("first", INPUTS)
def test_every_input_in_every_state_leads_on(reach: Callable[[World], None], first: str) -> None:
    """Whatever comes in whatever state, and whatever comes behind it: a stop ends within the limits
    of draining and closing; there are never two connections, two attempts or two timers of a kind;
    and each state has what leads on from it, and nothing of another state."""
    for second in SECOND:
        walk = Walk()
        try:
            reach(walk.world)
            walk.check()
            walk.step(first)
            walk.step(second)
            walk.end_well()
        except Exception as error:
            error.add_note(f"{reach.__name__}, {first}, {second}")
            raise
        finally:
            walk.world.close()
