"""One bad reading never harms another: getters that fail in every way at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from zope.interface import implementer

from oda.boundary import ForeignCodeError, foreign_code, reason_of
from oda.codecs import check_value, default_registry
from oda.datastreams.reading import DatastreamAccess
from oda.datastreams.registry import DatastreamRegistry
from oda.interfaces import IDatastreamGetter
from oda.model import (
    ContentType,
    DatastreamValue,
    OperationRequest,
    OperationResult,
    Reading,
    ResultCode,
    ValueStatus,
)
from oda.monitor.counters import Counters
from oda.operations import GetDeviceParameters, RefreshInfo
from oda.operations.response import final_document
from oda.settings import Schedule
from oda.telemetry.poller import Poller
from oda.telemetry.realtime import RealtimeStateManager
from tests.datastreams.fakes import FixedClock
from tests.foreign import HashedOnce, Unseen
from tests.telemetry.fakes import FakeDispatcher

TIMEOUT_S = 30.0


class Unprintable(Exception):  # noqa: N818 - what it is matters here
    """An error that can't be shown."""

    def __str__(self) -> str:
        raise SystemExit("not even shown")


RAISED: list[BaseException] = [
    SystemExit("no bus"),
    SystemExit(),
    asyncio.CancelledError(),
    GeneratorExit(),
    ValueError("boom"),
    Unprintable(),
    RecursionError("deep"),
    OSError("caf\udce9"),
    BaseExceptionGroup("several", [SystemExit(1)]),
]
UNSENDABLE: list[Any] = [
    2**70,
    {"a": 2**70},
    float("nan"),
    {"a": float("nan")},
    [1, float("-inf")],
    b"ab",
    "caf\udce9",
    {1: 2},
    {"caf\udce9": 1},
    object(),
    Decimal("NaN"),
    Decimal("0.1234567890123456789"),
    {1, 2},
]
NO_READINGS: list[Any] = [
    21.5,
    None,
    Reading(1, at_ms=cast(Any, "soon")),
    Reading(1, feed=cast(Any, 5)),
    Reading,
]


def raise_it(error: BaseException) -> Any:
    raise error


async def late(error: BaseException) -> Reading:
    await succeed(None)
    raise error


def stubborn() -> Deferred[Any]:
    """Ignores that it is cancelled, by wanting to end the process."""
    return Deferred(lambda _: raise_it(SystemExit("cancelled")))


@implementer(IDatastreamGetter)
class Getter:
    def __init__(
        self, datastream_id: str, get: Callable[[], Any], devices: Callable[[], Any]
    ) -> None:
        self.datastream_id = datastream_id
        self._get = get
        self._devices = devices

    def devices(self) -> Iterable[str]:
        return cast(Iterable[str], self._devices())

    def get(self, device_id: str) -> Any:
        return self._get()


#: Each way to fail, as ``get`` and ``devices``.
BAD_GETS: list[Callable[[], Any]] = [
    *(lambda error=error: raise_it(error) for error in RAISED),
    *(lambda error=error: fail(error) for error in RAISED),
    *(lambda error=error: late(error) for error in RAISED),
    *(lambda value=value: Reading(value) for value in UNSENDABLE),
    *(lambda value=value: succeed(Reading(value)) for value in UNSENDABLE),
    *(lambda value=value: value for value in NO_READINGS),
    *(lambda error=error: Unseen(error) for error in RAISED),
    *(lambda error=error: succeed(Unseen(error)) for error in RAISED),
    lambda: Reading({HashedOnce(): 1}),
    lambda: succeed(Reading([{HashedOnce(): 1}])),
    stubborn,
    Deferred,
]
UNTOLD: list[Callable[[], Any]] = [
    *(lambda error=error: raise_it(error) for error in RAISED),
    lambda: None,
]
BAD_DEVICES: list[Callable[[], Any]] = [
    *UNTOLD,
    lambda: [None],
    lambda: (raise_it(SystemExit("half")) if n else "" for n in range(2)),
]


def host() -> list[str]:
    return [""]


