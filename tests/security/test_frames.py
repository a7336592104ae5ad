"""Whoever speaks for the platform sends frames that cost more than they are worth.

The memory is the peak of a whole agent, as the kernel counted it. The amounts are bounded, not the
time: what each attack writes is enough to take several times the bound from an agent that keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from oda.peer_bounds import Pieces
from tests.security.hostile import (
    BINARY,
    BOUND_MIB,
    CLOSE,
    PING,
    TEXT,
    HostilePlatform,
    ask,
    frame,
    request,
)

MIB = 1 << 20


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[HostilePlatform]:
    """It runs an agent with the default limits."""
    with HostilePlatform(tmp_path) as running:
        yield running


def test_pings_while_nothing_is_read(platform: HostilePlatform) -> None:
    """Pongs that the platform does not read are not kept: only the newest ping is answered, when
    the network takes it. These are 32 MB of pings."""
    connection = platform.accept()
    begin_mib = platform.resident_mib()
    connection.press(frame(PING, b"x" * 125) * 1000, 250)
    assert platform.peak_mib() < begin_mib + 20


def test_empty_fragments_without_end(platform: HostilePlatform) -> None:
    """A fragment that holds nothing costs nothing: 300,000 of them leave nothing."""
    connection = platform.accept()
    begin_mib = platform.resident_mib()
    connection.send(frame(TEXT, b"", fin=False))
    connection.send(frame(0, b"", fin=False) * 10_000, times=30)
    connection.send(frame(0, request("NO_SUCH_OPERATION")))
    connection.answers(1)  # so all of them have been read
    assert platform.peak_mib() < begin_mib + 5


def test_a_message_in_fragments_of_two_bytes(platform: HostilePlatform) -> None:
    """A message costs what it holds, whatever the size of its fragments."""
    connection = platform.accept()
    begin_mib = platform.resident_mib()
    connection.send(frame(TEXT, b"{", fin=False))
    connection.send(frame(0, b"  ", fin=False) * 8192, times=MIB // 4 // 8192)
    connection.send(frame(0, request("NO_SUCH_OPERATION")[1:]))
    (answer,) = connection.answers(1)
    assert json.loads(answer)["operation"]["response"]["resultCode"] == "NOT_SUPPORTED"
    assert platform.peak_mib() < begin_mib + 10


def test_a_close_frame_before_more(platform: HostilePlatform) -> None:
    """Behind a close frame nothing is kept."""
    connection = platform.accept()
    connection.send(frame(CLOSE, b"\x03\xe8"))
    with suppress(OSError):  # the agent ends the connection, as it should
        connection.send(frame(BINARY, b"x" * 65536), times=2000)
    assert platform.peak_mib() < BOUND_MIB


def test_pieces_are_what_came() -> None:
    """However a message is cut, its pieces are few and joined they are the message."""
    pieces = Pieces()
    for number in range(100_000):
        pieces.extend([b"", bytes([number % 256]), b""])
    assert b"".join(pieces) == bytes(number % 256 for number in range(100_000))
    assert len(pieces) < 100_000 // 256 + 256


def test_the_agent_serves_after_a_flood_of_pings(platform: HostilePlatform) -> None:
    """A flood that is read costs the platform nothing that it asks for."""
    connection = platform.accept()
    for number in range(20):
        connection.send(frame(PING, b"x" * 125) * 100)
        assert ask(connection, str(number))["resultCode"] == "NOT_SUPPORTED"
