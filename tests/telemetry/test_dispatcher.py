"""The event dispatcher: what is accepted when, and who hears of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oda.codecs.cbor import CborCodec
from oda.codecs.json import JsonCodec
from oda.codecs.values import check_value
from oda.errors import EventRejected, OutboxClosed, OutboxFull
from oda.interfaces import ICodec, IEventDispatcher
from oda.model import ContentType, Event
from oda.settings import Schedule
from oda.telemetry import dispatcher as module
from oda.telemetry.dispatcher import EventDispatcher
from oda.telemetry.schedules import MAX_HELD
from tests.telemetry import strategies
from tests.telemetry.fakes import (
    NOW_MS,
    FakeConnector,
    FakeCounters,
    FakeWallClock,
    has_fired,
    result_of,
)


class Rig:
    """A dispatcher and everything around it."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.connector = FakeConnector()
        self.counters = FakeCounters()
        options.setdefault("host_id", "dev-1")
        options.setdefault("codec", JsonCodec())
        self.dispatcher = EventDispatcher(
            self.clock,
            self.connector,
            check_value=check_value,
            wall_clock=FakeWallClock(),
            counters=self.counters,
            **options,
        )
        self.dispatcher.start()
        self.publish = self.dispatcher.publish

    def end_turn(self) -> None:
        self.clock.advance(0)


def test_it_is_an_event_dispatcher() -> None:
    """It keeps the contract of IEventDispatcher."""
    verifyObject(IEventDispatcher, Rig().dispatcher)


def test_events_of_one_turn_share_a_document() -> None:
    """Single publications and lists of one turn become one document; nothing goes out before the
    turn has ended, and no delayed call is left after it."""
    rig = Rig()
    rig.publish(Event("t", 1))
    rig.publish([Event("t", 2), Event("u", 3)])
    rig.publish(Event("t", 4))
    assert rig.connector.payloads == []
    rig.end_turn()
    (document,) = rig.connector.documents()
    assert [
        (stream["id"], [point["value"] for point in stream["datapoints"]])
        for stream in document["datastreams"]
    ] == [("t", [1, 2, 4]), ("u", [3])]
    assert rig.connector.sizes == [4]
    assert rig.clock.getDelayedCalls() == []


def test_a_steady_stream_is_gathered_for_the_window() -> None:
    """What comes after a pause goes out with its turn; what follows within the window shares the
    next document, and no event waits longer than the window."""
    rig = Rig(window_s=0.02)
    rig.publish(Event("t", 1))
    rig.end_turn()
    assert rig.connector.sizes == [1]
    for value in (2, 3, 4):
        rig.clock.advance(0.005)
        rig.publish(Event("t", value))
    rig.clock.advance(0.004)
    assert rig.connector.sizes == [1]
    rig.clock.advance(0.001)
    assert rig.connector.sizes == [1, 3]
    rig.clock.advance(1)
    rig.publish(Event("t", 5))
    rig.end_turn()
    assert rig.connector.sizes == [1, 3, 1]
    assert rig.clock.getDelayedCalls() == []


def test_a_fast_stream_does_not_wait_for_the_window() -> None:
    """A hundred events are worth a document: they go out with the turn in which they are together.
    A publisher that waits for acceptance would be held up for nothing otherwise."""
    rig = Rig(window_s=10.0)
    rig.publish(Event("t", 0))
    rig.end_turn()
    for value in range(99):
        rig.publish(Event("t", value))
    rig.end_turn()
    assert rig.connector.sizes == [1]
    rig.publish([Event("t", value) for value in range(3)])
    rig.end_turn()
    assert rig.connector.sizes == [1, 102]
    assert rig.clock.getDelayedCalls() == []


