"""A request is answered even if its codec can't decode it, whatever its members are."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oda.model import ContentType, OperationResult

from .fakes import Bench, FakeOperation, custom_operations

JSON, PACK, CBOR = ContentType.JSON, ContentType.MESSAGE_PACK, ContentType.CBOR


class Odd:
    """Something that a format can say and its codec refuses: a tag, an extension, a number that no
    float holds."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Odd({self.text[:20]!r})"


def raw_json(value: Any) -> str:
    """JSON that says ``value``, also where the agent's codec would refuse to write it."""
    if isinstance(value, Odd):
        return value.text
    if isinstance(value, dict):
        members = (f"{json.dumps(key)}:{raw_json(member)}" for key, member in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(raw_json, value)) + "]"
    if isinstance(value, float) and value - value != 0.0:
        return "1e400"
    return json.dumps(value)


def raw_pack(value: Any) -> bytes:
    """The same for MessagePack."""

    def packable(value: Any) -> Any:
        if isinstance(value, Odd):
            return msgpack.ExtType(5, value.text[:10].encode())
        if isinstance(value, dict):
            return {key: packable(member) for key, member in value.items()}
        if isinstance(value, list):
            return [packable(member) for member in value]
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            return msgpack.ExtType(6, b"large")
        return value

    packed: bytes = msgpack.packb(packable(value), unicode_errors="surrogatepass")
    return packed


def raw_cbor(value: Any) -> bytes:
    """The same for CBOR."""

    def head(major: int, count: int) -> bytes:
        return bytes([major << 5 | 26]) + count.to_bytes(4, "big")

    if isinstance(value, Odd):
        return b"\xd8\x4d" + head(3, 3) + b"odd"
    if isinstance(value, str):
        encoded = value.encode("utf-8", "surrogatepass")
        return head(3, len(encoded)) + encoded
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(raw_cbor, value))
    if isinstance(value, dict):
        items = (raw_cbor(key) + raw_cbor(member) for key, member in value.items())
        # The detection of the format knows short maps, as everybody writes them.
        return bytes([0xA0 | len(value)]) + b"".join(items)
    return cbor2.dumps(value)


def raw(value: Any, content_type: ContentType) -> bytes:
    """``value`` in that format."""
    if content_type is JSON:
        return raw_json(value).encode()
    return raw_pack(value) if content_type is PACK else raw_cbor(value)


def answered(bench: Bench, members: Any, content_type: ContentType) -> dict[str, Any]:
    """The ``operation.response`` to a request with these members."""
    message = raw({"operation": {"request": members}}, content_type)
    (payload,) = bench.send_bytes(message, content_type)
    response: dict[str, Any] = bench.decoded(payload, content_type)["operation"]["response"]
    return response


ODD = st.sampled_from([Odd("1e400"), Odd("-1E+999"), Odd("7" * 5000), Odd("1" + "0" * 400)])
TEXTS = st.text(st.characters(codec=None, exclude_categories=[]), max_size=6)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([2**256, 2**8192])
    | st.floats()
    | TEXTS
    | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
NAMES = ["REFRESH_INFO", "GET_DEVICE_PARAMETERS", "SET_DEVICE_PARAMETERS", "MY_CUSTOM", "NOBODY"]
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "id": TEXTS | VALUES,
        "name": st.sampled_from(NAMES) | VALUES,
        "deviceId": TEXTS | VALUES,
        "path": st.lists(TEXTS, max_size=3) | VALUES,
        "timestamp": VALUES,
        "parameters": VALUES,
        "extra": VALUES,
    },
)


