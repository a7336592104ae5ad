"""Whoever speaks for the platform wants the agent's memory.

Each attack runs against a whole agent with the default limits; what counts is its peak of resident
memory, as the kernel counted it. Behind each attack an ordinary request is answered.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.security.hostile import (
    BINARY,
    BOUND_MIB,
    TEXT,
    Connection,
    HostilePlatform,
    ask,
    frame,
    request,
)

MIB = 1 << 20
#: Just below ``maxMessageSize``.
LARGEST = 16 * MIB - 1000
WIDE = "\U0001f600"
GET, SET = "GET_DEVICE_PARAMETERS", "SET_DEVICE_PARAMETERS"


def packed_maps(count: int, name: bytes, request_id: bytes) -> bytes:
    """A request with so many empty maps in its parameters, a byte each."""
    return (
        b"\x81\xa9operation\x81\xa7request\x83\xa2id"
        + (bytes((0xA0 | len(request_id),)) + request_id)
        + b"\xa4name"
        + (bytes((0xD9, len(name))) + name)
        + b"\xaaparameters\x81\xa1a\xdd"
        + count.to_bytes(4)
        + b"\x80" * count
    )


def texts(*payloads: bytes) -> Callable[[Connection], None]:
    """Send these, and wait for the answer of each."""

    def attack(connection: Connection) -> None:
        for payload in payloads:
            connection.send(frame(BINARY if payload[0] & 0x80 else TEXT, payload))
            connection.answers(1)

    return attack


def ids(connection: Connection) -> None:
    """60 requests with ids of a million wide letters each."""
    for number in range(60):
        name = (GET, SET, "SET_CLOCK_EQUIPMENT", "NOBODY")[number % 4]
        connection.send(frame(TEXT, request(name, {}, f"{number}{WIDE * MIB}")))
        connection.answers(1)


def names_of_parameters(connection: Connection) -> None:
    """60 requests with a parameter whose name has a million wide letters."""
    for number in range(60):
        parameters = [{"name": f"{number}{WIDE * MIB}", "value": {"string": 1}}]
        connection.send(frame(TEXT, request(GET, parameters, str(number))))
        connection.answers(1)


def values(connection: Connection) -> None:
    """Writing values of two million wide letters, again and again."""
    for number in range(40):
        variables = [{"name": "device.clock", "value": f"{number}{WIDE * (MIB // 2)}"}]
        connection.send(frame(TEXT, request(SET, {"variableList": variables}, str(number))))
        connection.answers(1)


def maps(connection: Connection) -> None:
    """Requests that cost ninety times in memory what they cost on the wire."""
    for number in range(40):
        connection.send(frame(BINARY, packed_maps(49_000, b"NOBODY", b"%d" % number)))
        connection.answers(1)


ATTACKS: dict[str, Callable[[Connection], None]] = {
    "ids": ids,
    "names of parameters": names_of_parameters,
    "values": values,
    "maps": maps,
    "a variable of 16 MiB": texts(request(GET, {"variableList": ["x" * LARGEST]})),
    "a variable of 16 MiB with a wide letter": texts(
        request(GET, {"variableList": ["x" * (LARGEST - 10) + WIDE]})
    ),
    "a variable of 4 MiB with a wide letter": texts(
        request(GET, {"variableList": ["x" * (4 * MIB - 1000) + WIDE]})
    ),
    "an id of 16 MiB": texts(request(GET, {}, WIDE * (LARGEST // 4))),
    "a name of 16 MiB": texts(request(WIDE * (LARGEST // 4))),
    "one variable 240,000 times": texts(
        request(GET, {"variableList": ["device.upTime"] * 240_000})
    ),
    "empty lists for 16 MiB": texts(request(GET, {"variableList": [[]] * (LARGEST // 4)})),
    "empty maps for 16 MiB": texts(packed_maps(LARGEST, GET.encode(), b"1")),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_message_takes_the_memory(tmp_path: Path, attack: str) -> None:
    """Whatever arrives, resident memory stays below the bound, one message of 16 MiB included; and
    every request is answered."""
    with HostilePlatform(tmp_path) as platform:
        connection = platform.accept()
        ATTACKS[attack](connection)
        assert ask(connection)["resultCode"] == "NOT_SUPPORTED"
        assert platform.peak_mib() < BOUND_MIB


def test_requests_that_wait_take_the_memory(tmp_path: Path) -> None:
    """What was read and is not answered is bounded by what it may cost in memory, not by its size
    on the wire: here each request waits for a time source that never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        source = f"timeSource=ntp://127.0.0.1:{mute.getsockname()[1]}\n"
        with HostilePlatform(tmp_path, dispatcher=source) as platform:
            connection = platform.accept()
            data = [
                frame(BINARY, packed_maps(49_000, b"SYNCHRONIZE_CLOCK", b"%d" % number))
                for number in range(200)
            ]
            for one in data:
                if not connection.press(one, 1, patience_s=1.0):
                    break
            assert platform.peak_mib() < BOUND_MIB


def test_answers_that_nobody_reads_take_the_memory(tmp_path: Path) -> None:
    """Answers that the platform does not take wait on the disk, and requests are not read while
    many wait."""
    with HostilePlatform(tmp_path) as platform:
        connection = platform.accept()
        names = [f"{number}{'x' * 1000}" for number in range(1000)]
        for number in range(100):
            message = frame(TEXT, request(GET, {"variableList": names}, str(number)))
            if not connection.press(message, 1, patience_s=2.0):
                break
        assert platform.peak_mib() < BOUND_MIB


def test_the_bound_is_the_one_that_is_promised() -> None:
    """SECURITY.md names the figure that these tests use."""
    page = (Path(__file__).resolve().parent.parent.parent / "SECURITY.md").read_text()
    assert f"{BOUND_MIB} MiB" in page
    assert json.dumps(BOUND_MIB) == "160"
