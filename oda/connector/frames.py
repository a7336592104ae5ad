"""Builds the frames that an agent sends (RFC 6455, section 5.2): whole messages and control frames.

Autobahn builds frames, too, with a general way that asks about fragments, compression, tracing and
chopped writes each time; for the one shape that an agent sends all day (final, masked, not
compressed) this is five times cheaper. Masking an integer beats the native helper for short
payloads; for longer ones the helper wins.

Pure: randomness is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from struct import pack

from autobahn.websocket import HAS_NVX

_TEXT = 0x81
_BINARY = 0x82
_MASKED = 0x80
#: From this size on Autobahn's native masker is clearly faster than integer arithmetic, in bytes.
_LONG = 4096


def mask_source(random_bytes: Callable[[int], bytes]) -> Iterator[bytes]:
    """Unpredictable masks of four bytes (RFC 6455, section 10.3), asked for by the kilobyte."""
    while True:
        block = random_bytes(1024)
        for start in range(0, 1024, 4):
            yield block[start : start + 4]


def client_frame(payload: bytes, is_text: bool, mask: bytes) -> bytes:
    """One whole message as a frame, masked with the four bytes of ``mask``."""
    return build_frame(_TEXT if is_text else _BINARY, payload, mask)


def build_frame(first: int, payload: bytes, mask: bytes) -> bytes:
    """A frame with the byte ``first`` (final, reserved bits, opcode), masked with ``mask``."""
    size = len(payload)
    if size < 126:
        header = bytes((first, _MASKED | size))
    elif size < 65536:
        header = pack("!BBH", first, _MASKED | 126, size)
    else:
        header = pack("!BBQ", first, _MASKED | 127, size)
    if size < _LONG:
        return header + mask + mask_by_integer(payload, mask)
    return header + mask + _mask_for_long()(payload, mask)


def mask_by_integer(payload: bytes, mask: bytes) -> bytes:
    """``payload`` masked (or unmasked) with the four bytes of ``mask``."""
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(payload, "little") ^ key).to_bytes(size, "little")


@cache
def _mask_for_long() -> Callable[[bytes, bytes], bytes]:
    """Autobahn's native masker where there is one. Its import costs memory and time, which an agent
    that never sends a long message is spared."""
    if not HAS_NVX:
        return mask_by_integer
    from autobahn.nvx._xormasker import create_xor_masker

    def mask_natively(payload: bytes, mask: bytes) -> bytes:
        masked: bytes = create_xor_masker(mask, len(payload)).process(payload)
        return masked

    return mask_natively
