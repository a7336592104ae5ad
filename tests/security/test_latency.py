"""Whoever speaks for the platform sends what keeps the agent busy: while it is, no timer fires, no
pong is answered and no value is read.

Two probes. What a decoder and an operation do with one message is measured in processor time of
this thread, which other processes of the machine do not count to. What reads devices is measured on
a clock that the reading itself advances, from turn to turn of the reactor.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock
from zope.interface import implementer

from oda.codecs import default_registry
from oda.codecs.limits import ARRIVING
from oda.datastreams.reading import DatastreamAccess
from oda.datastreams.registry import DatastreamRegistry
from oda.errors import DecodeError
from oda.interfaces import IDatastreamGetter, IDatastreamSetter
from oda.model import ContentType, DatastreamValue, Reading
from oda.telemetry.realtime import RealtimeStateManager
from tests.operations.fakes import Bench
from tests.telemetry.fakes import FakeDispatcher, FakeWallClock

#: What SECURITY.md promises, in seconds.
BOUND_S = 0.1
JSON, PACKED, CBOR = ContentType.JSON, ContentType.MESSAGE_PACK, ContentType.CBOR
BYTES, ITEMS = ARRIVING.max_bytes, ARRIVING.max_items
#: More than is decoded, and as much as the connection carries.
LARGEST = 16 * 1024 * 1024


def in_json(parameters: bytes, name: bytes = b"GET_DEVICE_PARAMETERS") -> bytes:
    return (
        b'{"operation":{"request":{"id":"1","name":"'
        + name
        + b'","parameters":'
        + parameters
        + b"}}}"
    )


def in_binary(content_type: ContentType, parameters: bytes) -> bytes:
    """A request whose parameters are ``parameters``, as they are encoded."""
    codec = default_registry().codec(content_type)
    request = {"id": "1", "name": "GET_DEVICE_PARAMETERS", "parameters": None}
    whole: bytes = codec.encode({"operation": {"request": request}})
    return whole[:-1] + parameters


def many(size: int, *pieces: bytes) -> bytes:
    """``pieces`` again and again, as often as they go into so many bytes."""
    piece = b"".join(pieces)
    return piece * (size // len(piece))


def listed(size: int, piece: bytes) -> bytes:
    return b'{"variableList":[' + many(size, piece + b",") + b"0]}"


def text(size: int, piece: bytes) -> bytes:
    return b'{"variableList":["' + many(size, piece) + b'"]}'


#: What is decoded at most, and what is refused for its size, of every kind that costs time.
SIZES = {"decoded": BYTES - 1000, "too long": LARGEST - 1000}
JSON_ATTACKS: dict[str, Callable[[int], bytes]] = {
    "a text": lambda size: text(size, b"x"),
    "a text of escapes": lambda size: text(size, b"\\\\"),
    "a text of quotes": lambda size: text(size, b'\\"'),
    "a text of letters as escapes": lambda size: text(size, b"\\u0041"),
    "a text of halves of pairs": lambda size: text(size, b"\\ud800"),
    "a text of no Unicode": lambda size: text(size, b"\xff"),
    "a text of wide letters": lambda size: text(size, "\U0001f600".encode()),
    "a text of brackets": lambda size: text(size, b"[]"),
    "a text of opening brackets": lambda size: text(size, b"["),
    "texts with commas": lambda size: text(size, b',,","'),
    "opening brackets": lambda size: many(size, b"["),
    "empty lists": lambda size: listed(size, b"[]"),
    "numbers": lambda size: listed(size, b"1"),
    "numbers of many digits": lambda size: listed(size, b"1" * 4000),
    "fractions of many digits": lambda size: listed(size, b"1." + b"1" * 4000 + b"e-300"),
    "a number without end": lambda size: many(size, b"1"),
    "blanks": lambda size: many(size, b" ") + b"1",
    "as many numbers as are allowed": lambda size: listed(2 * ITEMS - 100, b"1"),
    "as many lists as are allowed": lambda size: listed(ITEMS - 100, b"[]"),
    "one variable again and again": lambda size: listed(ITEMS * 5, b'"q"'),
    "as many members as are allowed": lambda size: (
        b"{" + b",".join(b'"%d":1' % number for number in range(ITEMS // 2 - 20)) + b"}"
    ),
}
#: These stand in front of a word that JSON does not have, so that more is tried.
ODD_ATTACKS: dict[str, Callable[[int], bytes]] = {
    "empty lists": lambda size: listed(size, b"[]"),
    "empty maps": lambda size: listed(size, b"{}"),
    "texts of quotes": lambda size: listed(size, b'"\\""'),
    "texts with letters of the words": lambda size: listed(size, b'"NIu"'),
    "numbers": lambda size: listed(size, b"1"),
    "control characters": lambda size: text(size, b"\x01"),
    "line breaks": lambda size: listed(size, b"\n1"),
    "words": lambda size: listed(size, b"NaN"),
    "words with a sign": lambda size: listed(size, b"-Infinity"),
    "halves of pairs": lambda size: listed(size, b'"\\ud800"'),
    "no Unicode": lambda size: text(size, b"\xff"),
}
PACKED_ATTACKS: dict[str, bytes] = {
    "as many maps as are allowed": b"\xdd" + (ITEMS - 50).to_bytes(4) + b"\x80" * (ITEMS - 50),
    "too many maps": b"\xdd" + (LARGEST - 200).to_bytes(4) + b"\x80" * (LARGEST - 200),
    "too many maps, but few bytes": b"\xdd" + (BYTES - 200).to_bytes(4) + b"\x80" * (BYTES - 200),
    "bytes": b"\xc6" + (BYTES - 200).to_bytes(4) + b"\x80" * (BYTES - 200),
    "no Unicode": b"\xdb" + (BYTES - 200).to_bytes(4) + b"\xff" * (BYTES - 200),
}
CBOR_ATTACKS: dict[str, bytes] = {
    "as many maps as are allowed": b"\x9a" + (ITEMS - 50).to_bytes(4) + b"\xa0" * (ITEMS - 50),
    "too many maps": b"\x9a" + (LARGEST - 200).to_bytes(4) + b"\xa0" * (LARGEST - 200),
    "too many maps, but few bytes": b"\x9a" + (BYTES - 200).to_bytes(4) + b"\xa0" * (BYTES - 200),
    "texts in parts": b"\x9f" + (b"\x7f" + b"\x61x" * (ITEMS - 50) + b"\xff") * 30 + b"\xff",
    "large integers": b"\x9a"
    + (ITEMS // 2).to_bytes(4)
    + (b"\xc2\x58\x20" + b"\xff" * 32) * (ITEMS // 2),
    "no Unicode": b"\x7a" + (BYTES - 200).to_bytes(4) + b"\xff" * (BYTES - 200),
}


def held_s(call: Callable[[], object]) -> float:
    """The processor time of ``call``; the least of three, as the others were disturbed."""
    taken = []
    for _ in range(3):
        began = time.thread_time()
        call()
        taken.append(time.thread_time() - began)
        if taken[-1] < BOUND_S:
            break
    return min(taken)


def handle(payload: bytes, content_type: ContentType) -> None:
    """What the agent does with a message before the reactor gets its turn again."""
    bench = Bench(codecs=default_registry(ARRIVING))
    took_s = held_s(lambda: bench.send_bytes(payload, content_type))
    assert took_s < BOUND_S


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("attack", JSON_ATTACKS)
def test_a_json_message_holds_the_reactor(attack: str, size: str) -> None:
    """No JSON message of up to 16 MiB holds the reactor for 0.1 s."""
    handle(in_json(JSON_ATTACKS[attack](SIZES[size])), JSON)


@pytest.mark.parametrize("size", [BYTES // 2, 2 * BYTES - 200, LARGEST - 200])
@pytest.mark.parametrize("attack", ODD_ATTACKS)
def test_an_odd_json_message_holds_the_reactor(attack: str, size: int) -> None:
    """Nor does one that can be read only when what JSON does not have is written over."""
    odd = b'{"a":' + ODD_ATTACKS[attack](size) + b',"b":NaN}'
    handle(in_json(odd), JSON)


@pytest.mark.parametrize("size", SIZES)
def test_a_request_of_many_members_holds_the_reactor(size: str) -> None:
    """What stands beside the members of a request that count is passed over, not collected."""
    beside = ",".join(f'"{number:x}":1' for number in range(SIZES[size] // 11))
    request = f'{{"id":"7","name":"X",{beside}}}'
    handle(f'{{"operation":{{"request":{request}}}}}'.encode(), JSON)


@pytest.mark.parametrize("attack", PACKED_ATTACKS)
def test_a_messagepack_message_holds_the_reactor(attack: str) -> None:
    """No MessagePack message of up to 16 MiB holds the reactor for 0.1 s."""
    handle(in_binary(PACKED, PACKED_ATTACKS[attack]), PACKED)


@pytest.mark.parametrize("attack", CBOR_ATTACKS)
def test_a_cbor_message_holds_the_reactor(attack: str) -> None:
    """No CBOR message of up to 16 MiB holds the reactor for 0.1 s."""
    handle(in_binary(CBOR, CBOR_ATTACKS[attack]), CBOR)


@pytest.mark.parametrize("content_type", list(ContentType), ids=lambda c: c.name)
def test_a_request_that_is_too_long_is_answered(content_type: ContentType) -> None:
    """A request of more than 4 MiB is ERROR_IN_PARAM, with its id."""
    bench = Bench(codecs=default_registry(ARRIVING))
    message = {"operation": {"request": {"id": "7", "name": "X", "parameters": "x" * BYTES}}}
    payload = default_registry().codec(content_type).encode(message)
    (answer,) = bench.send_bytes(payload, content_type)
    assert answer is not None
    response = bench.decoded(answer, content_type)["operation"]["response"]
    assert (response["id"], response["resultCode"]) == ("7", "ERROR_IN_PARAM")
    assert f"more than the {BYTES} allowed" in response["resultDescription"]
    with pytest.raises(DecodeError):
        default_registry(ARRIVING).codec(content_type).decode(payload)


class TurnClock(Clock):
    """A reactor whose turns are taken one by one."""

    def turn(self) -> float:
        """Call what is due, but nothing that is asked for meanwhile; says how long it took."""
        due, self.calls = [call for call in self.calls if call.time <= self.rightNow], []
        began_s = self.rightNow
        for call in due:
            call.called = 1
            call.func(*call.args, **call.kw)
        return self.rightNow - began_s


@implementer(IDatastreamGetter)
class SlowGetter:
    """Reading it takes a millisecond of the reactor's."""

    def __init__(self, number: int, clock: Clock, devices: tuple[str, ...] = ("",)) -> None:
        self.datastream_id = f"d{number:04}"
        self._clock = clock
        self._devices = devices

    def devices(self) -> tuple[str, ...]:
        return self._devices

    def get(self, device_id: str) -> Reading:
        self._clock.rightNow += 0.001
        return Reading(1)