def test_a_window_of_a_minute_accepts_at_its_end_or_when_asked() -> None:
    """Within the window nothing is accepted, and publishing does not say that it is. It ends early
    when somebody who waits asks, and at a stop. A publisher that waits for each acceptance goes on,
    once in a window."""
    rig = Rig(window_s=60.0)
    assert has_fired(rig.publish(Event("t", 0))) is False
    rig.end_turn()
    accepted = rig.publish(Event("t", 1))
    rig.clock.advance(59)
    assert not has_fired(accepted)
    rig.clock.advance(1)
    assert has_fired(accepted)
    asked = rig.publish(Event("t", 2))
    rig.dispatcher.flush()
    assert not has_fired(asked)
    rig.end_turn()
    assert has_fired(asked)
    last = rig.publish(Event("t", 3))
    stopped = rig.dispatcher.stop()
    assert has_fired(last)
    assert has_fired(stopped)
    assert rig.connector.sizes == [1, 1, 1, 1]
    rig.dispatcher.flush()
    assert rig.clock.getDelayedCalls() == []


def test_the_deferred_fires_at_acceptance() -> None:
    """Neither publishing nor handing over is acceptance: the Deferred waits for the connector."""
    rig = Rig()
    rig.connector.hold = True
    one, several = rig.publish(Event("t", 1)), rig.publish([Event("t", 2), Event("t", 3)])
    rig.end_turn()
    assert not has_fired(one)
    assert not has_fired(several)
    rig.connector.waiting[0].callback(1)
    assert result_of(one) is None
    assert result_of(several) is None
    assert rig.counters.counts["events_accepted"] == 3


def test_a_call_waits_for_all_its_documents() -> None:
    """Events for two devices are two documents: the call fires when the second was accepted."""
    rig = Rig()
    rig.connector.hold = True
    call = rig.publish([Event("t", 1), Event("t", 2, "child"), Event("t", 3)])
    alone = rig.publish(Event("t", 4, "child"))
    rig.end_turn()
    first, second = rig.connector.waiting
    first.callback(1)
    assert not has_fired(call)
    assert not has_fired(alone)
    second.callback(2)
    assert result_of(call) is None
    assert result_of(alone) is None


def test_a_refused_document_fails_the_calls_it_carries_and_no_other() -> None:
    """The failure of one uplink reaches exactly the calls with a datapoint in it, each once all
    its documents have an answer."""
    rig = Rig()
    rig.connector.hold = True
    both = rig.publish([Event("t", 1), Event("t", 2, "child")])
    host, child = rig.publish(Event("t", 3)), rig.publish(Event("t", 4, "child"))
    rig.end_turn()
    to_host, to_child = rig.connector.waiting
    to_child.errback(OutboxFull("no room"))
    assert not has_fired(both)
    to_host.callback(1)
    assert result_of(host) is None
    for refused in (both, child):
        with pytest.raises(OutboxFull, match="no room"):
            result_of(refused)
    assert rig.counters.counts["events_refused"] == 2


def test_a_connector_that_raises_fails_the_call() -> None:
    """A broken connector leaves nobody waiting for ever."""
    rig = Rig()
    rig.connector.payloads = None  # type: ignore[assignment]
    published = rig.publish(Event("t", 1))
    rig.end_turn()
    with pytest.raises(AttributeError):
        result_of(published)


def test_a_missing_time_is_filled_at_publication() -> None:
    """``at`` is the wall clock's time of the call; a given one, 0 included, is kept."""
    rig = Rig()
    rig.publish(Event("t", 1))
    rig.publish([Event("t", 2), Event("t", 3, at_ms=0)])
    rig.end_turn()
    (document,) = rig.connector.documents()
    times = [point["at"] for point in document["datastreams"][0]["datapoints"]]
    assert times == [NOW_MS, NOW_MS, 0]


BAD = [
    Event("", 1),
    Event(7, 1),  # type: ignore[arg-type]
    Event("t", float("nan")),
    Event("t", {"deep": [1, float("inf")]}),
    Event("t", 2**80),
    Event("t", b"bytes"),
    Event("t", object()),
    Event("t", "\ud800"),
    Event("\ud800", 1),
    Event("t", 1, None),  # type: ignore[arg-type]
    Event(None, 1, None, path=None),  # type: ignore[arg-type]
    Event("t", 1, at_ms=1.5),  # type: ignore[arg-type]
    Event("t", 1, at_ms=True),
    Event("t", 1, at_ms=2**63),
    Event("t", 1, from_ms="now"),  # type: ignore[arg-type]
    Event("t", 1, feed=3),  # type: ignore[arg-type]
    Event("t", 1, path=["gw"]),  # type: ignore[arg-type]
    Event("t", 1, path=(1,)),  # type: ignore[arg-type]
    {"datastream_id": "t", "value": 1},
]


