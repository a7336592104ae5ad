"""SNTP packets."""

from __future__ import annotations

import struct

import pytest

from oda.datastreams.sntp import NotAnAnswer, build_request, parse_answer

NONCE = b"\x01\x02\x03\x04\x05\x06\x07\x08"
#: 2023-11-14T22:13:20Z, 1700000000 s since 1970, in seconds since 1900.
NOVEMBER_2023 = 3_908_988_800


def packet(
    *,
    leap: int = 0,
    mode: int = 4,
    stratum: int = 2,
    reference: bytes = b"\x7f\0\0\1",
    nonce: bytes = NONCE,
    received: tuple[int, int] = (NOVEMBER_2023, 0),
    sent: tuple[int, int] = (NOVEMBER_2023, 0),
) -> bytes:
    head = struct.pack(">BBbb", leap << 6 | 4 << 3 | mode, stratum, 6, -20)
    return (
        head
        + bytes(8)
        + reference
        + struct.pack(">2I", NOVEMBER_2023 - 60, 0)
        + nonce
        + struct.pack(">4I", *received, *sent)
    )


def test_a_request() -> None:
    """48 bytes: version 4, mode client, and nothing else but the nonce at the end."""
    request = build_request(NONCE)
    assert len(request) == 48
    assert request[0] == 0x23
    assert request[1:40] == bytes(39)
    assert request[40:] == NONCE


def test_the_time_of_an_answer() -> None:
    """The time of sending with its fraction, and the time the server needed."""
    answer = parse_answer(packet(received=(NOVEMBER_2023, 0), sent=(NOVEMBER_2023, 1 << 31)), NONCE)
    assert answer.sent_at_ms == 1_700_000_000_500
    assert answer.processing_s == 0.5


def test_times_after_2036() -> None:
    """Second 0 of the next era is 2036-02-07T06:28:16Z; times go on from there."""
    answer = parse_answer(packet(received=(4, 0), sent=(4, 0)), NONCE)
    assert answer.sent_at_ms == (2_085_978_496 + 4) * 1000


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        packet()[:47],
        packet(nonce=bytes(8)),
        packet(mode=3),
        packet(mode=5),
        packet(mode=6),
    ],
)
def test_a_packet_that_is_no_answer(foreign: bytes) -> None:
    """Too short, of another mode, or with another nonce: not ours, whoever sent it."""
    with pytest.raises(NotAnAnswer):
        parse_answer(foreign, NONCE)


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (packet(stratum=0, reference=b"RATE"), r"refuses \(RATE\)"),
        (packet(leap=3), "no synchronised time"),
        (packet(stratum=16), "no synchronised time"),
        (packet(sent=(0, 0)), "no synchronised time"),
    ],
)
def test_a_server_without_time(refusal: bytes, reason: str) -> None:
    """A kiss of death and a server that isn't synchronised are errors with their reason."""
    with pytest.raises(ValueError, match=reason):
        parse_answer(refusal, NONCE)


def test_bytes_behind_the_packet_are_ignored() -> None:
    """Authentication follows the 48 bytes in some answers."""
    assert parse_answer(packet() + bytes(20), NONCE).sent_at_ms == 1_700_000_000_000
