"""What a platform may answer to the upgrade, and what an operator reads of a refusal."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from oda.settings import Auth, FrameType
from tests.wire.fakes import KEY, FakeDispatcher, echo
from tests.wire.frames import BINARY, CLOSE, TEXT, close, frame, parse, raw_server, upgrade
from tests.wire.platform import RawPeer, RawPlatform, say
from tests.wire.world import World, connector_settings

MakeWorld = Callable[..., World]
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


def warnings(world: World) -> list[str]:
    """The lines an operator sees about a connection that failed or broke."""
    return [line for line in world.log.lines if "connecting again in" in line]


def in_chunks(answer: Callable[[RawPeer], None], size: int | None) -> RawPlatform:
    """A platform whose answer arrives in pieces of at most this size (None: as it comes)."""

    def answer_in_chunks(peer: RawPeer) -> None:
        transport: Any = peer.transport
        transport.chunk = size
        answer(peer)

    return RawPlatform(answer_in_chunks)


def say_then_upgrade(before: bytes) -> Callable[[RawPeer], None]:
    """Says something before it accepts the upgrade."""
    accept = upgrade()

    def answer(peer: RawPeer) -> None:
        assert peer.transport is not None
        peer.transport.write(before)
        accept(peer)

    return answer


# -- an upgrade that is accepted -------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nX: Stra\xdfe\r\n\r\n",
    ],
    ids=["100", "102 twice", "103"],
)
@pytest.mark.parametrize("chunk", [None, 1])
def test_interim_answers_before_the_upgrade(world: World, before: bytes, chunk: int | None) -> None:
    """Answers from 100 to 199 announce the real one and are skipped (RFC 9110, section 15.2)."""
    world.network.default = in_chunks(say_then_upgrade(before), chunk)
    world.start()
    assert world.is_connected


@pytest.mark.parametrize("value", [b"Stra\xdfe", b"\x85\x0b\x1c", b"\xe2\x82\xac", bytes([0, 7])])
def test_any_byte_in_a_header(world: World, value: bytes) -> None:
    """A header of no interest may hold any byte (RFC 9110, section 5.5: obs-text)."""
    world.network.default = raw_server(b"X-Site: " + value + b"\r\n")
    world.start()
    assert world.is_connected


def test_origin_is_sent_where_configured(make_world: MakeWorld) -> None:
    """For platforms that ask for one."""
    world = make_world(settings=connector_settings(origin="https://example.org")).start()
    assert world.peer.http_headers["origin"] == "https://example.org"


@pytest.mark.parametrize(("port", "host"), [(80, "192.0.2.1"), (9955, "192.0.2.1:9955")])
def test_the_host_header(make_world: MakeWorld, port: int, host: str) -> None:
    """The default port is left out (RFC 6455, section 4.1)."""
    world = make_world(settings=connector_settings(port=port)).start()
    assert world.peer.http_headers["host"] == host


# -- an upgrade that is refused --------------------------------------------------------------


@pytest.mark.parametrize("chunk", [None, 1, 100_000])
@pytest.mark.parametrize(
    "body",
    [b"", b"<html>Stra\xdfe</html>", b"\r\n\r\n", b"x" * 60_000, b"\x81\x05hello", b"x" * 200_000],
    ids=["none", "page", "lines", "long", "frame", "endless"],
)
def test_a_refusal_is_the_same_whatever_its_body(
    world: World, body: bytes, chunk: int | None
) -> None:
    """Status, hint, lane and Retry-After are those of the head."""
    head = b"HTTP/1.1 403 Verbot\xe9n\r\nRetry-After: 30\r\nX: \xdf\r\n\r\n"
    world.network.default = in_chunks(say(head + body), chunk)
    world.start()
    (line,) = warnings(world)
    assert "HTTP status 403 ('Verbotén') (may this device connect" in line
    assert "connecting again in 75.0 s" in line  # 30 s, and half of the window of 90 s


def test_a_long_body_behind_a_head_in_two_pieces(world: World) -> None:
    """However much comes with the end of the head, the head is what counts."""
    platform = world.network.default = RawPlatform(say(b"HTTP/1.1 401 U", and_close=False))
    world.start()
    assert platform.peers[0].transport is not None
    platform.peers[0].transport.write(b"nauthorized\r\n\r\n" + b"x" * 100_000)
    world.settle()
    assert "HTTP status 401" in warnings(world)[0]


def test_retry_after_as_a_date(world: World) -> None:
    """The answer's own Date says what time it is at the platform: no clock of the device's is
    needed."""
    world.network.default = RawPlatform(
        say(
            b"HTTP/1.1 503 Busy\r\nDate: Fri, 31 Dec 1999 23:59:00 GMT\r\n"
            b"Retry-After: Sat, 01 Jan 2000 00:00:40 GMT\r\n\r\n"
        )
    )
    world.start()
    assert "connecting again in 145.0 s" in warnings(world)[0]  # 100 s, and half of 90 s


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://elsewhere.example/x", ["'https://elsewhere.example/x'", "not followed: see"]),
        ("https://192.0.2.1:9955/south/v80/sessions/dev-1", ["set secure=true)"]),
        ("https://192.0.2.1/south/v80/sessions/dev-1", ["set secure=true and port=443"]),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(
    world: World, status: int, location: str, words: list[str]
) -> None:
    """The line says where it leads, and what to set where only TLS is missing."""
    world.network.default = RawPlatform(
        say(f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\n\r\n".encode())
    )
    world.start()
    (line,) = warnings(world)
    assert f"HTTP status {status}" in line
    assert all(word in line for word in words), line
    assert len(world.network.tcpClients) == 1


def test_a_redirect_does_not_show_the_key(make_world: MakeWorld) -> None:
    """A platform that repeats the query in Location repeats the key."""
    world = make_world(settings=connector_settings(auth=Auth.QUERY))

    def answer(peer: RawPeer) -> None:
        assert peer.transport is not None
        resource = peer.received.split()[1]
        peer.transport.write(b"HTTP/1.1 302 x\r\nLocation: https://e" + resource + b"\r\n\r\n")

    world.network.default = RawPlatform(answer)
    world.start()
    (line,) = warnings(world)
    assert "https://e/south/v80/sessions/dev-1?X-ApiKey=***" in line
    assert KEY not in line


# -- compression -----------------------------------------------------------------------------


def compressing(make_world: MakeWorld, parameters: str = "") -> World:
    """A connection with compression agreed on, with these parameters in the answer."""
    world = make_world(
        settings=connector_settings(compression=True), dispatcher=FakeDispatcher(echo)
    )
    world.network.default = raw_server(f"{DEFLATE}{parameters}\r\n".encode())
    return world.start()


def send(world: World, *frames: bytes) -> list[tuple[int, bytes, bool, int]]:
    """Let these frames come from the platform; the messages that were sent since."""
    peer = world.network.default.peers[0]  # type: ignore[union-attr]
    peer.received = b""
    peer.transport.write(b"".join(frames))
    world.settle()
    return [found for found in parse(peer.received) if found[0] in (TEXT, BINARY)]


def test_messages_that_end_with_a_final_block(make_world: MakeWorld) -> None:
    """Each of them is read and answered (RFC 7692, section 7.2.3.4)."""
    world = compressing(make_world)
    messages = []
    for number in range(3):
        compressor = zlib.compressobj(wbits=-15)
        body = compressor.compress(b"request %d" % number) + compressor.flush(zlib.Z_FINISH)
        messages.append(frame(TEXT, body + b"\0", rsv=4))
    reader: Any = zlib.decompressobj(wbits=-15)
    answers = [
        reader.decompress(body + b"\0\0\xff\xff") for _, body, _, _ in send(world, *messages)
    ]
    assert answers == [b"request 0", b"request 1", b"request 2"]


@pytest.mark.parametrize(
    ("parameters", "is_compressed"),
    [
        ("; server_max_window_bits=8", True),
        ("; client_max_window_bits=8", False),
        ("; client_max_window_bits=8; server_max_window_bits=8", False),
        ("; client_max_window_bits=9", True),
    ],
)
def test_a_small_window(make_world: MakeWorld, parameters: str, is_compressed: bool) -> None:
    """A window of 8 bits, which zlib can't compress with, is no reason not to connect."""
    world = compressing(make_world, parameters)
    assert world.is_connected
    (answer,) = send(world, frame(TEXT, b"hello"))
    assert (answer[3] == 4) is is_compressed
    if not is_compressed:
        assert answer[1] == b"hello"