@pytest.mark.parametrize("host_id", ["dev-1", None])
@pytest.mark.parametrize("bad", BAD, ids=lambda event: repr(event).partition(" at 0x")[0])
def test_a_bad_event_rejects_the_whole_call_at_once(bad: Any, host_id: str | None) -> None:
    """The call fails with EventRejected before the turn ends, names the datastream, is counted,
    and nothing of it is sent; alone, in a list, and while the device id is unknown."""
    rig = Rig(host_id=host_id)
    good = Event("t", 1)
    calls = [[good, bad, good], [bad, good], [bad]] + ([bad] if isinstance(bad, Event) else [])
    for events in calls:
        with pytest.raises(EventRejected) as caught:
            result_of(rig.publish(events))
        if isinstance(bad, Event) and isinstance(bad.datastream_id, str):
            assert caught.value.datastream_id == bad.datastream_id
    assert rig.counters.counts["events_rejected"] == sum(
        len(events) if isinstance(events, list) else 1 for events in calls
    )
    rig.dispatcher.set_host_id("dev-1")
    rig.end_turn()
    assert rig.connector.payloads == []


def test_a_path_is_checked_also_where_its_place_is_known() -> None:
    """A list as path is refused even after an equal event was accepted."""
    rig = Rig()
    rig.publish(Event("t", 1))
    with pytest.raises(EventRejected, match="path"):
        result_of(rig.publish(Event("t", 1, path=[])))  # type: ignore[arg-type]


def test_no_events_are_accepted_at_once() -> None:
    """An empty list is nothing to wait for."""
    rig = Rig()
    assert result_of(rig.publish([])) is None
    assert rig.clock.getDelayedCalls() == []


@pytest.mark.parametrize("schedules", [[], [Schedule(datastream_id="x", first_s=1, period_s=1)]])
def test_events_may_come_from_any_iterable(schedules: list[Schedule]) -> None:
    """A generator of events is taken whole, with and without collected datastreams."""
    rig = Rig(schedules=schedules)
    rig.publish(Event("t", number) for number in range(3))  # type: ignore[arg-type]
    rig.end_turn()
    assert rig.connector.values() == [0, 1, 2]


def test_one_datapoint_too_large_fails_only_its_own_call() -> None:
    """A datapoint that fits in no message fails its call with EventRejected naming it, and is
    counted; the others of the turn go out."""
    rig = Rig(max_message_bytes=300)
    small = [rig.publish(Event("t", number)) for number in range(10)]
    large = rig.publish(Event("huge", "x" * 300))
    rig.end_turn()
    with pytest.raises(EventRejected, match=r"'huge'.*300"):
        result_of(large)
    assert [result_of(call) for call in small] == [None] * 10
    assert rig.connector.values() == list(range(10))
    assert all(len(payload) <= 300 for payload in rig.connector.payloads)
    assert rig.counters.counts["events_rejected"] == 1