@pytest.mark.parametrize("names", [[f"d{number:04}" for number in range(1000)], None])
def test_reading_everything_holds_the_reactor(names: list[str] | None) -> None:
    """However much an operation reads, the reactor gets its turn every few milliseconds, and the
    answer has every value in its order."""
    clock = TurnClock()
    registry = DatastreamRegistry("dev")
    for number in range(1000):
        registry.add_getter(SlowGetter(number, clock))
    access = DatastreamAccess(registry, FakeWallClock(), clock)
    manager = RealtimeStateManager(access, FakeDispatcher(), clock)
    answers: list[list[DatastreamValue]] = []
    began_s = clock.seconds()
    manager.get("", names).addCallback(answers.append)
    longest_s = clock.seconds() - began_s
    turns = 0
    while not answers:
        longest_s = max(longest_s, clock.turn())
        turns += 1
    assert longest_s < 0.02
    assert turns > 50
    assert [value.datastream_id for value in answers[0]] == [f"d{n:04}" for n in range(1000)]


@implementer(IDatastreamSetter)
class SlowSetter:
    """Writing it takes a millisecond of the reactor's."""

    datastream_id = "d"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.written: list[Any] = []

    def devices(self) -> tuple[str, ...]:
        return ("",)

    def set(self, device_id: str, value: Any) -> None:
        self._clock.rightNow += 0.001
        self.written.append(value)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_writing_everything_holds_the_reactor(is_cancelled: bool) -> None:
    """However much an operation writes, the reactor gets its turn every few milliseconds; what was
    not begun when the time limit ends it is not written."""
    clock = TurnClock()
    registry = DatastreamRegistry("dev")
    setter = SlowSetter(clock)
    registry.add_setter(setter)
    access = DatastreamAccess(registry, FakeWallClock(), clock)
    manager = RealtimeStateManager(access, FakeDispatcher(), clock)
    outcomes: list[list[DatastreamValue]] = []
    writing = manager.set("", [("d", number) for number in range(1000)])
    writing.addCallback(outcomes.append)
    if is_cancelled:
        writing.cancel()
    while not outcomes:
        assert clock.turn() < 0.02
    assert len(outcomes[0]) == 1000
    assert setter.written == list(range(len(setter.written)))
    assert (len(setter.written) < 20) if is_cancelled else (len(setter.written) == 1000)
    assert clock.getDelayedCalls() == []


def test_reading_that_is_cancelled_stops() -> None:
    """The time limit of an operation ends its reading, too: nothing goes on behind its answer."""
    clock = Clock()
    registry = DatastreamRegistry("dev")
    for number in range(1000):
        registry.add_getter(SlowGetter(number, clock))
    access = DatastreamAccess(registry, FakeWallClock(), clock)
    manager = RealtimeStateManager(access, FakeDispatcher(), clock)
    reading = manager.get("", [f"d{number:04}" for number in range(1000)])
    reading.addErrback(lambda failure: None)
    reading.cancel()
    assert clock.getDelayedCalls() == []


def test_the_answer_to_a_thousand_variables_holds_the_reactor() -> None:
    """The largest request that is served is served within the bound."""
    bench = Bench(codecs=default_registry(ARRIVING))
    names = [f"no.such.{number:04}" for number in range(1000)]
    payload = in_json(json.dumps({"variableList": names}).encode())
    answers: list[Any] = []
    assert held_s(lambda: answers.append(bench.send_bytes(payload, JSON))) < BOUND_S
