"""Reading and writing through the registry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oda.datastreams.reading import DatastreamAccess
from oda.datastreams.registry import DatastreamRegistry
from oda.errors import ReadingFailed, WritingFailed
from oda.interfaces import IDatastreamAccess, IDating
from oda.model import DatastreamValue, Moment, Reading, ValueStatus
from tests.datastreams.fakes import FakeGetter, FakeSetter, FixedClock

OK, ERROR, NOT_FOUND = ValueStatus.OK, ValueStatus.ERROR, ValueStatus.NOT_FOUND


class Bench:
    """A registry, its access, and a reactor's clock that never runs by itself."""

    def __init__(self, timeout_s: float = 30.0) -> None:
        self.registry = DatastreamRegistry("host-1")
        self.reactor = Clock()
        self.wall_clock = FixedClock(1_000)
        self.access = DatastreamAccess(
            self.registry, self.wall_clock, cast(IReactorTime, self.reactor), timeout_s
        )

    def getter(self, answer: Any, datastream_id: str = "t", devices: Any = ("",)) -> FakeGetter:
        getter = FakeGetter(datastream_id, devices, answer)
        self.registry.add_getter(getter)
        return getter

    def setter(self, answer: Any) -> FakeSetter:
        setter = FakeSetter("t", ("",), answer)
        self.registry.add_setter(setter)
        return setter


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def result(deferred: Deferred[Any]) -> Any:
    """What the Deferred has fired with; fails the test if it has not."""
    fired: list[Any] = []
    deferred.addCallback(fired.append)
    assert fired, "the Deferred has not fired"
    return fired[0]


def raising(error: Exception) -> Any:
    def answer(_: object) -> Any:
        raise error

    return answer


def test_it_provides_its_interface(bench: Bench) -> None:
    """``DatastreamAccess`` keeps its contract."""
    assert verifyObject(IDatastreamAccess, bench.access)


def test_a_value_is_read_at_once(bench: Bench) -> None:
    """A getter that answers at once gives a fired Deferred, without any timer."""
    bench.getter(lambda _: Reading(21.5, feed="f"))
    assert result(bench.access.read("t", "")) == [
        DatastreamValue("t", "", OK, 21.5, 1_000, feed="f")
    ]
    assert bench.reactor.getDelayedCalls() == []


def test_the_readings_own_time_is_kept(bench: Bench) -> None:
    """``at_ms`` is the reading's where it has one, also the epoch itself."""
    bench.getter(lambda _: Reading(1, at_ms=0))
    assert result(bench.access.read("t", ""))[0].at_ms == 0


def test_the_time_is_that_of_the_answer(bench: Bench) -> None:
    """A slow reading is dated when it comes, not when it was asked for."""
    source: Deferred[Reading] = Deferred()
    bench.getter(lambda _: source)
    answer = bench.access.read("t", "")
    bench.wall_clock.time_ms = 2_000
    source.callback(Reading(1))
    assert result(answer)[0].at_ms == 2_000
    assert bench.reactor.getDelayedCalls() == []


def test_the_hosts_id_gives_values_of_the_host(bench: Bench) -> None:
    """Asked by the agent's own id, getters, setters and values know the host as ""."""
    getter, setter = bench.getter(lambda _: Reading(1)), bench.setter(lambda _: None)
    assert result(bench.access.read("t", "host-1"))[0].device_id == ""
    assert result(bench.access.read("nothing", "host-1"))[0].device_id == ""
    assert result(bench.access.write("host-1", "t", 5)).device_id == ""
    assert getter.asked == [""]
    assert setter.written == [("", 5)]


def test_one_value_for_each_device_in_order(bench: Bench) -> None:
    """Values come in the order of the devices, not in that of the answers."""
    sources: dict[str, Deferred[Reading]] = {"a": Deferred(), "c": Deferred()}
    bench.getter(lambda d: sources.get(d, Reading("now")), devices=["c", "b", "a"])
    answer = bench.access.read("t", "*")
    sources["c"].callback(Reading("second"))
    sources["a"].callback(Reading("third"))
    assert [(v.device_id, v.value) for v in result(answer)] == [
        ("a", "third"),
        ("b", "now"),
        ("c", "second"),
    ]


def test_nobody_reads_it(bench: Bench) -> None:
    """An unknown datastream or device is one value NOT_FOUND that names what was asked."""
    assert result(bench.access.read("t", "x*")) == [DatastreamValue("t", "x*", NOT_FOUND)]


