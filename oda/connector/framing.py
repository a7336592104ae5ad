"""Frames and messages as they stand on the wire, where Autobahn is slower or less tolerant.

- *Frames to the platform* (RFC 6455, section 5.2). Autobahn's general path checks for fragments,
  compression, tracing and chopped writes each time. An agent sends one shape all day (final,
  masked, not compressed); ``build_frame`` makes that five times cheaper. Integer arithmetic masks
  short payloads faster than the native helper; for longer ones the helper wins.
- *Frames from the platform.* ``whole_message`` cuts out the frame that nearly every message is: not
  fragmented, not masked, not compressed, shorter than 64 KiB. That costs a fifth of Autobahn's
  general path. Autobahn handles everything else, and everything that is wrong, as if
  ``whole_message`` had not looked.
- *UTF-8* of text messages (section 8.1), piece by piece: Python's decoder is faster than Autobahn's
  validators, native or not.
- *permessage-deflate* as platforms really speak it (RFC 7692). A message may end with a final block
  (BFINAL, section 7.2.3.4). There, zlib's decompressor ends and ignores what follows, so
  ``Deflate`` continues with a new one. Its dictionary is the last 32 KiB, because the next message
  may refer to them (section 7.2.3.2). A platform may agree on a window of 8 bits (section 7.1.2),
  with which zlib can't compress. The agent then reads with a larger window and sends its messages
  uncompressed, which is always allowed (section 6.1).
"""

from __future__ import annotations

import re
import zlib
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from functools import cache
from struct import pack
from typing import Any

from autobahn.exception import PayloadCorruptError, PayloadExceededError
from autobahn.websocket import HAS_NVX
from autobahn.websocket.compress import PerMessageDeflateOffer

# -- frames that are sent ------------------------------------------------------------------------


_TEXT = 0x81
_BINARY = 0x82
_MASKED = 0x80
#: From this size on Autobahn's native masker is clearly faster than integer arithmetic, in bytes.
_LONG = 4096


def mask_source(random_bytes: Callable[[int], bytes]) -> Iterator[bytes]:
    """Unpredictable masks of four bytes (RFC 6455, section 10.3), drawn by the kilobyte."""
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
    """Autobahn's native masker, if there is one. Importing it costs memory and time; an agent that
    never sends a long message does not pay for it."""
    if not HAS_NVX:
        return mask_by_integer
    from autobahn.nvx._xormasker import create_xor_masker

    def mask_natively(payload: bytes, mask: bytes) -> bytes:
        masked: bytes = create_xor_masker(mask, len(payload)).process(payload)
        return masked

    return mask_natively


# -- frames that arrive --------------------------------------------------------------------------


_TWO_BYTE_LENGTH = 126


def whole_message(data: bytes, start: int, limit: int) -> tuple[bytes, int] | None:
    """The payload of the frame that begins at ``start``, and where the next one begins.

    None unless the frame is complete, of the kind described above, at most ``limit`` bytes long,
    and valid UTF-8 if it is text. No fragmented message may be unfinished; the caller has to check
    that.
    """
    available = len(data)
    if available < start + 2:
        return None
    first, size = data[start], data[start + 1]
    if first != _TEXT and first != _BINARY:
        return None
    begin = start + 2
    if size >= _TWO_BYTE_LENGTH:
        if size != _TWO_BYTE_LENGTH or available < start + 4:
            return None
        begin = start + 4
        size = data[start + 2] << 8 | data[start + 3]
        if size < _TWO_BYTE_LENGTH:
            return None  # not the shortest form of the length: a protocol violation
    end = begin + size
    if available < end or size > limit:
        return None
    payload = data[begin:end]
    if first == _TEXT and not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError:
            return None
    return payload, end


# -- UTF-8 ---------------------------------------------------------------------------------------


_new_decoder = getincrementaldecoder("utf-8")