@settings(max_examples=60)
@given(
    st.lists(st.one_of(strategies.events, st.lists(strategies.events, max_size=8)), max_size=20),
    st.sampled_from([90, 200, 10_000]),
)
def test_every_call_is_answered_and_order_is_kept(calls: list[Any], most: int) -> None:
    """Whatever is published: every Deferred fires, and the accepted calls' events of one place go
    up in the order published."""
    rig = Rig(max_message_bytes=most)
    answers = [rig.publish(call) for call in calls]
    rig.end_turn()
    expected: dict[Any, list[Any]] = {}
    whole = True
    for call, answer in zip(calls, answers, strict=True):
        try:
            result_of(answer)
        except EventRejected:
            whole = False
            continue
        for event in call if isinstance(call, list) else [call]:
            host = event.device_id in ("", "dev-1")
            path = event.path
            if not host and "dev-1" not in path:
                path = ("dev-1", *path)
            place = ("dev-1" if host else event.device_id, path, event.datastream_id, event.feed)
            expected.setdefault(place, []).append((event.at_ms, event.value))
    sent: dict[Any, list[Any]] = {}
    for document in rig.connector.documents():
        for stream in document["datastreams"]:
            place = (
                document["device"],
                tuple(document.get("path", ())),
                stream["id"],
                stream.get("feed"),
            )
            sent.setdefault(place, []).extend(
                (point["at"], point["value"]) for point in stream["datapoints"]
            )
    if whole:
        assert sent == expected
    else:  # other events of a rejected call may be on their way
        for place, points in expected.items():
            rest = iter(sent[place])
            assert all(point in rest for point in points)


def test_many_events_of_one_turn_do_not_wait_for_its_end() -> None:
    """At the bound what was gathered goes out, in documents of at most 500 datapoints."""
    rig = Rig()
    for number in range(module.MAX_GATHERED - 1):
        rig.publish(Event("t", number))
    assert rig.connector.payloads == []
    rig.publish(Event("t", module.MAX_GATHERED - 1))
    assert rig.connector.values() == list(range(module.MAX_GATHERED))
    assert set(rig.connector.sizes) == {500}
    assert rig.clock.getDelayedCalls() == []


def test_publishing_from_a_callback_keeps_the_order() -> None:
    """Whoever publishes thousands more as soon as something is accepted does not overtake what
    was published before."""
    rig = Rig()
    more = [Event("t", 1_000_000 + number) for number in range(module.MAX_GATHERED + 1)]
    answers: list[Deferred[None]] = []

    def publish_more(_: None) -> None:
        answers.append(rig.publish(more))

    rig.publish(Event("t", 0)).addCallback(publish_more)
    for number in range(1, 1000):
        rig.publish(Event("t", number))
    rig.end_turn()
    rig.end_turn()
    assert rig.connector.values() == [*range(1000), *(event.value for event in more)]
    assert result_of(answers[0]) is None


def test_the_reduced_form_goes_along_while_fresh() -> None:
    """With reducedOutput the complete form is what is kept, the reduced one what goes out fresh."""
    rig = Rig(reduced=True)
    rig.publish(Event("t", 5, at_ms=9))
    rig.end_turn()
    (document,) = rig.connector.documents()
    assert document["datastreams"][0]["datapoints"] == [{"at": 9, "value": 5}]
    fresh = rig.connector.fresh[0]
    assert fresh is not None
    assert JsonCodec().decode(fresh) == {
        "version": "9.0",
        "datastreams": [{"id": "t", "datapoints": [{"value": 5}]}],
    }


def test_the_output_changes_between_turns() -> None:
    """A new codec, form and size hold for what is published later; what was gathered goes out in
    the old format."""
    rig = Rig()
    rig.publish(Event("t", 1))
    rig.dispatcher.set_output(CborCodec(), True, 1000)
    rig.publish(Event("t", 2))
    rig.end_turn()
    assert rig.connector.content_types == [ContentType.JSON, ContentType.CBOR]
    assert rig.connector.fresh[0] is None
    assert rig.connector.fresh[1] is not None
    assert CborCodec().decode(rig.connector.payloads[1])["datastreams"][0]["id"] == "t"


@implementer(ICodec)
class BrokenCodec:
    """Fails for one value with an error that no codec should raise, and for the reduced form."""

    content_type = ContentType.JSON

    def encode(self, message: object) -> bytes:
        payload = JsonCodec().encode(message)
        if b"13" in payload or b"device" not in payload:
            raise ZeroDivisionError("a defect")
        return payload

    def decode(self, payload: bytes) -> Any:
        return JsonCodec().decode(payload)


