"""SNTP version 4 packets: the request, and the content of an answer. Pure.

Source: RFC 4330 (and RFC 5905 for the era). A packet has 48 bytes; its timestamps count seconds
since 1900 in 32.32 fixed point and roll over in 2036.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

NONCE_BYTES = 8

_PACKET = struct.Struct(">BBbb11I")
_LENGTH = _PACKET.size
_REQUEST_HEAD = bytes([4 << 3 | 3])  # no leap warning, version 4, mode client
_SERVER, _BROADCAST = 4, 5
_UNSYNCHRONIZED = 3
_MAX_STRATUM = 15
#: Seconds from 1900 to 1970.
_EPOCH_S = 2_208_988_800
_ERA_S = 1 << 32


class ServerTime(NamedTuple):
    """A server's answer: its time of sending, in ms since the Unix epoch, and its processing
    time."""

    sent_at_ms: float
    processing_s: float


class NotAnAnswer(Exception):  # noqa: N818 - it is no error, the packet is just not for us
    """The packet does not belong to the request; the real answer may still arrive."""


def build_request(nonce: bytes) -> bytes:
    """A request. The nonce (8 bytes) replaces the time of sending, which the server returns. So the
    request needs and reveals no clock, and a blind forgery of the answer is detected."""
    return _REQUEST_HEAD + bytes(_LENGTH - 1 - NONCE_BYTES) + nonce


def parse_answer(packet: bytes, nonce: bytes) -> ServerTime:
    """The server's time.

    Raises ``NotAnAnswer`` for a packet that does not answer this request, and ``ValueError`` with
    the reason when the server has no time to give.
    """
    if len(packet) < _LENGTH:
        raise NotAnAnswer
    head, stratum, *_ = fields = _PACKET.unpack_from(packet)
    reference, received, sent = fields[6], fields[11:13], fields[13:15]
    if head & 7 != _SERVER or packet[24:32] != nonce:
        raise NotAnAnswer
    if stratum == 0:
        code = struct.pack(">I", reference).rstrip(b"\0").decode("ascii", "replace")
        raise ValueError(f"the server refuses ({code})")
    if head >> 6 == _UNSYNCHRONIZED or stratum > _MAX_STRATUM or sent == (0, 0):
        raise ValueError("the server has no synchronised time")
    sent_s = _unix_s(*sent)
    return ServerTime(sent_s * 1000, max(0.0, sent_s - _unix_s(*received)))


def _unix_s(seconds: int, fraction: int) -> float:
    """Times with the highest bit clear belong to the era that begins in 2036."""
    era_s = 0 if seconds & 0x8000_0000 else _ERA_S
    return seconds + era_s - _EPOCH_S + fraction / _ERA_S
