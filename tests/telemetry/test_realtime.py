"""The realtime state manager: every value read or received is published."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from zope.interface.verify import verifyObject

from oda.errors import OutboxFull
from oda.interfaces import IStateManager
from oda.model import DatastreamValue, Event, ValueStatus
from oda.telemetry.realtime import RealtimeStateManager
from tests.telemetry.fakes import NOW_MS, FakeAccess, FakeDispatcher, has_fired, result_of


class Rig:
    def __init__(self, values: dict[tuple[str, str], Any] | None = None) -> None:
        self.access = FakeAccess(values)
        self.dispatcher = FakeDispatcher()
        self.manager = RealtimeStateManager(self.access, self.dispatcher, Clock())

    def published(self) -> list[tuple[str, str, Any, int | None]]:
        return [
            (event.device_id, event.datastream_id, event.value, event.at_ms)
            for event in self.dispatcher.events
        ]


def test_it_is_a_state_manager() -> None:
    """It keeps the contract of IStateManager."""
    verifyObject(IStateManager, Rig().manager)


def test_get_answers_in_order_and_publishes_what_it_read() -> None:
    """GET gives the values in the order asked for, NOT_FOUND and ERROR among them; those read are
    published with the same time as the answer."""
    rig = Rig({("", "a"): 1, ("", "b"): ValueError("cut"), ("", "c"): "x"})
    values = result_of(rig.manager.get("", ["c", "nobody", "b", "a"]))
    assert [(value.datastream_id, value.status, value.value) for value in values] == [
        ("c", ValueStatus.OK, "x"),
        ("nobody", ValueStatus.NOT_FOUND, None),
        ("b", ValueStatus.ERROR, None),
        ("a", ValueStatus.OK, 1),
    ]
    assert rig.published() == [("", "c", "x", NOW_MS), ("", "a", 1, NOW_MS)]
    assert values[0].at_ms == NOW_MS


def test_refresh_reads_and_publishes_everything() -> None:
    """REFRESH asks for all datastreams of the device and publishes what it read."""
    rig = Rig({("", "a"): 1, ("d", "b"): 2, ("d", "c"): 3})
    values = result_of(rig.manager.get("d", None))
    assert [value.datastream_id for value in values] == ["b", "c"]
    assert rig.published() == [("d", "b", 2, NOW_MS), ("d", "c", 3, NOW_MS)]


def test_a_poll_is_published() -> None:
    """read() asks the source, publishes, and gives the values."""
    rig = Rig({("d1", "a"): 1, ("d2", "a"): 2})
    assert len(result_of(rig.manager.read("a", "d*"))) == 2
    assert rig.published() == [("d1", "a", 1, NOW_MS), ("d2", "a", 2, NOW_MS)]


def test_what_a_request_reads_is_published_now() -> None:
    """GET and REFRESH, of one device and of a pattern, do not leave what they read to the line that
    collects the datastream; a poll and a source do."""
    for pattern, names in (("", ["t"]), ("", ["t", "u"]), ("", None), ("*", ["t"]), ("*", None)):
        rig = Rig({("", "t"): 1, ("a", "t"): 2})
        result_of(rig.manager.read("t", "*"))
        result_of(rig.manager.received([Event("t", 3)]))
        assert rig.dispatcher.urgent == []
        values = result_of(rig.manager.get(pattern, names))
        read = [value.value for value in values if value.status is ValueStatus.OK]
        assert [event.value for event in rig.dispatcher.urgent] == read
        assert read == ([1, 2] if pattern else [1])


def test_a_null_is_answered_but_no_datapoint() -> None:
    """A datastream that reads as null is answered OK; there is no datapoint without a value."""
    rig = Rig({("", "a"): None})
    (value,) = result_of(rig.manager.get("", ["a"]))
    assert value.status is ValueStatus.OK
    assert rig.published() == []


def test_answers_do_not_wait_for_the_outbox_and_never_fail() -> None:
    """A publication that hangs or fails changes nothing for the reader; its beginning is logged
    once, and so is its end."""
    rig = Rig({("", "a"): 1})
    rig.dispatcher.answer = lambda event: Deferred()
    assert has_fired(rig.manager.get("", ["a"]))
    lines: list[Any] = []
    globalLogPublisher.addObserver(lines.append)
    try:
        rig.dispatcher.answer = lambda event: fail(OutboxFull("no room"))
        for _ in range(3):
            (value,) = result_of(rig.manager.read("a", ""))
            assert value.status is ValueStatus.OK
        assert [(event["log_level"], event["reason"]) for event in lines] == [
            (LogLevel.warn, "no room")
        ]
        lines.clear()
        rig.dispatcher.answer = lambda event: succeed(None)
        for _ in range(3):
            rig.manager.read("a", "")
        assert [event["log_level"] for event in lines] == [LogLevel.info]
    finally:
        globalLogPublisher.removeObserver(lines.append)


def test_received_is_published_and_its_fate_passed_on() -> None:
    """What arrives is published at once; the caller hears of the acceptance or the failure."""
    rig = Rig()
    waiting: Deferred[None] = Deferred()
    rig.dispatcher.answer = lambda event: waiting
    received = rig.manager.received([Event("t", 1), Event("t", 2)])
    assert not has_fired(received)
    waiting.errback(OutboxFull("no room"))
    with pytest.raises(OutboxFull):
        result_of(received)
    assert [event.value for event in rig.dispatcher.events] == [1, 2]


def test_nothing_is_ever_collected() -> None:
    """The realtime manager keeps nothing."""
    assert result_of(Rig().manager.collect("t", "*")) == 0


def test_writes_happen_in_order_one_after_the_other() -> None:
    """The second write begins when the first has ended; there is one outcome for each."""
    rig = Rig()
    slow: Deferred[DatastreamValue] = Deferred()
    rig.access.writes["b"] = slow
    setting = rig.manager.set("d", [("a", 1), ("b", 2), ("c", 3)])
    assert rig.access.written == [("d", "a", 1), ("d", "b", 2)]
    slow.callback(DatastreamValue("b", "d", ValueStatus.ERROR, error="stuck"))
    outcomes = result_of(setting)
    assert [(o.datastream_id, o.status) for o in outcomes] == [
        ("a", ValueStatus.OK),
        ("b", ValueStatus.ERROR),
        ("c", ValueStatus.OK),
    ]


def test_a_cancelled_set_writes_nothing_more() -> None:
    """Cancelling ends the write under way and begins no other; every write has an outcome."""
    rig = Rig()

    def cancelled(deferred: Deferred[DatastreamValue]) -> None:
        deferred.callback(DatastreamValue("a", "d", ValueStatus.ERROR, error="cancelled"))

    rig.access.writes["a"] = Deferred(cancelled)
    setting = rig.manager.set("d", [("a", 1), ("b", 2)])
    setting.cancel()
    outcomes = result_of(setting)
    assert [(o.datastream_id, o.status) for o in outcomes] == [
        ("a", ValueStatus.ERROR),
        ("b", ValueStatus.ERROR),
    ]
    assert rig.access.written == [("d", "a", 1)]


def test_a_long_list_of_writes_does_not_recurse() -> None:
    """Thousands of writes that end at once are no danger to the stack."""
    rig = Rig()
    outcomes = result_of(rig.manager.set("d", [("a", number) for number in range(5000)]))
    assert len(outcomes) == 5000