def test_a_defect_of_the_codec_hurts_only_the_value_it_happens_with() -> None:
    """An unexpected exception in encode rejects the event at fault, and nobody waits for ever."""
    rig = Rig(codec=BrokenCodec())
    verifyObject(ICodec, BrokenCodec())
    calls = {value: rig.publish(Event("t", value, at_ms=1)) for value in (11, 12, 13, 14)}
    rig.end_turn()
    with pytest.raises(EventRejected, match="ZeroDivisionError"):
        result_of(calls[13])
    assert rig.connector.values() == [11, 12, 14]
    rig.dispatcher.set_output(BrokenCodec(), True, 1000)
    alone = rig.publish(Event("t", 15, at_ms=1))
    rig.end_turn()
    assert result_of(alone) is None
    assert rig.connector.fresh[-1] is None
    assert all(result_of(calls[value]) is None for value in (11, 12, 14))


# -- the device id ---------------------------------------------------------------------------


def test_events_wait_for_the_device_id() -> None:
    """Before the device id is known nothing is lost and nothing is sent; the times are those of
    the publication."""
    rig = Rig(host_id=None)
    call = rig.publish([Event("t", 1), Event("t", 2, "dev-9")])
    single = rig.publish(Event("t", 3))
    rig.end_turn()
    assert rig.connector.payloads == []
    rig.dispatcher.set_host_id("dev-9")
    rig.end_turn()
    (document,) = rig.connector.documents()
    assert document["device"] == "dev-9"
    assert rig.connector.values() == [1, 2, 3]
    assert result_of(call) is None
    assert result_of(single) is None


def test_only_so_many_events_wait_for_the_device_id() -> None:
    """The bound refuses the call that would exceed it, as a whole; the others are kept."""
    rig = Rig(host_id=None)
    rig.publish([Event("t", 1)] * (module.MAX_WAITING - 1))
    with pytest.raises(OutboxFull):
        result_of(rig.publish([Event("t", 2), Event("t", 3)]))
    rig.publish(Event("t", 4))
    rig.dispatcher.set_host_id("dev-1")
    rig.end_turn()
    assert rig.connector.values() == [1] * (module.MAX_WAITING - 1) + [4]


def test_a_new_device_id_holds_for_later_events() -> None:
    """What was gathered goes out under the id it was published under."""
    rig = Rig()
    rig.publish(Event("t", 1))
    rig.dispatcher.set_host_id("dev-2")
    rig.publish(Event("t", 2))
    rig.end_turn()
    assert [document["device"] for document in rig.connector.documents()] == ["dev-1", "dev-2"]


# -- collected publication -------------------------------------------------------------------


def line(name: str, device: str = "", first: float = 10, period: float = 10) -> Schedule:
    return Schedule(datastream_id=name, device_pattern=device, first_s=first, period_s=period)


def test_a_line_collects_its_events() -> None:
    """Events of a datastream with a line go out together at its times, in order; a held event's
    Deferred fires only then; others go at once."""
    rig = Rig(schedules=[line("t", first=5, period=10)])
    held = [rig.publish(Event("t", 1)), rig.publish([Event("t", 2), Event("u", 3)])]
    other = rig.publish(Event("u", 4))
    rig.end_turn()
    assert rig.connector.values() == [3, 4]
    assert result_of(other) is None
    rig.clock.advance(4.9)
    assert not any(has_fired(call) for call in held)
    rig.clock.advance(0.1)
    rig.end_turn()
    assert rig.connector.values() == [3, 4, 1, 2]
    assert [result_of(call) for call in held] == [None, None]
    rig.publish(Event("t", 5))
    rig.clock.advance(9.9)
    assert rig.connector.values() == [3, 4, 1, 2]
    rig.clock.advance(0.1)
    rig.end_turn()
    assert rig.connector.values()[-1] == 5


