"""What CBOR accepts and refuses, hostile input above all."""

from __future__ import annotations

import datetime
import decimal
import fractions
import math
import re
import uuid
from contextlib import suppress
from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oda.codecs import CborCodec, Limits
from oda.errors import DecodeError
from tests.codecs.memory import peak_bytes
from tests.codecs.strategies import binary_values

CODEC = CborCodec()


def problem(payload: bytes, codec: CborCodec = CODEC) -> str:
    with pytest.raises(DecodeError) as caught:
        codec.decode(payload)
    return caught.value.problem


def test_the_form_on_the_wire() -> None:
    """Definite lengths and floats of 64 bits, as RFC 8949 has them."""
    assert CODEC.encode({"a": [1, -1, None, "é", b"\xff", 1.5, True]}) == bytes.fromhex(
        "a1 6161 87 01 20 f6 62c3a9 41ff fb3ff8000000000000 f5"
    )


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        ("17", 23),
        ("1818", 24),
        ("190100", 256),
        ("1a00010000", 65536),
        ("1bffffffffffffffff", 2**64 - 1),
        ("20", -1),
        ("387f", -128),
        ("397fff", -32768),
        ("3a7fffffff", -(2**31)),
        ("3b7fffffffffffffff", -(2**63)),
        ("f93e00", 1.5),
        ("fa3fc00000", 1.5),
        ("fb3ff8000000000000", 1.5),
        ("f6", None),
        ("f4", False),
        ("f5", True),
        ("6161", "a"),
        ("780161", "a"),
        ("79000161", "a"),
        ("7a0000000161", "a"),
        ("7b000000000000000161", "a"),
        ("4161", b"a"),
        ("580161", b"a"),
        ("5b000000000000000161", b"a"),
        ("8101", [1]),
        ("980101", [1]),
        ("99000101", [1]),
        ("9a0000000101", [1]),
        ("9b000000000000000101", [1]),
        ("a1616101", {"a": 1}),
        ("b801616101", {"a": 1}),
        ("bb000000000000000178016101", {"a": 1}),
        ("9fff", []),
        ("9f01ff", [1]),
        ("bfff", {}),
        ("bf616101ff", {"a": 1}),
        ("bf61619f01bfffffff", {"a": [1, {}]}),
        ("7fff", ""),
        ("7f61616162ff", "ab"),
        ("5f41614162ff", b"ab"),
        ("bf7f6161616260ff01ff", {"ab": 1}),
        ("a2616180 6162a0", {"a": [], "b": {}}),
        ("c2490100000000000000 00", 2**64),
        ("c349 010000000000000000", -(2**64) - 1),
        ("c24101", 1),
        ("d9d9f7a1616101", {"a": 1}),
    ],
)
def test_every_form_of_the_standard_is_read(payload: str, value: Any) -> None:
    """Each type is read in each of its lengths, and refused when it ends one byte too early."""
    raw = bytes.fromhex(payload)
    decoded = CODEC.decode(raw)
    assert decoded == value
    assert type(decoded) is type(value)
    for end in range(1, len(raw)):
        assert problem(raw[:end])
    assert problem(raw + b"\xf6") == "1 bytes follow the message"


def test_floats_of_any_width_that_are_not_numbers() -> None:
    """NaN and Infinity are read: that a parameter is one can then be answered."""
    assert math.isnan(CODEC.decode(bytes.fromhex("f97e00")))
    assert CODEC.decode(bytes.fromhex("fa7f800000")) == math.inf
    assert CODEC.decode(bytes.fromhex("fbfff0000000000000")) == -math.inf


cycle: list[Any] = []
cycle.append(cycle)


@pytest.mark.parametrize(
    "value",
    [
        datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        decimal.Decimal("1.5"),
        fractions.Fraction(1, 3),
        re.compile("(a+)+b"),
        uuid.UUID(int=1),
        {1, 2},
        cbor2.CBORTag(4, [2**60, 1]),
        cbor2.CBORTag(5, [2**60, 1]),
        cbor2.CBORTag(1, 2**60),
        cbor2.CBORTag(24, b"\x01"),
        cbor2.CBORTag(55799, 1),
        cbor2.CBORTag(2**63, 1),
    ],
    ids=repr,
)
def test_tags_are_refused(value: Any) -> None:
    """Dates, decimals with giant exponents, fractions, regular expressions, sets, unknown tags:
    none is followed, and the error names the tag. Inside a message not even the self-description
    is allowed."""
    payload = cbor2.dumps({"a": value})
    tag = cbor2.loads(_tag_number(payload[3:]))
    assert problem(payload) == f"tag {tag} is not allowed, at byte 3"


