"""GET and REFRESH_INFO with the real parts: datastream access, state managers, dispatcher, poller.

The dispatcher collects the datastream for an hour. What a request reads is published at once all
the same, and a getter that never answers keeps nobody waiting longer than its time limit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock

from oda.codecs.json import JsonCodec
from oda.codecs.values import check_value
from oda.datastreams.host import build_datastreams
from oda.interfaces import IOperation, IStateManager
from oda.model import Event, OperationRequest, Reading
from oda.operations.get_device_parameters import GetDeviceParameters
from oda.operations.refresh_info import RefreshInfo
from oda.settings import DeviceInfoSettings, Schedule, Secret, StateManagerSettings
from oda.telemetry.dispatcher import EventDispatcher
from oda.telemetry.inmemory import InMemoryStateManager
from oda.telemetry.poller import Poller
from oda.telemetry.realtime import RealtimeStateManager
from tests.datastreams.fakes import FakeGetter, FakeSetter
from tests.telemetry.fakes import FakeConnector, FakeCounters, FakeWallClock

#: Seconds that a reading may take, as the page about readings says.
LIMIT_S = 30.0


class World:
    """Everything from a getter to the connector, on a clock that the test moves; ``root`` is an
    empty directory: the host has nothing to read there."""

    def __init__(self, manager: str, root: Path, *getters: FakeGetter) -> None:
        self.clock = Clock()
        clock = cast(IReactorTime, self.clock)
        wall_clock = FakeWallClock()
        # A script may take as long as it likes; that is no matter of other readings.
        device_info = DeviceInfoSettings(api_key=Secret("key-1"), script_timeout_s=300.0)
        host = build_datastreams(device_info, clock, wall_clock, {}, root, root)
        access, self.registry = host.access, host.registry
        self.registry.host_id = "dev-1"
        for getter in getters:
            self.registry.add_getter(getter)
        self.connector = FakeConnector()
        self.counters = FakeCounters()
        collected = [
            Schedule(datastream_id=name, device_pattern="*", first_s=3600, period_s=3600)
            for name in ("t", "u")
        ]
        self.events = EventDispatcher(
            clock,
            self.connector,
            JsonCodec(),
            check_value,
            wall_clock,
            self.counters,
            host_id="dev-1",
            schedules=collected,
            window_s=0.02,
        )
        self.events.start()
        self.state: IStateManager
        if manager == "realtime":
            self.state = RealtimeStateManager(access, self.events, clock)
        else:
            self.state = InMemoryStateManager(
                clock,
                access,
                self.registry,
                self.events,
                StateManagerSettings(),
                check_value,
                wall_clock,
                self.counters,
            )

    def ask(self, name: str, device_id: str) -> Deferred[Any]:
        """The operation ``name``, of the datastreams t and u where it takes any."""
        operation: IOperation = {
            "GET": GetDeviceParameters(self.state, check_value),
            "REFRESH": RefreshInfo(self.state, check_value, self.counters),
        }[name]
        request = OperationRequest(
            "1", operation.name, device_id=device_id, parameters={"variableList": ["t", "u"]}
        )
        answer: Deferred[Any] = maybeDeferred(operation.execute, request, lambda steps: None)
        return answer

    def published(self) -> list[Any]:
        """The values of the datastream t that went up, sorted."""
        return sorted(
            point["value"]
            for document in self.connector.documents()
            for stream in document["datastreams"]
            for point in stream["datapoints"]
            if stream["id"] == "t"
        )

    def pass_(self, seconds: float) -> None:
        """Time goes by, with the turns of the reactor that belong to it."""
        self.clock.advance(seconds)
        self.clock.pump([0, 0, 0])


def getter_of(name: str, devices: tuple[str, ...], result: Callable[[str], Any]) -> FakeGetter:
    return FakeGetter(name, devices, result)


@pytest.fixture(params=["realtime", "in memory"])
def manager(request: pytest.FixtureRequest) -> str:
    """Both state managers."""
    return str(request.param)


@pytest.mark.parametrize("name", ["GET", "REFRESH"])
@pytest.mark.parametrize(
    ("device_id", "values"), [("", [1]), ("dev-1", [1]), ("*", [1, 2, 3]), ("sensor-*", [2, 3])]
)
def test_what_a_request_reads_does_not_wait_for_the_dispatchers_line(
    manager: str, tmp_path: Path, name: str, device_id: str, values: list[int]
) -> None:
    """Within a commit window the values of GET and REFRESH_INFO are on their way, once, though a
    line of the dispatcher collects the datastream; that of a source waits for the line."""
    known = {"": 1, "sensor-1": 2, "sensor-2": 3}
    world = World(
        manager, tmp_path, getter_of("t", tuple(known), lambda device: Reading(known[device]))
    )
    world.state.received([Event("t", 9, "other")])
    world.pass_(0)
    answered: list[Any] = []
    world.ask(name, device_id).addCallback(answered.append)
    world.pass_(0)
    world.pass_(0.02)
    assert len(answered) == 1
    # What is kept of a device that nobody reads is an answer, too.
    kept = [9] if manager == "in memory" and device_id == "*" else []
    assert world.published() == values + kept
    world.pass_(3600)
    world.pass_(0.02)
    assert world.published() == values + ([9] if manager == "realtime" else kept)


@pytest.mark.parametrize("name", ["GET", "REFRESH"])
@pytest.mark.parametrize("device_id", ["", "*"])
def test_a_reading_is_cancelled_after_its_limit(
    manager: str, tmp_path: Path, name: str, device_id: str
) -> None:
    """A getter that never answers is cancelled when 30 s are over, not before and not later, and
    the request is answered in the same moment."""
    cancelled: list[float] = []

    def never(_: str) -> Deferred[Reading]:
        return Deferred(lambda _: cancelled.append(now()))

    world = World(manager, tmp_path, getter_of("t", ("", "a"), never), getter_of("u", ("",), never))
    now = world.clock.seconds
    answered: list[Any] = []
    world.ask(name, device_id).addCallback(lambda _: answered.append(now()))
    world.pass_(LIMIT_S - 0.001)
    assert cancelled == answered == []
    world.pass_(0.001)
    assert cancelled == [LIMIT_S] * (2 if device_id == "" else 3)
    assert answered == [LIMIT_S]


def test_a_poll_is_cancelled_after_its_limit(manager: str, tmp_path: Path) -> None:
    """The poller's reading ends after 30 s, so that the line is read again when it is due."""
    cancelled: list[float] = []
    asked: list[float] = []

    def never(_: str) -> Deferred[Reading]:
        asked.append(world.clock.seconds())
        return Deferred(lambda _: cancelled.append(world.clock.seconds()))

    world = World(manager, tmp_path, getter_of("t", ("",), never))
    line = Schedule(datastream_id="t", device_pattern="", first_s=10, period_s=10)
    poller = Poller(cast(IReactorTime, world.clock), world.state, world.counters, [line])
    poller.start()
    world.clock.pump([1.0] * 39)
    assert (asked, cancelled) == ([10], [])
    world.clock.pump([1.0] * 11)
    poller.stop()
    assert cancelled == [10 + LIMIT_S]
    assert asked == [10, 40]


def test_a_writing_is_cancelled_after_its_limit(manager: str, tmp_path: Path) -> None:
    """A setter has the same limit, and its writing has an outcome then."""
    cancelled: list[float] = []
    world = World(manager, tmp_path)
    now = world.clock.seconds
    stuck = FakeSetter("t", ("",), lambda _: Deferred(lambda _: cancelled.append(now())))
    world.registry.add_setter(stuck)
    outcomes: list[Any] = []
    world.state.set("", [("t", 1)]).addCallback(outcomes.extend)
    world.pass_(LIMIT_S - 0.001)
    assert outcomes == []
    world.pass_(0.001)
    assert cancelled == [LIMIT_S]
    assert [outcome.error for outcome in outcomes] == ["no answer within 30 s"]