def test_what_is_asked_for_does_not_wait_for_its_line() -> None:
    """publish_now() sends with its turn what a line collects, in the order given; what is held of
    it already, and what comes by publish(), stays with the line."""
    rig = Rig(schedules=[line("t", "*", 10)])
    held = rig.publish(Event("t", 1))
    single = rig.dispatcher.publish_now(Event("t", 2))
    several = rig.dispatcher.publish_now([Event("t", 3, "child"), Event("u", 4)])
    rig.publish(Event("t", 5))
    rig.end_turn()
    assert sorted(rig.connector.values()) == [2, 3, 4]
    assert [result_of(call) for call in (single, several)] == [None, None]
    assert not has_fired(held)
    rig.clock.advance(10)
    rig.end_turn()
    assert sorted(rig.connector.values()) == [1, 2, 3, 4, 5]
    with pytest.raises(EventRejected):
        result_of(rig.dispatcher.publish_now(Event("t", float("nan"))))


def test_what_is_asked_for_before_the_device_id_is_known() -> None:
    """It waits for the id, and not for its line as well."""
    rig = Rig(host_id=None, schedules=[line("t")])
    call = rig.dispatcher.publish_now(Event("t", 1))
    held = rig.publish(Event("t", 2))
    rig.end_turn()
    assert rig.connector.payloads == []
    rig.dispatcher.set_host_id("dev-9")
    rig.end_turn()
    assert rig.connector.values() == [1]
    assert result_of(call) is None
    assert not has_fired(held)


def test_a_line_is_for_its_device_only() -> None:
    """A line without a device is the host's, under both its names; one with ``*`` is for every
    device that matches; an exact one goes first."""
    rig = Rig(schedules=[line("t"), line("t", "c*", 20), line("t", "c1", 30)])
    rig.publish(
        [
            Event("t", "host"),
            Event("t", "host too", "dev-1"),
            Event("t", "c1", "c1"),
            Event("t", "c2", "c2"),
            Event("t", "x", "x"),
        ]
    )
    rig.end_turn()
    assert rig.connector.values() == ["x"]
    for seconds, expected in ((10, ["host", "host too"]), (10, ["c2"]), (10, ["c1"])):
        before = len(rig.connector.values())
        rig.clock.advance(seconds)
        rig.end_turn()
        assert rig.connector.values()[before:] == expected


def test_a_line_with_period_0_collects_once() -> None:
    """After its time, its events are published as they come; none is held for ever."""
    rig = Rig(schedules=[line("t", first=3, period=0)])
    rig.publish(Event("t", 1))
    rig.clock.advance(3)
    rig.end_turn()
    assert rig.connector.values() == [1]
    rig.publish(Event("t", 2))
    rig.end_turn()
    assert rig.connector.values() == [1, 2]
    rig.dispatcher.set_schedules([line("t", first=3, period=0), line("u")])
    rig.publish(Event("t", 3))
    rig.end_turn()
    assert rig.connector.values() == [1, 2, 3]


def test_lines_change_as_a_difference() -> None:
    """A line that stays keeps its rhythm and what it holds; what a removed line held goes out."""
    stays, goes = line("stays"), line("goes")
    rig = Rig(schedules=[stays, goes])
    rig.publish([Event("stays", 1), Event("goes", 2)])
    rig.clock.advance(6)
    rig.dispatcher.set_schedules([stays, line("new")])
    rig.publish([Event("new", 3), Event("goes", 4)])
    rig.end_turn()
    assert rig.connector.values() == [2, 4]
    rig.clock.advance(4)
    rig.end_turn()
    assert rig.connector.values() == [2, 4, 1]
    rig.clock.advance(6)
    rig.end_turn()
    assert rig.connector.values() == [2, 4, 1, 3]
    rig.dispatcher.set_schedules([])
    rig.publish(Event("stays", 5))
    rig.end_turn()
    assert rig.connector.values()[-1] == 5
    assert rig.clock.getDelayedCalls() == []


def test_a_full_line_goes_out_early() -> None:
    """So many held events are published before their time, and that is counted: none is lost."""
    rig = Rig(schedules=[line("t", first=10**6)])
    rig.publish([Event("t", number) for number in range(MAX_HELD + 1)])
    rig.end_turn()
    assert rig.connector.values() == list(range(MAX_HELD))
    assert rig.counters.counts["collected_early"] == 1


# -- the end ------------------------------------------------------------------------------------


