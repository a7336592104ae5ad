"""Frames are what RFC 6455 says they are, whatever their size."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.connector.framing import build_frame, client_frame, mask_by_integer, mask_source


def read(frame: bytes) -> tuple[int, bytes, int]:
    """Opcode byte, payload and total length, read as section 5.2 describes a frame."""
    assert frame[1] & 0x80, "a client must mask"
    size, start = frame[1] & 0x7F, 2
    if size == 126:
        size, start = int.from_bytes(frame[2:4], "big"), 4
        assert size > 125, "the shortest form of the length must be used"
    elif size == 127:
        size, start = int.from_bytes(frame[2:10], "big"), 10
        assert size > 65535, "the shortest form of the length must be used"
    mask, masked = frame[start : start + 4], frame[start + 4 :]
    payload = bytes(octet ^ mask[index % 4] for index, octet in enumerate(masked))
    assert len(masked) == size
    return frame[0], payload, size


@pytest.mark.parametrize("size", [0, 1, 3, 125, 126, 127, 4095, 4096, 4097, 65535, 65536, 70001])
def test_every_length_form_is_right(size: int) -> None:
    """The borders between the three forms of the length, and between the two ways to mask."""
    payload = bytes(index % 251 for index in range(size))
    opcode, read_payload, _ = read(client_frame(payload, False, b"\x01\xfe\x80\x00"))
    assert opcode == 0x82
    assert read_payload == payload


@given(st.binary(max_size=5000), st.booleans(), st.binary(min_size=4, max_size=4))
def test_what_is_masked_can_be_unmasked(payload: bytes, is_text: bool, mask: bytes) -> None:
    """The payload comes out as it went in; text and binary differ in the opcode only."""
    opcode, read_payload, _ = read(client_frame(payload, is_text, mask))
    assert opcode == (0x81 if is_text else 0x82)
    assert read_payload == payload


@pytest.mark.parametrize("first", [0x89, 0x8A, 0x88, 0xC1, 0x01])
def test_the_first_byte_is_given(first: int) -> None:
    """Ping, pong, close, compressed text, the begin of a text: only that byte differs."""
    assert read(build_frame(first, b"\x03\xe8", b"\x01\x02\x03\x04"))[:2] == (first, b"\x03\xe8")


@given(st.binary(max_size=9000), st.binary(min_size=4, max_size=4))
def test_long_payloads_are_masked_alike_with_and_without_native_help(
    payload: bytes, mask: bytes
) -> None:
    """Byte ``i`` with byte ``i mod 4`` of the mask (RFC 6455, section 5.3)."""
    expected = bytes(octet ^ mask[index % 4] for index, octet in enumerate(payload))
    assert mask_by_integer(payload, mask) == expected
    assert build_frame(0x82, payload, mask).endswith(mask + expected)


def test_masks_come_from_the_source_and_are_never_repeated() -> None:
    """Each mask is four fresh bytes, in the order the source gives them."""
    blocks = [bytes([number]) * 1024 for number in range(3)]
    asked: list[int] = []

    def random_bytes(count: int) -> bytes:
        asked.append(count)
        return blocks[len(asked) - 1]

    masks = list(islice(mask_source(random_bytes), 257))
    assert masks[:256] == [b"\x00" * 4] * 256
    assert masks[256] == b"\x01" * 4
    assert asked == [1024, 1024]