def test_everything_of_a_device(bench: Bench) -> None:
    """``read_all`` reads each datastream of the device; a failing one doesn't hide the others."""
    bench.getter(lambda _: Reading(1), "b")
    bench.getter(raising(ReadingFailed("no sensor")), "a")
    bench.getter(lambda _: Reading(2), "c", ["child"])
    assert [(v.datastream_id, v.status) for v in result(bench.access.read_all(""))] == [
        ("a", ERROR),
        ("b", OK),
    ]
    assert result(bench.access.read_all("nobody")) == []


@pytest.mark.parametrize("failing", [raising(ReadingFailed("no sensor")), None])
def test_the_reason_of_a_failed_reading(bench: Bench, failing: Any, logged: list[LogEvent]) -> None:
    """``ReadingFailed``, raised or through a Deferred, gives its text and is not logged."""
    bench.getter(failing or (lambda _: fail(ReadingFailed("no sensor"))))
    assert result(bench.access.read("t", "")) == [
        DatastreamValue("t", "", ERROR, error="no sensor")
    ]
    assert logged == []


def test_an_unexpected_exception_is_logged_once_per_change(
    bench: Bench, logged: list[LogEvent]
) -> None:
    """A broken getter is logged with its traceback when it breaks, not at every reading."""
    getter = bench.getter(raising(ValueError("boom")))
    for _ in range(3):
        assert result(bench.access.read("t", ""))[0].error == "boom"
    assert [event["log_failure"].value.args for event in logged] == [("boom",)]
    assert logged[0]["datastream_id"] == "t"
    getter.answer = lambda _: Reading(1)
    assert result(bench.access.read("t", ""))[0].status is OK
    getter.answer = raising(ValueError("again"))
    result(bench.access.read("t", ""))
    assert len(logged) == 2


def test_an_exception_without_text_gives_its_name(bench: Bench) -> None:
    """The reason is never empty."""
    bench.getter(raising(ValueError()))
    assert result(bench.access.read("t", ""))[0].error == "ValueError"


def test_an_answer_of_another_type(bench: Bench) -> None:
    """A getter that gives something else than a Reading is told so."""
    bench.getter(lambda _: 21.5)
    assert "float, not a Reading" in result(bench.access.read("t", ""))[0].error


def test_a_coroutine_function_may_read(bench: Bench) -> None:
    """``async def get`` works as a Deferred does."""

    async def answer(_: str) -> Reading:
        return Reading(await succeed(3))

    bench.getter(answer)
    assert result(bench.access.read("t", ""))[0].value == 3


def test_the_time_limit_holds(bench: Bench) -> None:
    """A reading that never ends becomes ERROR at the limit, and is cancelled."""
    cancelled: list[object] = []
    bench.getter(lambda _: Deferred(cancelled.append))
    answer = bench.access.read("t", "")
    bench.reactor.advance(29.9)
    assert not answer.called
    bench.reactor.advance(0.2)
    assert result(answer) == [DatastreamValue("t", "", ERROR, error="no answer within 30 s")]
    assert len(cancelled) == 1


def test_a_source_that_ignores_cancelling_does_not_silence(bench: Bench) -> None:
    """The limit holds even when the source never fires at all; what comes late is dropped."""
    never: Deferred[Reading] = Deferred()
    source = succeed(None).addCallback(lambda _: never)
    never.addErrback(lambda _: Deferred())  # swallows the cancellation
    bench.getter(lambda _: source)
    answer = bench.access.read("t", "")
    bench.reactor.advance(30)
    assert result(answer)[0].status is ERROR


def test_a_canceller_that_raises(bench: Bench, logged: list[LogEvent]) -> None:
    """A broken canceller is logged; the outcome goes out all the same."""
    bench.getter(lambda _: Deferred(raising(RuntimeError("bad canceller"))))
    answer = bench.access.read("t", "")
    bench.reactor.advance(30)
    assert result(answer)[0].error == "no answer within 30 s"
    assert len(logged) == 1


def test_cancelling_ends_what_is_open(bench: Bench) -> None:
    """Cancelled by the caller, open readings end as ERROR and no timer stays."""
    bench.getter(lambda device_id: Reading(1) if device_id else Deferred(), devices=["", "c"])
    answer = bench.access.read("t", "*")
    answer.cancel()
    assert [(v.device_id, v.status, v.error) for v in result(answer)] == [
        ("", ERROR, "cancelled"),
        ("c", OK, None),
    ]
    assert bench.reactor.getDelayedCalls() == []