def test_stopping_publishes_what_is_held_and_gathered() -> None:
    """Nothing is lost by stopping; the Deferred of stop waits for the connector, no delayed call is
    left, and later events are refused."""
    rig = Rig(schedules=[line("t")])
    rig.connector.hold = True
    calls = [rig.publish(Event("t", 1)), rig.publish(Event("u", 2))]
    stopped = rig.dispatcher.stop()
    assert rig.clock.getDelayedCalls() == []
    assert sorted(rig.connector.values()) == [1, 2]
    assert not has_fired(stopped)
    for answer in rig.connector.waiting:
        answer.callback(1)
    assert result_of(stopped) is None
    assert [result_of(call) for call in calls] == [None, None]
    for late in (Event("u", 3), [Event("u", 4), Event("u", 5)]):
        with pytest.raises(OutboxClosed):
            result_of(rig.publish(late))
    assert rig.clock.getDelayedCalls() == []


def test_stopping_survives_a_refusal() -> None:
    """The Deferred of stop fires also when the connector refuses what is left."""
    rig = Rig()
    rig.connector.hold = True
    call = rig.publish(Event("t", 1))
    stopped = rig.dispatcher.stop()
    rig.connector.waiting[0].errback(OutboxClosed("closed"))
    assert result_of(stopped) is None
    with pytest.raises(OutboxClosed):
        result_of(call)


def test_stopping_without_a_device_id_says_so() -> None:
    """Events that waited for a device id fail: they were never accepted."""
    rig = Rig(host_id=None)
    calls = [rig.publish(Event("t", 1)), rig.publish([Event("t", 2), Event("t", 3)])]
    assert result_of(rig.dispatcher.stop()) is None
    for call in calls:
        with pytest.raises(OutboxClosed, match="device id"):
            result_of(call)


def test_publishing_again_while_stopping_is_refused() -> None:
    """Whoever hears of an acceptance during stop can't leave a delayed call behind."""
    rig = Rig()
    answers: list[Deferred[None]] = []
    rig.publish(Event("t", 1)).addCallback(lambda _: answers.append(rig.publish(Event("t", 2))))
    rig.dispatcher.stop()
    with pytest.raises(OutboxClosed):
        result_of(answers[0])
    assert rig.clock.getDelayedCalls() == []
    assert rig.connector.values() == [1]


def test_a_value_changed_after_publishing_is_sent_as_it_was() -> None:
    """What was accepted belongs to the agent: a dict or list that its publisher changes afterwards
    is sent as it was, alone, in a list, nested, while held for a line and while the device id is
    unknown."""
    for options in (
        {},
        {"schedules": (line("t"),)},
        {"host_id": None},
        {"window_s": 5.0},
    ):
        rig = Rig(**options)
        first: dict[str, Any] = {"a": 1, "deep": [[1]]}
        second: list[Any] = [1, {"b": 2}]
        third = ([1], "x")
        events = [Event("t", second), Event("t", third)]
        published = [rig.publish(Event("t", first)), rig.publish(events)]
        first["a"] = 2
        first["deep"][0].append(float("nan"))
        second[1]["b"] = object()
        second.clear()
        third[0].append(2)
        events.clear()
        rig.dispatcher.set_host_id("dev-1")
        rig.clock.advance(10)
        assert rig.connector.values() == [{"a": 1, "deep": [[1]]}, [1, {"b": 2}], [[1], "x"]]
        assert [result_of(done) for done in published] == [None, None]


def test_a_list_changed_by_a_callback_is_taken_as_it_was() -> None:
    """Acceptance may come, and its callback change the list, before the rest of a long call is
    sent: all of the call is taken before anything is sent."""
    rig = Rig(schedules=(line("other"),))
    values = [[n] for n in range(module.MAX_GATHERED)]
    events = [Event("t", value) for value in values]

    def change(_: None) -> None:
        events.clear()
        for value in values:
            value.clear()

    rig.publish(Event("t", "before")).addCallback(change)
    done = rig.publish(events)
    rig.end_turn()
    assert rig.connector.values() == ["before", *([n] for n in range(module.MAX_GATHERED))]
    assert result_of(done) is None