def is_unicode(text: str) -> bool:
    """Whether every format can carry it."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


@settings(max_examples=400, deadline=None)
@given(members=REQUESTS, content_type=st.sampled_from(list(ContentType)), beside=VALUES)
def test_every_request_gets_exactly_one_answer_that_can_be_decoded(
    members: dict[str, Any], content_type: ContentType, beside: Any
) -> None:
    """Whatever the members of a request are, and what stands beside it in the message."""
    bench = Bench(*custom_operations())
    message = {"operation": {"request": members, "more": beside}, "other": beside}
    answers = bench.send_bytes(raw(message, content_type), content_type)
    assert len(answers) == 1
    response = bench.decoded(answers[0], content_type)["operation"]["response"]
    request_id = members.get("id")
    if isinstance(request_id, str) and is_unicode(request_id):
        assert response["id"] == request_id
    if type(request_id) is int and abs(request_id) < 2**63:
        assert response["id"] == str(request_id)
    assert response["resultCode"]
    assert response["deviceId"]
    assert not bench.clock.getDelayedCalls()


@pytest.mark.parametrize(
    ("content_type", "request_id", "echo", "problem"),
    [
        (JSON, Odd("1e400"), "1e400", "id: Number out of range"),
        (JSON, Odd("-1E400"), "-1E400", "id: Number out of range"),
        (JSON, Odd("7" * 5000), "7" * 1024, "id: Integer value out of range"),
        (PACK, float("inf"), "inf", "id: inf is not a finite number"),
        (CBOR, float("-inf"), "-inf", "id: -inf is not a finite number"),
        (CBOR, float("nan"), "nan", "id: nan is not a finite number"),
        (JSON, "a\ud800b", "a\ufffdb", "id: contains invalid Unicode"),
        (PACK, "a\ud800b", "a\ufffd\ufffd\ufffdb", "id: a text is not valid UTF-8"),
        (CBOR, "a\udfffb", "a\ufffd\ufffd\ufffdb", "id: "),
        (PACK, Odd(""), None, "id: extension types are not allowed"),
        (CBOR, Odd(""), None, "id: tag 77 is not allowed"),
        (JSON, True, None, "id: must be a text, not a boolean"),
        (CBOR, 2**200, str(2**200), "name: missing"),
    ],
    ids=repr,
)
def test_an_id_that_no_text_can_be_is_refused_and_echoed_as_far_as_possible(
    content_type: ContentType, request_id: Any, echo: str | None, problem: str
) -> None:
    """A number that no float holds is echoed as it is written; what is no Unicode as U+FFFD."""
    response = answered(Bench(), {"id": request_id}, content_type)
    assert response.get("id") == echo
    assert response["resultCode"] == "ERROR_IN_PARAM"
    assert response["resultDescription"].startswith(problem)


@pytest.mark.parametrize("content_type", list(ContentType), ids=lambda c: c.name)
@pytest.mark.parametrize("member", ["name", "deviceId", "path", "parameters"])
@pytest.mark.parametrize("value", ["\ud800", Odd("1e400")], ids=["surrogate", "odd"])
def test_the_member_that_can_not_be_read_is_named(
    content_type: ContentType, member: str, value: Any
) -> None:
    """Nothing is run, and the id is echoed."""
    operation = FakeOperation("X", lambda request, progress: OperationResult())
    bench = Bench(operation)
    members = {"id": "7", "name": "X", member: [value] if member == "path" else value}
    response = answered(bench, members, content_type)
    assert response["resultCode"] == "ERROR_IN_PARAM"
    named = member
    if member == "parameters" and content_type is JSON and value == "\ud800":
        named = "request"
    assert response["resultDescription"].startswith(f"{named}"), response
    assert response["id"] == "7"
    assert operation.requests == []


ODDITIES: list[tuple[ContentType, bytes]] = [
    *((JSON, text) for text in (b"NaN", b"-Infinity", b"[Infinity]", b"1e400", b'"\\ud800"')),
    (JSON, b'"a\x01b\n"'),
    (JSON, b'"\xff"'),
    (JSON, b'{"NaN":"Infinity \\" NaN","x":NaN}'),
    (CBOR, bytes.fromhex("c11a514b67b0")),  # a date
    (CBOR, bytes.fromhex("f7")),  # undefined
    (CBOR, bytes.fromhex("f97e00")),  # NaN
    (CBOR, bytes.fromhex("a10102")),  # a key that is no text
    (PACK, bytes.fromhex("d6ff514b67b0")),  # a timestamp
    (PACK, bytes.fromhex("810102")),  # a key that is no text
    (PACK, bytes.fromhex("cb7ff8000000000000")),  # NaN
]


def with_oddity(content_type: ContentType, oddity: bytes, place: str) -> bytes:
    """A request for X with ``oddity`` in a member of the message, the operation or the request."""
    mark = "oddity"
    request = {"id": "7", "name": "X", "parameters": {"a": [1, "NaN"]}}
    message: dict[str, Any] = {"operation": {"request": request}}
    {"message": message, "operation": message["operation"], "request": request}[place]["z"] = mark
    encoded = raw(message, content_type)
    return encoded.replace(raw(mark, content_type), oddity)


@pytest.mark.parametrize("place", ["message", "operation", "request"])
@pytest.mark.parametrize(("content_type", "oddity"), ODDITIES, ids=repr)
def test_an_oddity_where_nobody_looks_costs_nothing(
    content_type: ContentType, oddity: bytes, place: str
) -> None:
    """What a decoder refuses in a member that nobody needs: the operation is run, with its
    parameters as they are, and answered once."""
    operation = FakeOperation("X", lambda request, progress: OperationResult())
    bench = Bench(operation)
    (payload,) = bench.send_bytes(with_oddity(content_type, oddity, place), content_type)
    response = bench.decoded(payload, content_type)["operation"]["response"]
    assert (response["id"], response["resultCode"]) == ("7", "SUCCESSFUL")
    assert [dict(request.parameters) for request in operation.requests] == [{"a": [1, "NaN"]}]


@pytest.mark.parametrize("oddity", [b"NaN", b"-Infinity", b"[1,NaN]"])
def test_a_word_that_is_no_json_is_no_parameter(oddity: bytes) -> None:
    """Where it is needed nothing is run, and the request is answered."""
    operation = FakeOperation("X", lambda request, progress: OperationResult())
    bench = Bench(operation)
    message = b'{"operation":{"request":{"id":"7","name":"X","parameters":{"a":%s}}}}' % oddity
    (payload,) = bench.send_bytes(message, JSON)
    response = bench.decoded(payload, JSON)["operation"]["response"]
    assert (response["id"], response["resultCode"]) == ("7", "ERROR_IN_PARAM")
    assert response["resultDescription"].startswith("parameters: ")
    assert operation.requests == []


@pytest.mark.parametrize("text", [b"17NaN00", b"NaN1", b"NaNa", b"1.NaN", b"--Infinity"])
def test_such_a_word_within_another_makes_no_request(text: bytes) -> None:
    """The message is malformed then: nothing is answered, as with any other."""
    bench = Bench()
    message = b'{"operation":{"request":{"id":[],"name":"X","timestamp":%s}}}' % text
    assert bench.send_bytes(message, JSON) == [None]


LONG = b"x" * 300_000
LONG_ODDITIES: dict[str, bytes] = {
    "NaN": b"NaN",
    "Infinity": b"[Infinity,-Infinity]",
    "control characters": b'"\x01\n\x1f"',
    "half a pair": b'"\\ud800x\\uDFFF"',
    "no Unicode": b'"\xff\xc3"',
    "many halves": b'"' + b"\\ud800" * 60_000 + b'"',
}


@pytest.mark.parametrize("size", [300_000, 5_000_000])
@pytest.mark.parametrize("oddity", LONG_ODDITIES)
def test_a_long_request_with_an_oddity_is_answered(oddity: str, size: int) -> None:
    """However long the message is, within 8 MiB: what JSON does not have costs a request its
    success where it is needed, and never its answer."""
    operation = FakeOperation("X", lambda request, progress: OperationResult())
    bench = Bench(operation)
    odd, long = LONG_ODDITIES[oddity], b"x" * size
    beside = b'{"operation":{"request":{"pad":[%s,"%s"],"id":"7","name":"X"}}}' % (odd, long)
    within = b'{"operation":{"request":{"id":"8","name":"X","parameters":{"a":[%s,"%s"]}}}}' % (
        odd,
        long,
    )
    responses = []
    for message in (beside, within):
        (payload,) = bench.send_bytes(message, JSON)
        responses.append(bench.decoded(payload, JSON)["operation"]["response"])
    assert [response["id"] for response in responses] == ["7", "8"]
    assert [response["resultCode"] for response in responses] == ["SUCCESSFUL", "ERROR_IN_PARAM"]
    assert [request.id for request in operation.requests] == ["7"]


@pytest.mark.parametrize(
    ("written", "echoed"),
    [
        (b'"a\x01b\tc NaN"', "a\x01b\tc NaN"),
        (b'"a\x7fb 0  -Infinity"', "a\x7fb 0  -Infinity"),
        (b'"\\u0041\\\\ud"', "A\\ud"),
        (b'"\xff"', "\ufffd"),
        (b'"\xc3\xbc"', "\xfc"),
        (b"17", "17"),
        (b"0", "0"),
        (b" \n-Infinity", "-inf"),
        (b"NaN", "nan"),
    ],
)
def test_the_id_of_a_long_request_is_repeated_as_it_was(written: bytes, echoed: str) -> None:
    """What is written over to read the message is not written over in the answer."""
    bench = Bench()
    message = b'{"operation":{"request":{"pad":["%s",NaN,"\x02"],"name":"X","id":%s}}}' % (
        LONG,
        written,
    )
    (payload,) = bench.send_bytes(message, JSON)
    assert bench.decoded(payload, JSON)["operation"]["response"]["id"] == echoed


@pytest.mark.parametrize(
    "malformed", [b"17NaN00", b"NaN1", b"1.NaN", b"--Infinity", b"\x01", b"1\x7f", b"[NaN", b"-NaN"]
)
def test_a_long_message_that_is_malformed_is_no_request(malformed: bytes) -> None:
    """What is written over does not make a request of what is none."""
    bench = Bench()
    message = b'{"operation":{"request":{"id":"7","pad":["%s"],"t":%s}}}' % (LONG, malformed)
    assert bench.send_bytes(message, JSON) == [None]


@pytest.mark.parametrize("space", [b"", b" \r\n"])
def test_a_byte_order_mark_is_no_part_of_the_request(space: bytes) -> None:
    """Its format is recognised, and the operation is run."""
    operation = FakeOperation("X", lambda request, progress: OperationResult())
    bench = Bench(operation)
    message = (
        b"\xef\xbb\xbf" + space + raw({"operation": {"request": {"id": "7", "name": "X"}}}, JSON)
    )
    assert bench.codecs.detect(message) is JSON
    (payload,) = bench.send_bytes(message, bench.codecs.detect(message))
    response = bench.decoded(payload, JSON)["operation"]["response"]
    assert (response["id"], response["resultCode"]) == ("7", "SUCCESSFUL")


@pytest.mark.parametrize("content_type", list(ContentType), ids=lambda c: c.name)
def test_a_request_that_is_nested_too_deeply_is_answered(content_type: ContentType) -> None:
    """Too deep to be decoded, it still says who asks."""
    deep: Any = 1
    for _ in range(80):
        deep = [deep]
    response = answered(Bench(), {"id": "7", "parameters": {"a": deep}}, content_type)
    assert response["id"] == "7"
    assert "nested too deeply" in response["resultDescription"]


@pytest.mark.parametrize(
    ("payload", "content_type"),
    [
        (b'{"operation":{"request":{"id":"1"}}', JSON),
        (b'{"operation":{"request":{"id":01}}}', JSON),
        (b'{"operation":{"request":{"id":"1"}}}x', JSON),
        (b'{"operation":{"response":{"id":1e400}}}', JSON),
        (b'{"operation":1e400}', JSON),
        (raw({"operation": {"request": {"id": "1"}}}, PACK) + b"\x01", PACK),
        (raw({"operation": {"request": {"id": "1"}}}, PACK)[:-1], PACK),
        (raw({"operation": {"request": {"id": "1"}}}, CBOR) + b"\x01", CBOR),
        (raw({"operation": {"request": {"id": "1"}}}, CBOR)[:-1], CBOR),
        (raw({"operation": {"request": ["\ud800"]}}, CBOR), CBOR),
        (raw({"operation": {"request": "\ud800"}}, PACK), PACK),
    ],
    ids=repr,
)
def test_what_is_malformed_or_no_request_gets_no_answer(
    payload: bytes, content_type: ContentType
) -> None:
    """The structure has to be right: half a message says nothing reliable."""
    bench = Bench()
    assert bench.send_bytes(payload, content_type) == [None]
    assert bench.counters.of("messages_ignored", cause="malformed") == 1


def test_what_has_no_known_format_gets_no_answer() -> None:
    """A message whose format nobody recognised is counted as such: that is no fault of ours."""
    bench = Bench()
    assert bench.send_bytes(b"\xff\x00", None) == [None]
    assert bench.counters.of("messages_ignored", cause="unknown_format") == 1