class World:
    """A healthy getter among bad ones, and what reads them."""

    def __init__(self, bad: Iterable[tuple[Callable[[], Any], Callable[[], Any]]]) -> None:
        self.clock = Clock()
        self.registry = DatastreamRegistry("host-1")
        self.access = DatastreamAccess(
            self.registry, FixedClock(), cast(IReactorTime, self.clock), TIMEOUT_S
        )
        self.dispatcher = FakeDispatcher()
        self.state = RealtimeStateManager(
            self.access, self.dispatcher, cast(IReactorTime, self.clock)
        )
        self.counters = Counters()
        self.names: list[str] = []
        for index, (get, devices) in enumerate(bad):
            self.names.append(f"bad.{index}")
            self.registry.add_getter(Getter(self.names[-1], get, devices))
            if devices in UNTOLD:
                # The healthy datastream has a bad getter besides, nobody knows of which device.
                self.registry.add_getter(Getter("good", get, devices))
        self.registry.add_getter(Getter("good", lambda: Reading(7), host))

    def result(self, doing: Any) -> OperationResult:
        """What it ends with, within the time limit of a reading."""
        ended: list[Any] = []
        doing.addBoth(ended.append)
        self.clock.advance(TIMEOUT_S)
        assert len(ended) == 1
        assert isinstance(ended[0], OperationResult), ended[0]
        return ended[0]


def entries(result: OperationResult) -> dict[str, dict[str, Any]]:
    """The entries of the answer, which every format can carry."""
    document = final_document(OperationRequest("1", "X"), "host-1", result)
    codecs = default_registry()
    for content_type in ContentType:
        codecs.codec(content_type).encode(document)
    assert result.result_code is ResultCode.SUCCESSFUL
    assert result.steps is not None
    return {entry["variableName"]: entry for entry in result.steps[0].response or ()}


bad_getters = st.lists(
    st.tuples(st.sampled_from(BAD_GETS), st.sampled_from([host, *BAD_DEVICES])),
    max_size=6,
)


@given(bad_getters)
@settings(max_examples=150, deadline=None)
def test_one_bad_reading_never_harms_another(bad: list[Any]) -> None:
    """Whatever getters do, GET gives the healthy value beside an entry of its own for each bad one,
    REFRESH_INFO gives the healthy value, a schedule goes on, and nobody waits longer than the time
    limit."""
    world = World(bad)
    get = GetDeviceParameters(world.state, check_value)
    request = OperationRequest("1", get.name, parameters={"variableList": [*world.names, "good"]})
    answered = entries(world.result(maybeDeferred(get.execute, request, lambda steps: None)))
    assert answered.keys() == {*world.names, "good"}
    assert answered["good"]["variableValue"] == 7
    for name in world.names:
        assert answered[name]["resultCode"] != "SUCCESS"
        assert answered[name]["resultDescription"]

    refresh = RefreshInfo(world.state, check_value, world.counters)
    request = OperationRequest("2", refresh.name)
    answered = entries(world.result(refresh.execute(request, lambda steps: None)))
    assert [one["value"] for one in answered["good"]["variableValue"]] == [7]

    lines = [
        Schedule(datastream_id=name, device_pattern="", first_s=1, period_s=1)
        for name in (*world.names, "good")
    ]
    poller = Poller(cast(IReactorTime, world.clock), world.state, world.counters, lines)
    world.dispatcher.events.clear()
    poller.start()
    world.clock.pump([1] * 3)
    good = [event for event in world.dispatcher.events if event.datastream_id == "good"]
    assert [event.value for event in good] == [7, 7, 7]
    poller.stop()


@pytest.mark.parametrize("error", RAISED, ids=repr)
def test_what_a_getter_raises_is_the_reason(error: BaseException) -> None:
    """Whatever it is: the reading is ERROR with a reason that can be sent, which names what would
    have ended the process."""
    world = World([(lambda: raise_it(error), host)])
    values: list[DatastreamValue] = []
    world.access.read("bad.0", "").addCallback(values.extend)
    assert [value.status for value in values] == [ValueStatus.ERROR]
    assert values[0].error
    check_value(values[0].error)
    if not isinstance(error, Exception):
        assert type(error).__name__ in values[0].error


def test_an_interrupt_by_the_operator_passes() -> None:
    """``KeyboardInterrupt`` is nobody's failed reading."""
    world = World([(lambda: raise_it(KeyboardInterrupt()), host)])
    with pytest.raises(KeyboardInterrupt):
        world.access.read("bad.0", "")