def test_publishing_while_another_device_id_is_set() -> None:
    """Setting another device id sends what was gathered; an owner that hears of its acceptance and
    publishes again at once is not forgotten, and speaks for the new device."""
    rig = Rig()
    again: list[Deferred[None]] = []
    rig.publish(Event("t", 1)).addCallback(lambda _: again.append(rig.publish(Event("t", 2))))
    rig.dispatcher.set_host_id("dev-2")
    rig.end_turn()
    assert [document["device"] for document in rig.connector.documents()] == ["dev-1", "dev-2"]
    assert rig.connector.values() == [1, 2]
    assert result_of(again[0]) is None


def test_nothing_is_taken_after_the_end() -> None:
    """After stop() every publish is refused, also where nothing was waiting to be sent."""
    rig = Rig()
    result_of(rig.dispatcher.stop())
    for events in (Event("t", 1), [Event("t", 1), Event("t", 2)]):
        with pytest.raises(OutboxClosed):
            result_of(rig.publish(events))
    assert rig.clock.getDelayedCalls() == []


def test_a_callback_that_stops_the_agent_leaves_nothing_held() -> None:
    """A long call fills the gathering; its first acceptance stops the dispatcher. The rest of the
    call, held for a line, has an answer too."""
    rig = Rig(schedules=(line("held"),))
    stopped: list[Deferred[None]] = []
    rig.publish(Event("t", 0)).addCallback(lambda _: stopped.append(rig.dispatcher.stop()))
    done = rig.publish(
        [*(Event("t", n) for n in range(1, module.MAX_GATHERED)), Event("held", "last")]
    )
    rig.end_turn()
    assert result_of(stopped[0]) is None
    assert result_of(done) is None
    assert rig.connector.values() == [*range(module.MAX_GATHERED), "last"]
    assert rig.clock.getDelayedCalls() == []


def test_a_flush_from_a_callback_overtakes_nothing() -> None:
    """An owner that publishes again and flushes, while a long gathering is being sent, does not
    get ahead of the rest of it."""
    rig = Rig()

    def again(_: None) -> None:
        rig.publish(Event("t", 2000))
        rig.dispatcher.flush_all()

    rig.publish(Event("t", 0)).addCallback(again)
    rig.publish([Event("t", n) for n in range(1, 2000)])
    rig.end_turn()
    assert rig.connector.values() == list(range(2001))


def test_what_is_refused_without_a_device_id_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that find too many waiting for the device id, wait for it in vain, or come after the
    end are counted as refused, as those that the outbox refuses are."""
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    rig = Rig(host_id=None)
    rig.publish([Event("t", n) for n in range(3)]).addErrback(lambda _: None)
    rig.publish([Event("t", 4), Event("t", 5)]).addErrback(lambda _: None)
    assert rig.counters.counts["events_refused"] == 2
    rig.dispatcher.stop()
    assert rig.counters.counts["events_refused"] == 5
    rig.publish(Event("t", 6)).addErrback(lambda _: None)
    assert rig.counters.counts["events_refused"] == 6


class Unprintable:
    """An object that can't be shown."""

    def __repr__(self) -> str:
        raise SystemExit("not even shown")


@pytest.mark.parametrize(
    "time", [10**5000, -(2**63) - 1, 1.5, True, "soon", Unprintable()], ids=type
)
@pytest.mark.parametrize("member", ["at_ms", "from_ms"])
@pytest.mark.parametrize("options", [{}, {"host_id": None}], ids=str)
def test_a_time_that_is_none_is_refused_by_the_deferred(
    time: Any, member: str, options: dict[str, Any]
) -> None:
    """Whatever it is, alone or among others, ``publish`` raises nothing: one such reading must not
    end the reading of others."""
    rig = Rig(**options)
    event = Event("t", 1, **{member: time})
    for events in (event, [Event("u", 2), event]):
        refused: list[Any] = []
        rig.publish(events).addErrback(refused.append)
        assert isinstance(refused[0].value, EventRejected)
        assert f"{member} must be milliseconds" in str(refused[0].value)