def _tag_number(payload: bytes) -> bytes:
    """The tag's number as an integer in CBOR: it differs in the three high bits only."""
    size = {24: 2, 25: 3, 26: 5, 27: 9}.get(payload[0] & 0x1F, 1)
    return bytes([payload[0] & 0x1F]) + payload[1:size]


def test_shared_references_are_refused() -> None:
    """Tags 28 and 29 would make a value that contains itself."""
    payload = cbor2.dumps(cycle, value_sharing=True)
    assert problem(payload) == "tag 28 is not allowed, at byte 0"
    assert problem(b"\x81\xd8\x1d\x00") == "tag 29 is not allowed, at byte 1"
    assert "tag 256 is" in problem(cbor2.dumps(["aaaa", "aaaa"], string_referencing=True))


def test_big_integers_are_limited() -> None:
    """An integer of 64 bytes is read, a longer one refused; the tags apply to plain bytes only."""
    assert CODEC.decode(b"\xc2\x58\x40" + b"\xff" * 64) == 2**512 - 1
    assert "more than 64 bytes" in problem(b"\xc2\x58\x41" + b"\xff" * 65)
    for wrong in ("c201", "c2c24101", "c260", "c25f4101ff", "c3f6"):
        assert "without bytes" in problem(bytes.fromhex(wrong))


def test_self_description_comes_once_and_first() -> None:
    """Tag 55799 is allowed in front of the message only, and not twice."""
    assert CODEC.decode(b"\xd9\xd9\xf7\xa0") == {}
    assert "tag 55799" in problem(b"\xd9\xd9\xf7\xd9\xd9\xf7\xa0")
    assert "too early" in problem(b"\xd9\xd9\xf7")


@pytest.mark.parametrize("payload", ["f7", "e0", "f3", "f800", "f8ff", "f818", "fc", "fd", "fe"])
def test_undefined_and_simple_values_are_refused(payload: str) -> None:
    """JSON has nothing they could stand for."""
    raw = bytes.fromhex(payload)
    assert "is not allowed, at byte 0" in problem(raw)
    assert "is not allowed, at byte 3" in problem(b"\xa1\x61a" + raw)
    assert ("undefined" in problem(raw)) == (payload == "f7")


@pytest.mark.parametrize("low", [28, 29, 30])
def test_reserved_lengths_are_refused(low: int) -> None:
    """The three reserved values of the low bits are an error in every major type."""
    for major in range(7):
        assert "is not used" in problem(bytes([major << 5 | low]) + bytes(20))


@pytest.mark.parametrize("first", [0x1F, 0x3F, 0xDF])
def test_integers_and_tags_have_no_indefinite_form(first: int) -> None:
    """Low bits 31 mean nothing for integers and tags."""
    assert "is not used" in problem(bytes([first, 0, 0xFF]))


@pytest.mark.parametrize("payload", ["ff", "81ff", "a1ffff", "a16161ff", "bf6161ff", "8201ff"])
def test_a_break_ends_indefinite_containers_only(payload: str) -> None:
    """Not a definite one, not a map behind a key, not nothing."""
    assert "nothing to end here" in problem(bytes.fromhex(payload))


@pytest.mark.parametrize(
    "payload", ["7f4161ff", "5f6161ff", "7f01ff", "7f7f6161ffff", "5fc24101ff"]
)
def test_parts_are_of_the_same_kind(payload: str) -> None:
    """Text and bytes of indefinite length consist of definite parts of their own type."""
    assert "not a part" in problem(bytes.fromhex(payload))


@pytest.mark.parametrize("key", [1, -1, b"a", None, 1.5, True, (1,)], ids=str)
def test_keys_are_texts(key: Any) -> None:
    """A key of another type is refused; the error says where."""
    assert problem(cbor2.dumps({"a": {key: 1}})) == "a key is not text, at byte 4"
    assert "a key is not text" in problem(b"\xbf" + cbor2.dumps(key) + b"\x01\xff")


def test_invalid_utf8_is_refused() -> None:
    """Text that isn't UTF-8 is an error, in values, keys and parts; so are surrogates."""
    for payload in ("a1616161ff", "a161ff01", "63eda080", "7f61c361a9ff"):
        assert problem(bytes.fromhex(payload))


def test_of_doubled_keys_the_last_counts() -> None:
    """The same as in JSON."""
    assert CODEC.decode(bytes.fromhex("a2616101616102")) == {"a": 2}


