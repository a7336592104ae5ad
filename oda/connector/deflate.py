"""permessage-deflate as platforms really speak it (RFC 7692), where Autobahn knows less.

- A message may end with a final block (BFINAL, section 7.2.3.4). zlib's decompressor is at its end
  then and ignores what follows, so a new one goes on, with the last 32 KiB as its dictionary:
  the next message may refer to them (section 7.2.3.2).
- A window of 8 bits may be agreed upon (section 7.1.2). zlib can't compress with it. For what is
  received a larger window does as well; messages that are sent go out uncompressed, which is always
  allowed (section 6.1).
"""

from __future__ import annotations

import re
import zlib
from typing import Any

from autobahn.exception import PayloadCorruptError, PayloadExceededError
from autobahn.websocket.compress import PerMessageDeflateOffer

#: More final blocks in one message are no way to flush, but an attack: each costs a decompressor.
_MAX_FINAL_BLOCKS = 1000
_WINDOW_BYTES = 1 << zlib.MAX_WBITS
#: What a sender leaves out at the end of every message (RFC 7692, section 7.2.1).
_TAIL = b"\x00\x00\xff\xff"
_WINDOW_OF_8 = re.compile(r'((client|server)_max_window_bits *= *"?)8(?="?[ \t]*(?:[;,]|$))')


def offers() -> list[Any]:
    """What is offered. Not ``client_no_context_takeover``: a platform may say so by itself, and one
    that repeats the offer would make every message seven times as long."""
    return [PerMessageDeflateOffer(accept_no_context_takeover=False)]


def with_readable_window(extensions: str) -> tuple[str, bool]:
    """The value of Sec-WebSocket-Extensions in an answer, with 9 bits for 8, which Autobahn
    refuses; and whether messages to the platform may be compressed."""
    sides = {found[2] for found in _WINDOW_OF_8.finditer(extensions)}
    return _WINDOW_OF_8.sub(r"\g<1>9", extensions), "client" not in sides


class Deflate:
    """The compression of one connection, for Autobahn, which calls the methods."""

    EXTENSION_NAME = "permessage-deflate"

    def __init__(
        self, *, starts_anew_up: bool, starts_anew_down: bool, bits_up: int = zlib.MAX_WBITS
    ) -> None:
        """``starts_anew_up`` and ``starts_anew_down``: no message refers to those before it, in
        this direction. ``bits_up`` is the size of the window of what is sent."""
        self._starts_anew_up = starts_anew_up
        self._starts_anew_down = starts_anew_down
        self._bits_up = bits_up
        self._compressor: Any = None
        self._decompressor: Any = None
        #: The end of what was decompressed, for a decompressor that goes on.
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
        without having made them, and ``PayloadCorruptError``."""
        parts: list[bytes] = []
        left = max_output_len
        while True:
            # One byte more than allowed, to see it; 0 would mean no limit.
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
        if not self._has_just_begun:  # there is no block that the tail could end
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
