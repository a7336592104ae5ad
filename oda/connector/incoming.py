"""Reads the frame that nearly every message from the platform is (RFC 6455, section 5.2).

A message in one frame, not masked, not compressed and shorter than 64 KiB is cut out here, for a
fifth of what Autobahn's general way costs. Everything else, and everything that is wrong, is left
to Autobahn as if nobody had looked.

Pure.
"""

from __future__ import annotations

_TEXT = 0x81
_BINARY = 0x82
_TWO_BYTE_LENGTH = 126


def whole_message(data: bytes, start: int, limit: int) -> tuple[bytes, int] | None:
    """The payload of the frame that begins at ``start``, and where the next one begins.

    None unless it is complete, of the kind described above, at most ``limit`` bytes long, and
    valid UTF-8 if it is text. Nothing else may be unfinished: the caller knows whether a
    fragmented message is.
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
            return None  # not the shortest form of the length: a violation
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