def test_no_context_takeover_is_obeyed(make_world: MakeWorld) -> None:
    """It is not offered, and a platform may ask for it all the same (RFC 7692, section 7.1.1.2):
    every message can be read by itself then."""
    world = compressing(make_world, "; client_no_context_takeover")
    for answer in send(world, *[frame(TEXT, b"the same text again")] * 3):
        reader = zlib.decompressobj(wbits=-15)
        assert reader.decompress(answer[1] + b"\0\0\xff\xff") == b"the same text again"


# -- closes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1003, 1007, 1008])
@pytest.mark.parametrize("frame_type", list(FrameType))
@pytest.mark.parametrize("has_sent", [True, False])
def test_a_close_after_binary_frames_hints_at_the_frames(
    make_world: MakeWorld, code: int, frame_type: FrameType, has_sent: bool
) -> None:
    """A platform that takes text only says so by its close, if at all."""
    world = make_world(settings=connector_settings(frame_type=frame_type)).start()
    if has_sent:
        world.uplink(b"{}")
    world.peer.sendCloseFrame(code)
    world.peer.transport.loseConnection()
    world.settle()
    (line,) = warnings(world)
    assert f"code {code}" in line
    assert ("see frameType" in line) is (has_sent and frame_type is FrameType.BINARY)


def test_bad_gateway_is_a_close(world: World) -> None:
    """1014 is in the IANA registry: a close, and no breach of the protocol."""
    world.network.default = platform = raw_server()
    world.start()
    peer = platform.peers[0]
    assert peer.transport is not None
    peer.transport.write(close(1014, b"upstream"))
    peer.transport.loseConnection()
    world.settle()
    (line,) = warnings(world)
    assert "closed by the platform with code 1014 ('upstream')" in line
    assert "broke the protocol" not in line


def test_the_first_close_frame_counts(world: World) -> None:
    """Behind the first close frame nothing counts, no second one either (RFC 6455, section
    5.5.1): a proxy may echo ours."""
    world.network.default = platform = raw_server()
    world.start()
    peer = platform.peers[0]
    assert peer.transport is not None
    peer.transport.write(close(1011, b"failed") + close(1000))
    peer.transport.loseConnection()
    world.settle()
    (line,) = warnings(world)
    assert "code 1011 ('failed')" in line
    closes = [payload for opcode, payload, _, _ in parse(peer.received) if opcode == CLOSE]
    assert closes == [struct.pack("!H", 1000)]