@pytest.mark.parametrize("error", [SystemExit("no bus"), asyncio.CancelledError()], ids=repr)
def test_the_boundary_makes_errors_of_what_would_end_its_caller(error: BaseException) -> None:
    """Inside the boundary nothing but errors and the operator's interrupt comes out; an error is
    left as it is."""
    with pytest.raises(ForeignCodeError, match=type(error).__name__) as caught, foreign_code:
        raise error
    assert caught.value.__cause__ is error
    with pytest.raises(ValueError, match="x"), foreign_code:
        raise ValueError("x")
    with pytest.raises(KeyboardInterrupt), foreign_code:
        raise KeyboardInterrupt


def test_the_reason_is_never_empty_and_never_endless() -> None:
    """The text of an error can be sent, whatever the error is."""
    assert reason_of(ValueError()) == "ValueError"
    assert reason_of(Unprintable()) == "Unprintable"
    assert reason_of(SystemExit(3)) == "SystemExit: 3"
    assert len(reason_of(ValueError("x" * 10_000))) == 1000


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (Decimal("21.5"), 21.5),
        (Decimal("0.1"), 0.1),
        (Decimal("-3"), -3.0),
        ([Decimal("1.25"), {"a": Decimal("2.5")}], [1.25, {"a": 2.5}]),
    ],
)
def test_a_decimal_is_sent_as_the_number_of_its_digits(value: Any, sent: Any) -> None:
    """A Decimal becomes the number that is written with the same digits."""
    world = World([(lambda: Reading(value), host)])
    values: list[DatastreamValue] = []
    world.access.read("bad.0", "").addCallback(values.extend)
    assert values[0].value == sent
    check_value(values[0].value)


def test_values_left_out_of_a_refresh_are_counted() -> None:
    """REFRESH_INFO says by a counter what it left out."""
    world = World([(lambda: Reading(2**70), host), (lambda: Reading(b""), host)])
    refresh = RefreshInfo(world.state, check_value, world.counters)
    world.result(refresh.execute(OperationRequest("2", refresh.name), lambda steps: None))
    assert world.counters.count("values_not_sendable") == 2


def test_a_setter_that_wants_to_end_the_process() -> None:
    """It is a write that failed; another setter of the datastream is found all the same."""
    from tests.datastreams.fakes import FakeSetter

    world = World([])
    broken = FakeSetter("t", ("other",), lambda _: raise_it(SystemExit("no bus")))
    world.registry.add_setter(broken)
    world.registry.add_setter(FakeSetter("t", ("",)))
    outcomes: list[DatastreamValue] = []
    world.access.write("other", "t", 1).addCallback(outcomes.append)
    assert outcomes[0].error == "SystemExit: no bus"
    broken.devices = lambda: raise_it(SystemExit("gone"))  # type: ignore[method-assign]
    world.access.write("", "t", 1).addCallback(outcomes.append)
    assert outcomes[1].status is ValueStatus.OK
    world.access.write("other", "t", 1).addCallback(outcomes.append)
    assert outcomes[2].error == "SystemExit: gone"


@pytest.mark.parametrize("error", RAISED, ids=repr)
def test_what_a_getter_gave_may_fail_when_it_is_looked_at(error: BaseException) -> None:
    """A proxy whose class can't be told is a failed reading, at once, with the proxy's reason; so
    it is a failed writing."""
    from tests.datastreams.fakes import FakeSetter

    world = World([(lambda: Unseen(error), host), (lambda: succeed(Unseen(error)), host)])
    values: list[DatastreamValue] = []
    world.access.read("bad.0", "").addCallback(values.extend)
    world.access.read("bad.1", "").addCallback(values.extend)
    world.registry.add_setter(FakeSetter("t", ("",), lambda _: Unseen(error)))
    world.access.write("", "t", 1).addCallback(values.append)
    assert [value.error for value in values] == [reason_of(error)] * 3


def test_the_traceback_names_the_line_at_fault() -> None:
    """What the boundary makes of an exit is logged with the traceback of the exit itself."""
    with pytest.raises(ForeignCodeError) as caught, foreign_code:
        raise_it(SystemExit("no bus"))
    assert "raise_it" in [entry.name for entry in caught.traceback]