@pytest.mark.parametrize("opening", [b"\x81", b"\xa1\x61a", b"\x9f", b"\xbf\x61a"])
def test_the_depth_limit(opening: bytes) -> None:
    """64 levels are read, 65 are refused, and so are millions."""
    ending = b"\xff" if opening[0] & 0x1F == 31 else b""
    assert CODEC.decode(opening * 64 + b"\xf6" + ending * 64)
    assert "nested too deeply" in problem(opening * 65 + b"\xf6" + ending * 65)
    assert "nested too deeply" in problem(opening * 1_000_000)


def test_the_size_limit() -> None:
    """A message of the greatest size is read, one byte more is refused."""
    codec = CborCodec(Limits(max_bytes=10))
    assert codec.decode(b"\x69123456789") == "123456789"
    assert problem(b"\x6a1234567890", codec) == "11 bytes, more than the 10 allowed"
    assert problem(b"") == "the message is empty"


def test_the_item_limit() -> None:
    """Containers, members and keys are counted, and the parts of all texts together."""
    codec = CborCodec(Limits(max_items=10))
    assert codec.decode(b"\x89" + b"\x01" * 9) == [1] * 9
    assert problem(b"\x8a" + b"\x01" * 10, codec) == "more than 10 items"
    assert problem(b"\x9f" + b"\x01" * 10 + b"\xff", codec) == "more than 10 items"
    assert codec.decode(b"\x83" + b"\xa1\x61a\x01" * 3) == [{"a": 1}] * 3
    assert codec.decode(b"\x7f" + b"\x61a" * 9 + b"\xff") == "a" * 9
    assert "too many parts" in problem(b"\x7f" + b"\x61a" * 10 + b"\xff", codec)
    text_of_5 = b"\x7f" + b"\x61a" * 5 + b"\xff"
    assert "too many parts" in problem(b"\x82" + text_of_5 * 2, codec)


def test_nested_claims_take_no_memory() -> None:
    """Arrays that each claim to hold as much as the message has bytes left are refused unread."""
    size = 400_000
    claims = b"".join(b"\x9a" + (size - 5 * level).to_bytes(4) for level in range(1, 60))
    payload = claims.ljust(size, b"\xf6")
    assert peak_bytes(CODEC, payload) < 100_000
    assert "too early" in problem(payload)


@pytest.mark.parametrize(
    "claim",
    ["9bffffffffffffffff", "bbffffffffffffffff", "7bffffffffffffffff", "5b7fffffffffffffff"],
)
def test_claims_beyond_the_message_take_no_memory(claim: str) -> None:
    """Lengths that the message can't hold are refused, up to the largest there is."""
    payload = bytes.fromhex(claim) + b"\xf6" * 1000
    assert peak_bytes(CODEC, payload) < 100_000
    assert "too early" in problem(payload)


@pytest.mark.parametrize("unit", [b"\xa0", b"\x80", b"\xa1\x60\xf6", b"\x9f\xff", b"\xf9\x01\x02"])
def test_memory_is_bounded(unit: bytes) -> None:
    """Mebibytes of the costliest items are refused, not decoded into gigabytes."""
    payload = b"\x9f" + unit * (4 * 1024 * 1024 // len(unit)) + b"\xff"
    assert peak_bytes(CODEC, payload) < len(payload)


@given(st.binary(max_size=200))
@example(b"\xa1\x61a\xd8\x23\x61(")
def test_random_bytes_give_a_value_or_decode_error(payload: bytes) -> None:
    """Nothing but DecodeError ever comes out."""
    with suppress(DecodeError):
        CODEC.decode(payload)


@given(binary_values, st.data())
def test_damaged_messages_give_a_value_or_decode_error(value: Any, data: st.DataObject) -> None:
    """One wrong byte anywhere leads to a value or to DecodeError."""
    payload = bytearray(cbor2.dumps(value, indefinite_containers=data.draw(st.booleans())))
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with suppress(DecodeError):
        CODEC.decode(bytes(payload))


@given(binary_values, st.integers(0, 400))
def test_every_beginning_of_a_message_is_refused(value: Any, cut: int) -> None:
    """A message that was cut off anywhere is never taken for a whole one."""
    payload = CODEC.encode(value)
    if cut < len(payload):
        with pytest.raises(DecodeError):
            CODEC.decode(payload[:cut])


@given(binary_values)
def test_it_reads_what_the_library_writes(value: Any) -> None:
    """The scan before decoding refuses nothing that is well-formed and within the limits."""
    assert CODEC.decode(cbor2.dumps(value)) == value
    assert CODEC.decode(cbor2.dumps(value, indefinite_containers=True)) == value
