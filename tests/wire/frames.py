"""WebSocket frames written by hand, wrong ones included (RFC 6455, section 5.2)."""

from __future__ import annotations

import hashlib
import struct
from base64 import b64encode
from collections.abc import Callable, Iterator

from tests.wire.platform import RawPeer, RawPlatform

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = None,
    length: int | None = None,
    extended: int | None = None,
) -> bytes:
    """One frame. ``length`` claims another length; ``extended`` forces the 16 or 64 bit form."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size = len(payload) if length is None else length
    bit = 0x80 if mask else 0
    if extended == 64 or (extended is None and size > 0xFFFF):
        head = struct.pack("!BBQ", first, bit | 127, size)
    elif extended == 16 or (extended is None and size > 125):
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BB", first, bit | size)
    if mask:
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return head + (mask or b"") + payload


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    """A close frame."""
    return frame(CLOSE, (b"" if code is None else struct.pack("!H", code)) + reason)


def upgrade(extra: bytes = b"") -> Callable[[RawPeer], None]:
    """Answers the upgrade correctly; ``extra`` are further header lines."""

    def answer(peer: RawPeer) -> None:
        lines = peer.received.split(b"\r\n\r\n")[0].split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines[1:])
        accept = b64encode(hashlib.sha1(headers[b"Sec-WebSocket-Key"] + _GUID).digest())
        assert peer.transport is not None
        peer.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n" + extra + b"\r\n"
        )
        peer.received = peer.received.partition(b"\r\n\r\n")[2]

    return answer


def raw_server(extra: bytes = b"") -> RawPlatform:
    """A platform that opens the WebSocket and leaves the frames to the test."""
    return RawPlatform(upgrade(extra))


Frame = tuple[int, bytes, bool, int]


def parse(data: bytes) -> Iterator[Frame]:
    """The client's frames as ``(opcode, payload, fin, rsv)``. Every one has to be masked."""
    while data:
        first, second = data[0], data[1]
        assert second & 0x80, "a client has to mask"
        size, at = second & 0x7F, 2
        if size == 126:
            size, at = struct.unpack("!H", data[2:4])[0], 4
            assert size > 125
        elif size == 127:
            size, at = struct.unpack("!Q", data[2:10])[0], 10
            assert size > 0xFFFF
        mask, body = data[at : at + 4], data[at + 4 : at + 4 + size]
        assert len(body) == size
        key = (mask * (size // 4 + 1))[:size]
        payload = (int.from_bytes(body, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
        yield first & 0x0F, payload, bool(first & 0x80), first >> 4 & 7
        data = data[at + 4 + size :]
