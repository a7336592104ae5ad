"""permessage-deflate with platforms that use what RFC 7692 allows."""

from __future__ import annotations

import random
import zlib
from typing import Any

import pytest
from autobahn.exception import PayloadCorruptError, PayloadExceededError
from hypothesis import given
from hypothesis import strategies as st

from oda.connector.framing import Deflate, offers, with_readable_window

TAIL = b"\x00\x00\xff\xff"


def deflate(anew: bool = False) -> Deflate:
    return Deflate(starts_anew_up=anew, starts_anew_down=anew)


def receive(own: Deflate, *frames: bytes, limit: int | None = None) -> bytes:
    """The message in these frames."""
    own.start_decompress_message()
    parts = [own.decompress_message_data(frame, max_output_len=limit) for frame in frames]
    own.end_decompress_message()
    return b"".join(parts)


def final(payload: bytes, compressor: Any = None) -> bytes:
    """A message that ends with a final block (RFC 7692, section 7.2.3.4)."""
    compressor = compressor or zlib.compressobj(wbits=-15)
    return bytes(compressor.compress(payload) + compressor.flush(zlib.Z_FINISH)) + b"\0"


def flushed(payload: bytes, compressor: Any) -> bytes:
    """A message that ends as most do."""
    return bytes(compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def test_the_example_of_the_rfc() -> None:
    """RFC 7692, section 7.2.3.4: "Hello" in a final block."""
    own = deflate()
    assert receive(own, bytes.fromhex("f348cdc9c9070000")) == b"Hello"
    assert receive(own, bytes.fromhex("f248cdc9c90700")) == b"Hello"


@given(
    anew=st.booleans(),
    messages=st.lists(st.tuples(st.binary(max_size=300), st.booleans()), max_size=8),
)
def test_messages_behind_a_final_block(anew: bool, messages: list[tuple[bytes, bool]]) -> None:
    """Every message is read, whether those before it ended with a final block or not."""
    own = deflate(anew)
    compressor = zlib.compressobj(wbits=-15)
    for payload, is_final in messages:
        if is_final or anew:
            compressor = zlib.compressobj(wbits=-15)
        if is_final:
            assert receive(own, final(payload, compressor)) == payload
            compressor = zlib.compressobj(wbits=-15)
        else:
            assert receive(own, flushed(payload, compressor)) == payload


def test_a_window_that_goes_on_behind_a_final_block() -> None:
    """A sender may refer to what stood before its final block, as far back as the window reaches
    (RFC 7692, section 7.2.3.2)."""
    own = deflate()
    noise = random.Random(1).randbytes(40_000)
    assert receive(own, final(noise)) == noise
    goes_on = zlib.compressobj(wbits=-15, zdict=noise[-32_768:])
    message = flushed(noise[-32_000:], goes_on)
    assert len(message) < 1000, "the case must be what it says"
    assert receive(own, message) == noise[-32_000:]


def test_several_final_blocks_in_one_message() -> None:
    """Frames, and blocks in one frame, may each end with one."""
    own = deflate()
    one, two = final(b"one")[:-1], final(b"two")[:-1]
    assert receive(own, one + two, one, two + b"\0") == b"onetwoonetwo"
    assert receive(own, final(b"more")) == b"more"


def test_a_final_block_without_its_padding() -> None:
    """The byte 0 behind it may be missing."""
    own = deflate()
    assert receive(own, final(b"one")[:-1]) == b"one"
    assert receive(own, final(b"two")) == b"two"


def test_a_flood_of_final_blocks() -> None:
    """Each costs a decompressor: a message of nothing else is refused."""
    own = deflate()
    own.start_decompress_message()
    with pytest.raises(PayloadCorruptError):
        own.decompress_message_data(b"\x03\x00" * 2000)


@pytest.mark.parametrize("limit", [0, 1, 99, 100, 101])
@pytest.mark.parametrize("is_final", [True, False])
def test_the_limit_of_a_message(limit: int, is_final: bool) -> None:
    """Exactly as many bytes as allowed pass, one more is refused."""
    payload = b"x" * 100
    body = final(payload) if is_final else flushed(payload, zlib.compressobj(wbits=-15))
    if limit >= 100:
        assert receive(deflate(), body, limit=limit) == payload
    else:
        with pytest.raises(PayloadExceededError):
            receive(deflate(), body, limit=limit)


def test_garbage_is_refused() -> None:
    """What zlib can't read is the error that Autobahn answers with 1007."""
    with pytest.raises(PayloadCorruptError):
        receive(deflate(), b"\xff\xff\xff\xff")


@pytest.mark.parametrize("anew", [False, True])
def test_what_is_sent(anew: bool) -> None:
    """One context over all messages, or one for each where the platform asked for that."""
    own = deflate(anew)
    reader = zlib.decompressobj(wbits=-15)
    sizes = []
    for _ in range(3):
        own.start_compress_message()
        body = own.compress_message_data(b"a reading of a device" * 3) + own.end_compress_message()
        sizes.append(len(body))
        if anew:
            reader = zlib.decompressobj(wbits=-15)
        assert reader.decompress(body + TAIL) == b"a reading of a device" * 3
    assert (sizes[1] == sizes[0]) is anew
    assert (sizes[1] < sizes[0]) is not anew


def test_the_offer() -> None:
    """The window may be chosen by the platform; giving up the context is not offered."""
    assert [offer.get_extension_string() for offer in offers()] == [
        "permessage-deflate; client_max_window_bits"
    ]


@pytest.mark.parametrize(
    ("value", "readable", "may_compress"),
    [
        ("permessage-deflate", "permessage-deflate", True),
        (
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=9",
            True,
        ),
        (
            'permessage-deflate; client_max_window_bits="8"; server_no_context_takeover',
            'permessage-deflate; client_max_window_bits="9"; server_no_context_takeover',
            False,
        ),
        (
            "permessage-deflate;client_max_window_bits = 8;server_max_window_bits = 8",
            "permessage-deflate;client_max_window_bits = 9;server_max_window_bits = 9",
            False,
        ),
        (
            "permessage-deflate; client_max_window_bits=80",
            "permessage-deflate; client_max_window_bits=80",
            True,
        ),
    ],
)
def test_a_window_of_eight_bits(value: str, readable: str, may_compress: bool) -> None:
    """8 is read as 9; what is sent is not compressed then, because zlib can't with so few."""
    assert with_readable_window(value) == (readable, may_compress)
