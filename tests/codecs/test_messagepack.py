"""What MessagePack accepts and refuses, hostile input above all."""

from __future__ import annotations

import datetime
from contextlib import suppress
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oda.codecs import Limits, MessagePackCodec
from oda.errors import DecodeError
from tests.codecs.memory import peak_bytes
from tests.codecs.strategies import binary_values

CODEC = MessagePackCodec()


def problem(payload: bytes, codec: MessagePackCodec = CODEC) -> str:
    with pytest.raises(DecodeError) as caught:
        codec.decode(payload)
    return caught.value.problem


def test_the_form_on_the_wire() -> None:
    """Text is str and bytes are bin, as the MessagePack specification has them."""
    assert CODEC.encode({"a": [1, None, "é", b"\xff"]}) == bytes.fromhex(
        "81 a161 94 01 c0 a2c3a9 c401ff"
    )


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        ("7f", 127),
        ("e0", -32),
        ("cc80", 128),
        ("cd0100", 256),
        ("ce00010000", 65536),
        ("cfffffffffffffffff", 2**64 - 1),
        ("d080", -128),
        ("d18000", -32768),
        ("d280000000", -(2**31)),
        ("d38000000000000000", -(2**63)),
        ("ca3fc00000", 1.5),
        ("cb3ff8000000000000", 1.5),
        ("c0", None),
        ("c2", False),
        ("c3", True),
        ("a161", "a"),
        ("d90161", "a"),
        ("da000161", "a"),
        ("db0000000161", "a"),
        ("c40161", b"a"),
        ("c5000161", b"a"),
        ("c60000000161", b"a"),
        ("9101", [1]),
        ("dc000101", [1]),
        ("dd0000000101", [1]),
        ("81a16101", {"a": 1}),
        ("de0001a16101", {"a": 1}),
        ("df00000001d9016101", {"a": 1}),
        ("81da00016101", {"a": 1}),
        ("81db000000016101", {"a": 1}),
        ("82a16190a16280", {"a": [], "b": {}}),
    ],
)
def test_every_form_of_the_specification_is_read(payload: str, value: Any) -> None:
    """Each type is read in each of its lengths, and refused when it ends one byte too early."""
    raw = bytes.fromhex(payload)
    decoded = CODEC.decode(raw)
    assert decoded == value
    assert type(decoded) is type(value)
    for end in range(1, len(raw)):
        assert "too early" in problem(raw[:end])
    assert problem(raw + b"\xc0") == "1 bytes follow the message"


@pytest.mark.parametrize(
    "payload",
    [
        *["d40100", "d5010000", "d60100000000", "d7010000000000000000", "d801" + "00" * 16],
        *["c7010100", "c800010100", "c9000000010100"],
    ],
)
def test_extension_types_are_refused(payload: str) -> None:
    """No extension type comes through, in any length and at any place."""
    assert "extension types" in problem(bytes.fromhex(payload))
    assert "extension types" in problem(b"\x81\xa1a\x92\x01" + bytes.fromhex(payload))


def test_timestamps_are_refused() -> None:
    """The timestamp, extension type -1, is refused like the others."""
    now = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    assert "extension types" in problem(msgpack.packb({"t": now}, datetime=True))


@pytest.mark.parametrize("key", [1, b"a", None, 1.5, True], ids=str)
def test_keys_are_texts(key: Any) -> None:
    """A key of another type is refused; the error says where."""
    assert problem(msgpack.packb({"a": {key: 1}})) == "a key is not text, at byte 4"


def test_the_unused_byte_is_refused() -> None:
    """0xc1 is never used."""
    assert "0xc1" in problem(b"\x91\xc1")


def test_invalid_utf8_is_refused() -> None:
    """Text that isn't UTF-8 is an error, in values and in keys; so are surrogates."""
    for payload in (b"\x81\xa1a\xa1\xff", b"\x81\xa1\xff\x01", b"\xa3\xed\xa0\x80"):
        assert "UTF-8" in problem(payload)


def test_of_doubled_keys_the_last_counts() -> None:
    """The same as in JSON."""
    assert CODEC.decode(bytes.fromhex("82a16101a16102")) == {"a": 2}


def test_the_depth_limit() -> None:
    """64 levels are read, 65 are refused, and so are millions."""
    assert CODEC.decode(b"\x91" * 64 + b"\xc0")
    assert CODEC.decode(b"\x81\xa1a" * 64 + b"\xc0")
    assert "nested too deeply" in problem(b"\x91" * 65 + b"\xc0")
    assert "nested too deeply" in problem(b"\x81\xa1a" * 65 + b"\xc0")
    assert "nested too deeply" in problem(b"\x91" * 1_000_000)


def test_the_size_limit() -> None:
    """A message of the greatest size is read, one byte more is refused."""
    codec = MessagePackCodec(Limits(max_bytes=10))
    assert codec.decode(b"\xa9123456789") == "123456789"
    assert problem(b"\xaa1234567890", codec) == "11 bytes, more than the 10 allowed"
    assert problem(b"") == "the message is empty"


def test_the_item_limit() -> None:
    """Containers, members and keys are counted: ten are read, eleven are refused."""
    codec = MessagePackCodec(Limits(max_items=10))
    assert codec.decode(b"\x99" + b"\x01" * 9) == [1] * 9
    assert problem(b"\x9a" + b"\x01" * 10, codec) == "more than 10 items"
    assert codec.decode(b"\x93" + b"\x81\xa1a\x01" * 3) == [{"a": 1}] * 3
    assert problem(b"\x94" + b"\x81\xa1a\x01" * 3 + b"\x80", codec) == "more than 10 items"


def test_nested_claims_take_no_memory() -> None:
    """Arrays that each claim to hold as much as the message has bytes left are refused unread:
    an unpacker that trusts each claim alone would take eight bytes for each of them, per level."""
    size = 400_000
    claims = b"".join(b"\xdd" + (size - 5 * level).to_bytes(4) for level in range(1, 60))
    payload = claims.ljust(size, b"\xc0")
    assert peak_bytes(CODEC, payload) < 100_000
    assert "too early" in problem(payload)


@pytest.mark.parametrize("claim", ["ddffffffff", "dfffffffff", "dbffffffff", "c6ffffffff"])
def test_claims_beyond_the_message_take_no_memory(claim: str) -> None:
    """Lengths that the message can't hold are refused."""
    payload = bytes.fromhex(claim) + b"\xc0" * 1000
    assert peak_bytes(CODEC, payload) < 100_000
    assert "too early" in problem(payload)


@pytest.mark.parametrize("unit", [b"\x80", b"\x90", b"\x81\xa0\xc0", b"\xca\x01\x02\x03\x04"])
def test_memory_is_bounded(unit: bytes) -> None:
    """Mebibytes of the costliest items are refused, not decoded into gigabytes."""
    count = 4 * 1024 * 1024 // len(unit)
    payload = b"\xdd" + count.to_bytes(4) + unit * count
    assert peak_bytes(CODEC, payload) < len(payload)


@given(st.binary(max_size=200))
@example(b"\xd6\xff\x00\x00\x00\x00")
def test_random_bytes_give_a_value_or_decode_error(payload: bytes) -> None:
    """Nothing but DecodeError ever comes out."""
    with suppress(DecodeError):
        CODEC.decode(payload)


@given(binary_values, st.data())
def test_damaged_messages_give_a_value_or_decode_error(value: Any, data: st.DataObject) -> None:
    """One wrong byte anywhere leads to a value or to DecodeError."""
    payload = bytearray(CODEC.encode(value))
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
    assert CODEC.decode(msgpack.packb(value, use_single_float=False)) == value