class Utf8Validator:
    """The interface that Autobahn expects of a validator."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """A new message begins."""
        self._decoder = _new_decoder()
        self._bytes = 0

    def validate(self, payload: bytes) -> tuple[bool, bool, int, int]:
        """Whether the message is valid so far, whether it could end here, and how many bytes were
        checked, of this piece and of the message. Once it is invalid, only ``reset`` helps."""
        try:
            self._decoder.decode(payload)
        except UnicodeDecodeError as error:
            # Counted from the start of the character, which may lie in the previous piece.
            return False, False, error.start, self._bytes + error.start
        self._bytes += len(payload)
        return True, not self._decoder.getstate()[0], len(payload), self._bytes


# -- permessage-deflate --------------------------------------------------------------------------


#: More final blocks in one message are an attack, not a flush: each costs a decompressor.
_MAX_FINAL_BLOCKS = 1000
_WINDOW_BYTES = 1 << zlib.MAX_WBITS
#: What a sender omits at the end of every message (RFC 7692, section 7.2.1).
_TAIL = b"\x00\x00\xff\xff"
_WINDOW_OF_8 = re.compile(r'((client|server)_max_window_bits *= *"?)8(?="?[ \t]*(?:[;,]|$))')


def offers() -> list[Any]:
    """What the agent offers. Not ``client_no_context_takeover``: a platform may ask for it without
    an offer, and a platform that repeats the offer would make every message seven times as long."""
    return [PerMessageDeflateOffer(accept_no_context_takeover=False)]


def with_readable_window(extensions: str) -> tuple[str, bool]:
    """The value of Sec-WebSocket-Extensions in an answer, with 9 bits in place of 8, which Autobahn
    refuses. Also says whether messages to the platform may be compressed."""
    sides = {found[2] for found in _WINDOW_OF_8.finditer(extensions)}
    return _WINDOW_OF_8.sub(r"\g<1>9", extensions), "client" not in sides


class Deflate:
    """The compression of one connection. Autobahn calls the methods."""

    EXTENSION_NAME = "permessage-deflate"

    def __init__(
        self, *, starts_anew_up: bool, starts_anew_down: bool, bits_up: int = zlib.MAX_WBITS
    ) -> None:
        """``starts_anew_up`` and ``starts_anew_down``: in this direction, no message refers to an
        earlier one. ``bits_up`` is the size of the window for sending."""
        self._starts_anew_up = starts_anew_up
        self._starts_anew_down = starts_anew_down
        self._bits_up = bits_up
        self._compressor: Any = None
        self._decompressor: Any = None
        #: The end of what was decompressed, for a decompressor that continues.
        self._window = b""
        self._final_blocks = 0
        self._has_just_begun = False

    # -- to the platform ---------------------------------------------------------------------

    def start_compress_message(self) -> None:
        if self._compressor is None or self._starts_anew_up:
            self._compressor = zlib.compressobj(wbits=-self._bits_up)

    def compress_message_data(self, data: bytes) -> bytes:
        compressed: bytes = self._compressor.compress(data)
        return compressed

    def end_compress_message(self) -> bytes:
        flushed: bytes = self._compressor.flush(zlib.Z_SYNC_FLUSH)
        return flushed.removesuffix(_TAIL)

    # -- from the platform -------------------------------------------------------------------

    def start_decompress_message(self) -> None:
        if self._decompressor is None or self._starts_anew_down:
            self._decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
            self._window = b""
        self._final_blocks = 0

    def decompress_message_data(self, data: bytes, max_output_len: int | None = None) -> bytes:
        """Raises ``PayloadExceededError`` for more than ``max_output_len`` bytes (None: no limit),
        before it makes them, and ``PayloadCorruptError``."""
        parts: list[bytes] = []
        left = max_output_len
        while True:
            # One byte more than allowed, to notice the excess; 0 would mean no limit.
            part = self._decompress(data, 0 if left is None else max(left, 0) + 1)
            parts.append(part)
            if left is not None:
                left -= len(part)
                if left < 0:
                    raise PayloadExceededError(f"more than {max_output_len} bytes")
            if not self._decompressor.eof:
                break
            data = self._decompressor.unused_data
            self._go_on_behind_a_final_block()
            if not data:
                break
        return b"".join(parts) if len(parts) > 1 else parts[0]

    def end_decompress_message(self) -> None:
        if not self._has_just_begun:  # no block is open that the tail could end
            self.decompress_message_data(_TAIL)

    def _go_on_behind_a_final_block(self) -> None:
        self._final_blocks += 1
        if self._final_blocks > _MAX_FINAL_BLOCKS:
            raise PayloadCorruptError(f"more than {_MAX_FINAL_BLOCKS} final blocks in a message")
        self._decompressor = zlib.decompressobj(-zlib.MAX_WBITS, zdict=self._window)
        self._has_just_begun = True

    def _decompress(self, data: bytes, limit: int) -> bytes:
        try:
            part: bytes = self._decompressor.decompress(data, limit)
        except zlib.error as error:
            raise PayloadCorruptError(f"invalid permessage-deflate data: {error}") from error
        if data:
            self._has_just_begun = False
        if part:
            self._window = (self._window + part[-_WINDOW_BYTES:])[-_WINDOW_BYTES:]
        return part