def test_devices_that_raise_become_an_error(bench: Bench) -> None:
    """A getter whose ``devices()`` breaks later can't make a reading fail."""
    getter = bench.getter(lambda _: Reading(1))
    getter.devices = lambda: raising(RuntimeError("bus gone"))(None)  # type: ignore[method-assign]
    assert result(bench.access.read("t", ""))[0].error == "bus gone"
    assert result(bench.access.read_all(""))[0].error == "bus gone"


def test_writing(bench: Bench) -> None:
    """A written value is OK, with the value and the time; an unknown datastream NOT_FOUND."""
    done: Deferred[None] = Deferred()
    setter = bench.setter(lambda value: done if value == "slow" else None)
    assert result(bench.access.write("", "t", 17)) == DatastreamValue("t", "", OK, 17, 1_000)
    answer = bench.access.write("", "t", "slow")
    assert not answer.called
    done.callback(None)
    assert result(answer).status is OK
    assert setter.written == [("", 17), ("", "slow")]
    assert result(bench.access.write("c", "t", 1)) == DatastreamValue("t", "c", NOT_FOUND)


def test_writing_fails_with_its_reason(bench: Bench, logged: list[LogEvent]) -> None:
    """The text of ``WritingFailed`` goes out, raised or through a Deferred, and isn't logged."""
    answers = {
        1: raising(WritingFailed("actuator broken")),
        2: lambda _: fail(WritingFailed("stuck")),
    }
    bench.setter(lambda value: answers[value](value))
    assert result(bench.access.write("", "t", 1)).error == "actuator broken"
    assert result(bench.access.write("", "t", 2)).error == "stuck"
    assert logged == []


def test_writing_has_a_time_limit(bench: Bench) -> None:
    """A setter that never ends is ERROR at the limit."""
    bench.setter(lambda _: Deferred())
    answer = bench.access.write("", "t", 1)
    bench.reactor.advance(30)
    assert result(answer).error == "no answer within 30 s"


def test_a_value_that_its_getter_changes_is_answered_as_it_was_read(bench: Bench) -> None:
    """A getter may go on with the dict it gave, while other readings of the answer are awaited."""
    state: dict[str, Any] = {"a": 1, "list": [1, (2, [3])]}
    slow: Deferred[Reading] = Deferred()
    bench.getter(lambda device_id: Reading(state), "t")
    bench.getter(lambda device_id: slow, "u")
    reading = bench.access.read_all("")
    state["a"] = 2
    state["list"][1][1].append(4)
    slow.callback(Reading(1))
    first, _ = result(reading)
    assert first.value == {"a": 1, "list": [1, (2, [3])]}


def test_a_value_that_is_none_stays_for_the_sender_to_refuse(bench: Bench) -> None:
    """A list that contains itself, or an object of another type, is passed on as it is."""
    endless: list[Any] = []
    endless += [endless, endless]
    strange = {"t": object()}
    bench.getter(lambda device_id: Reading(endless), "t")
    bench.getter(lambda device_id: Reading(strange), "u")
    first, second = result(bench.access.read_all(""))
    assert first.value is endless
    assert second.value == strange


@implementer(IDating)
class WrongClock:
    """A time of day that can't be believed."""

    def is_right(self) -> bool:
        return False

    def moment(self) -> Moment:
        return Moment("boot", 77)

    def date(self, moment: Moment) -> tuple[int, int | None] | None:
        return None


def test_no_time_is_made_up_while_the_clock_is_wrong() -> None:
    """A value that was read or written then has the moment instead of a time; a time that the
    getter gives is the getter's word."""
    verifyObject(IDating, WrongClock())
    registry = DatastreamRegistry("host-1")
    access = DatastreamAccess(registry, FixedClock(1_000), Clock(), dating=WrongClock())
    registry.add_getter(FakeGetter("t", ("",), lambda _: Reading(1)))
    registry.add_getter(FakeGetter("u", ("",), lambda _: Reading(1, at_ms=5)))
    registry.add_setter(FakeSetter("t", ("",), lambda _: None))
    (value,) = result(access.read("t", ""))
    assert (value.at_ms, value.taken) == (None, Moment("boot", 77))
    (value,) = result(access.read("u", ""))
    assert (value.at_ms, value.taken) == (5, None)
    value = result(access.write("", "t", 3))
    assert (value.at_ms, value.taken) == (None, Moment("boot", 77))
