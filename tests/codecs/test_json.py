"""What JSON accepts and refuses, hostile input above all."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from oda.codecs import JsonCodec, Limits
from oda.errors import DecodeError, EncodeError
from oda.interfaces import ICheckedEncoding
from oda.model import Datapoint, Datastream, TelemetryDocument
from tests.codecs.memory import peak_bytes
from tests.codecs.strategies import values

CODEC = JsonCodec()


def problem(payload: bytes, codec: JsonCodec = CODEC) -> str:
    with pytest.raises(DecodeError) as caught:
        codec.decode(payload)
    return caught.value.problem


def test_it_is_written_without_white_space_in_utf8() -> None:
    """One form on the wire: compact, members in their order, text not escaped needlessly."""
    assert CODEC.encode({"b": [1, 2.5, None, True], "a": "é☃"}) == (
        '{"b":[1,2.5,null,true],"a":"é☃"}'.encode()
    )


@given(values)
def test_the_standard_library_reads_it(value: Any) -> None:
    """What is written is JSON to others too."""
    assert json.loads(CODEC.encode(value)) == value


@given(values)
def test_it_reads_what_the_standard_library_writes(value: Any) -> None:
    """White space and escapes of any kind are read."""
    assert CODEC.decode(json.dumps(value, indent=1).encode()) == value


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b"{}{}",
        b"{} x",
        b"[1,]",
        b"{'a':1}",
        b"{1:2}",
        b"nul",
        b"NaN",
        b"Infinity",
        b"[}",
        b" ",
    ],
)
def test_malformed_text_is_refused(payload: bytes) -> None:
    """No leniency: what is no JSON, or more than one message, is an error."""
    assert problem(payload)


def test_an_empty_message_is_refused() -> None:
    """No bytes are no message."""
    assert problem(b"") == "the message is empty"


def test_invalid_utf8_is_refused() -> None:
    """Text in another encoding is an error, not a replacement character."""
    assert "UTF-8" in problem(b'{"a":"caf\xe9"}')
    problem('{"a":1}'.encode("utf-16"))


@pytest.mark.parametrize("text", ['"\\ud800"', '"\\udc00 x"', '"\\ud800\\u0041"', '{"\\ud800":1}'])
def test_lone_surrogates_are_refused(text: str) -> None:
    """An escape that is half a character can't be sent on, so it doesn't come in."""
    assert problem(text.encode())


def test_a_byte_order_mark_is_refused() -> None:
    """RFC 8259 forbids it in front of JSON; the error says so."""
    assert "byte order mark" in problem(b"\xef\xbb\xbf{}")


def test_numbers_no_float_can_hold_are_refused() -> None:
    """1e400 is not silently infinite."""
    assert "out of range" in problem(b'{"a":1e400}')


def test_big_integers_are_kept() -> None:
    """An integer beyond 64 bits is read, so that a request holding one can be answered."""
    assert CODEC.decode(b'{"a":123456789012345678901234567890}') == {
        "a": 123456789012345678901234567890
    }


def test_giant_integers_are_refused() -> None:
    """Thousands of digits, whose conversion takes quadratic time, are an error."""
    assert problem(b'{"a":' + b"1" * 100_000 + b"}")


def test_of_doubled_keys_the_last_counts() -> None:
    """As in most decoders; documented, the same in all formats."""
    assert CODEC.decode(b'{"a":1,"a":2}') == {"a": 2}


def test_other_buffers_are_read() -> None:
    """A message may come as bytearray or memoryview."""
    assert CODEC.decode(bytearray(b"[1]")) == [1]  # type: ignore[arg-type]
    assert CODEC.decode(memoryview(b"[1]")) == [1]  # type: ignore[arg-type]


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_bottomless_nesting_is_refused(opening: bytes) -> None:
    """Any number of open brackets ends in DecodeError, not in RecursionError, closed or not."""
    closing = b"]" if opening == b"[" else b"0}"
    for levels in (100_000, 1_000_000):
        assert problem(opening * levels)
        assert problem(opening * levels + closing * levels)


def test_a_limit_beyond_the_stack_is_no_recursion_error() -> None:
    """With a depth limit that is set too high the interpreter's own limit still holds."""
    assert "nested too deeply" in problem(
        b"[" * 50_000 + b"]" * 50_000, JsonCodec(Limits(max_depth=60_000))
    )


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        (b"[", b"]"),
        (b'{"a":[', b"]}"),
        (b'["]",', b',"["]'),
        (b'["\\"]",', b',"\\"["]'),
        (b'["\\\\",', b',"\\\\"]'),
        (b'["]\\\\\\"",', b',"[\\\\\\""]'),
        (b'["",0,"[[",', b"]"),
    ],
)
def test_the_depth_limit_sees_through_texts(opening: bytes, closing: bytes) -> None:
    """Exactly 64 levels are read whatever brackets and quotes stand in texts, one more is not."""
    levels = opening.count(b"{") + 1
    fitting = opening * (64 // levels) + b"0" + closing * (64 // levels)
    assert CODEC.decode(fitting)
    deeper = opening * (64 // levels) + b"[0]" + closing * (64 // levels)
    assert "nested too deeply" in problem(deeper)


def test_brackets_in_texts_are_not_nesting() -> None:
    """A text full of brackets is a text."""
    for text in ("[" * 1000, "{" * 1000, '["' * 1000, "\\[" * 1000, "]" * 1000):
        assert CODEC.decode(json.dumps([text, {"a": text}]).encode()) == [text, {"a": text}]


def test_wide_messages_are_not_deep() -> None:
    """Many containers side by side don't count as levels."""
    wide = [{"a": [[]]} for _ in range(1000)]
    assert CODEC.decode(CODEC.encode(wide)) == wide


def test_the_size_limit() -> None:
    """A message of the greatest size is read, one byte more is refused."""
    codec = JsonCodec(Limits(max_bytes=10))
    assert codec.decode(b'"12345678"') == "12345678"
    assert problem(b'"123456789"', codec) == "11 bytes, more than the 10 allowed"


def test_the_item_limit() -> None:
    """Members, keys and containers are counted, whatever stands in texts."""
    codec = JsonCodec(Limits(max_items=10))
    assert codec.decode(b"[" + b"1," * 9 + b"1]") == [1] * 10
    assert problem(b"[" + b"1," * 10 + b"1]", codec) == "more than 10 items"
    assert "items" in problem(b'[{"a":1},{"b":2},{"c":3},{"d":4}]', codec)
    for text in ("," * 100, "[" * 100, '","' * 100, "\\," * 100, ":" * 100):
        assert codec.decode(json.dumps([text]).encode()) == [text]
    assert "items" in problem(b"[" + b'"\\"",' * 20 + b"1]", codec)


@pytest.mark.parametrize("unit", [b"[],", b"{},", b'{"":0},', b"0.5,", b'"ab",', b'"[[",'])
def test_memory_is_bounded(unit: bytes) -> None:
    """Sixteen mebibytes of the costliest items take no more than a small multiple."""
    payload = b"[" + unit * (16 * 1024 * 1024 // len(unit) - 1) + b"0]"
    assert peak_bytes(CODEC, payload) < 4 * len(payload)


def test_deep_nests_side_by_side() -> None:
    """Many nests don't add up: each alone is measured, and one that is too deep is found."""
    fitting, deeper = b"[" * 63 + b"]" * 63, b"[" * 64 + b"]" * 64
    assert len(CODEC.decode(b"[" + b",".join([fitting] * 1000) + b"]")) == 1000
    assert "nested too deeply" in problem(
        b"[" + b",".join([fitting] * 1000 + [deeper] + [fitting]) + b"]"
    )


@given(st.binary(max_size=200))
@example(b'{"a":\xed\xa0\x80}')
def test_random_bytes_give_a_value_or_decode_error(payload: bytes) -> None:
    """Nothing but DecodeError ever comes out."""
    with suppress(DecodeError):
        CODEC.decode(payload)


@given(st.text(alphabet='[]{}",:\\0n e.-', max_size=60))
def test_random_structures_are_read_as_by_others(text: str) -> None:
    """What looks like JSON is read exactly when the standard library reads it, and alike."""
    try:
        expected = json.loads(text)
    except ValueError:
        problem(text.encode())
    else:
        assert CODEC.decode(text.encode()) == expected


def depth(value: Any) -> int:
    """How many containers ``value`` nests: the plain definition."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


tricky = st.text(alphabet='[]{}"\\,:a\n', max_size=6)
bracketed = st.recursive(
    tricky | st.integers(0, 9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(tricky, inner, max_size=3),
    max_leaves=30,
)


@given(bracketed, st.integers(0, 5), st.booleans())
def test_depth_is_measured_exactly(value: Any, max_depth: int, indent: bool) -> None:
    """The scan refuses a text exactly when its value nests more than allowed."""
    codec = JsonCodec(Limits(max_depth=max_depth))
    payload = json.dumps(value, indent=1 if indent else None).encode()
    if depth(value) <= max_depth:
        assert codec.decode(payload) == value
    else:
        assert "nested too deeply" in problem(payload, codec)


def test_a_checked_document_is_written_like_any_other() -> None:
    """``encode_checked`` saves the look at every value, and nothing else changes: the same bytes,
    and an ``EncodeError`` for text that is no Unicode."""
    codec = JsonCodec()
    assert verifyObject(ICheckedEncoding, codec)
    points = [Datapoint(1, 21.5), Datapoint(2, None, 3), Datapoint(4, {"a": ["é", True]})]
    document = TelemetryDocument(
        version="9.0", device="dev-1", datastreams=[Datastream(id="t", datapoints=points)]
    )
    assert codec.encode_checked(document) == codec.encode(document)
    broken = TelemetryDocument(version="9.0", device="\ud800", datastreams=[])
    with pytest.raises(EncodeError):
        codec.encode_checked(broken)
