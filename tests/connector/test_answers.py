"""How an answer gets from the dispatcher into the outbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from oda.codecs import default_registry
from oda.connector.service import ConnectorService
from oda.errors import MessageTooLarge
from oda.model import Answer, ContentType, MessageClass, OutgoingMessage
from oda.settings import ConnectorSettings, OutboxSettings
from tests.operations.fake_outbox import FakeOutbox
from tests.wire.fakes import FakeCounters, FakeDeviceInfo, FakeDispatcher

LIMIT = 1024


class Case:
    """A connector without a network, before a dispatcher that gives ``answer``."""

    def __init__(
        self,
        answer: Any = None,
        shorten: Callable[[bytes, str], bytes | None] = lambda _payload, _reason: b'{"short":1}',
        max_outbox_payload: int | None = None,
    ) -> None:
        self.outbox = FakeOutbox()
        self.outbox.max_payload = max_outbox_payload
        self.counters = FakeCounters()
        self.service = ConnectorService(
            ConnectorSettings(host="192.0.2.1", port=9955, path="/", max_message_size_bytes=LIMIT),
            OutboxSettings(),
            self.outbox,
            FakeDeviceInfo(),
            FakeDispatcher(lambda payload: answer),
            default_registry(),
            self.counters,
            Clock(),
            lambda: 0.5,
            bytes,
            shorten,
        )

    def receive(self) -> list[OutgoingMessage]:
        """Let a request arrive; what is in the outbox then."""
        self.service._message_received(b"{}", True)
        return [row.message for row in self.outbox.rows]


def response(payload: bytes, record: int | None = None, waits: bool = False) -> OutgoingMessage:
    """The answer as the outbox has to get it."""
    return OutgoingMessage(
        payload, MessageClass.RESPONSE, False, record=record, waits_for_commit=waits
    )


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b'{"a":1}', response(b'{"a":1}')),
        (Answer(b'{"a":1}'), response(b'{"a":1}')),
        (Answer(b'{"a":1}', 17, True), response(b'{"a":1}', 17, True)),
    ],
    ids=["bytes", "no record", "record"],
)
def test_an_answer_keeps_its_record(answer: bytes | Answer, message: OutgoingMessage) -> None:
    """From a foreign dispatcher's bytes or from an ``Answer``, now or later."""
    assert Case(answer).receive() == [message]
    later: Deferred[bytes | Answer] = Deferred()
    case = Case(later)
    assert case.receive() == []
    later.callback(answer)
    assert [row.message for row in case.outbox.rows] == [message]
    case = Case()
    case.service.uplink_response(answer, ContentType.JSON)
    assert [row.message for row in case.outbox.rows] == [message]


@pytest.mark.parametrize("kind", [bytes, lambda payload: Answer(payload, 17, True)])
def test_an_answer_that_is_too_large_is_replaced(kind: Callable[[bytes], Any]) -> None:
    """The request gets an error answer, which ends the record in its place."""
    answer = kind(b"x" * (LIMIT + 1))
    (message,) = Case(answer).receive()
    assert message.payload == b'{"short":1}'
    assert (message.record, message.waits_for_commit) == (
        (17, True) if isinstance(answer, Answer) else (None, False)
    )
    (exact,) = Case(kind(b"x" * LIMIT)).receive()
    assert exact.payload == b"x" * LIMIT


@pytest.mark.parametrize("shorter", [None, b"y" * (LIMIT + 1)])
def test_an_answer_that_nothing_can_replace_is_counted(shorter: bytes | None) -> None:
    """A foreign dispatcher's bytes may be anything: then the loss is told."""
    case = Case(b"x" * (LIMIT + 1), lambda _payload, _reason: shorter)
    assert case.receive() == []
    assert case.counters.total("answers_lost") == 1


@pytest.mark.parametrize("kind", [bytes, lambda payload: Answer(payload, 17, True)])
def test_an_answer_that_the_outbox_has_no_room_for_is_replaced(
    kind: Callable[[bytes], Any],
) -> None:
    """The request gets an error that says so. It ends no record: the refused answer did."""
    reasons: list[str] = []

    def shorten(payload: bytes, reason: str) -> bytes:
        reasons.append(reason)
        return b'{"short":1}'

    answer = kind(b"x" * 500)
    case = Case(answer, shorten, max_outbox_payload=100)
    (message,) = case.receive()
    assert message.payload == b'{"short":1}'
    assert (message.record, message.waits_for_commit) == (None, isinstance(answer, Answer))
    assert reasons == ["the answer can't be kept: no room"]
    assert case.counters.total("answers_lost") == 0


@pytest.mark.parametrize("shorter", [None, b"y" * 500, b"y" * 101])
def test_an_answer_that_finds_no_room_in_any_form_is_counted(shorter: bytes | None) -> None:
    """A platform that is not answered is told at least by the log and a counter."""
    case = Case(b"x" * 500, lambda _payload, _reason: shorter, max_outbox_payload=100)
    assert case.receive() == []
    assert case.counters.total("answers_lost") == 1


def test_a_partial_answer_that_is_too_large_is_refused() -> None:
    """Its sender hears of it; an error in its place would end the operation for the platform."""
    case = Case()
    refused = case.service.uplink_response(b"x" * (LIMIT + 1), ContentType.JSON)
    failures: list[Any] = []
    refused.addErrback(lambda failure: failures.append(failure.type))
    assert failures == [MessageTooLarge]
    assert case.outbox.rows == []


def test_an_interrupted_operations_answer_that_is_too_large_is_replaced() -> None:
    """Its record would stay open for ever."""
    case = Case()
    case.service.uplink_response(Answer(b"x" * (LIMIT + 1), 5, True), ContentType.JSON)
    (row,) = case.outbox.rows
    assert (row.message.payload, row.message.record) == (b'{"short":1}', 5)


def test_nothing_is_put_where_there_is_no_answer() -> None:
    """A repeated request that still runs has its answer on the way."""
    assert Case(succeed(None)).receive() == []
