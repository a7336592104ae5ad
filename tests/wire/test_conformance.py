"""With an echo dispatcher the connector is a correct WebSocket client (RFC 6455, RFC 7692).

The cases follow the sections of the Autobahn test suite. A raw peer writes the frames, so that
wrong ones can be written, too; the agent's own pings are left out of what is compared.
"""

from __future__ import annotations

import itertools
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from oda.settings import FrameType
from tests.wire.fakes import FakeDispatcher, echo
from tests.wire.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    close,
    frame,
    parse,
    raw_server,
)
from tests.wire.platform import RawPeer
from tests.wire.world import World, connector_settings

MakeWorld = Callable[..., World]


class Case:
    """A connector with an echo dispatcher, and the raw peer it is connected to."""

    def __init__(self, make_world: MakeWorld, extra: bytes = b"", **settings: Any) -> None:
        self.world = make_world(
            settings=connector_settings(**settings), dispatcher=FakeDispatcher(echo)
        )
        self.platform = raw_server(extra)
        self.world.network.default = self.platform
        self.world.start()
        assert self.world.is_connected
        self.peer: RawPeer = self.platform.peers[0]

    def send(self, *frames: bytes, chunk: int | None = None) -> Case:
        self.world.wire.server.chunk = chunk
        assert self.peer.transport is not None
        self.peer.transport.write(b"".join(frames))
        self.world.settle()
        return self

    @property
    def frames(self) -> list[Frame]:
        """What the agent sent, without its own pings."""
        return [found for found in parse(self.peer.received) if found[0] != PING]

    @property
    def got(self) -> list[tuple[int, bytes]]:
        return [(opcode, payload) for opcode, payload, _, _ in self.frames]

    def refused_with(self, code: int) -> bool:
        """The last frame is a close with that code, and the agent is connected again later."""
        opcode, payload = self.got[-1]
        is_close = opcode == CLOSE and struct.unpack("!H", payload[:2])[0] == code
        assert self.peer.transport is not None
        self.peer.transport.write(close(code))
        self.peer.transport.loseConnection()
        self.world.pass_time(120)
        return is_close and self.world.is_connected


@pytest.fixture
def case(make_world: MakeWorld) -> Case:
    return Case(make_world)


# -- 1: framing, and 9: sizes ----------------------------------------------------------------

SIZES = [0, 1, 124, 125, 126, 127, 128, 65535, 65536, 65537, 1_000_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_echo_of_every_size(case: Case, opcode: int, size: int) -> None:
    """Text comes back as text and binary as binary, in one frame, from empty to large."""
    payload = b"*" * size
    case.send(frame(opcode, payload))
    assert case.frames == [(opcode, payload, True, 0)]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_echo_of_sixteen_mebibytes(case: Case, opcode: int) -> None:
    """The largest message the default settings allow goes both ways."""
    payload = b"\x2a" * (16 * 1024 * 1024)
    case.send(frame(opcode, payload), chunk=65536)
    assert len(case.peer.received) > len(payload)
    case.world.pass_time(1)
    assert case.got == [(opcode, payload)]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 997])
def test_frames_in_pieces(case: Case, chunk: int) -> None:
    """However the bytes are cut on their way, the messages are the same."""
    case.send(frame(TEXT, "Hellö €".encode()), frame(BINARY, b"\xff" * 300), chunk=chunk)
    assert case.got == [(TEXT, "Hellö €".encode()), (BINARY, b"\xff" * 300)]


def test_order_is_kept(case: Case) -> None:
    """Many small messages come back in their order."""
    payloads = [b"%d" % number for number in range(2000)]
    case.send(*(frame(BINARY, payload) for payload in payloads))
    case.world.pass_time(1)
    acked = 0
    while [payload for opcode, payload in case.got if opcode == BINARY] != payloads:
        # the window is full: answer the newest ping, as a platform would
        pings = [payload for opcode, payload, _, _ in parse(case.peer.received) if opcode == PING]
        assert len(pings) > acked
        acked = len(pings)
        case.send(frame(PONG, pings[-1]))
        case.world.pass_time(1)


# -- which frame an answer goes out in -------------------------------------------------------


@pytest.mark.parametrize(
    ("frame_type", "opcode", "payload", "answer"),
    [
        (FrameType.BINARY, TEXT, b'{"a":1}', BINARY),
        (FrameType.BINARY, BINARY, b'{"a":1}', BINARY),
        (FrameType.TEXT, TEXT, b'{"a":1}', TEXT),
        (FrameType.TEXT, BINARY, b'{"a":1}', TEXT),
        (FrameType.TEXT, TEXT, b"[1]", TEXT),
        (FrameType.TEXT, BINARY, b"[1]", BINARY),
        (FrameType.BINARY, TEXT, b"[1]", TEXT),
        (FrameType.TEXT, BINARY, b"\x80", BINARY),
        (FrameType.TEXT, BINARY, b"\xa0", BINARY),
        (FrameType.TEXT, TEXT, b"\xc2\xa0", TEXT),
        (FrameType.BINARY, TEXT, b"", TEXT),
        (FrameType.BINARY, BINARY, b"", BINARY),
    ],
)
def test_frame_of_an_answer(
    make_world: MakeWorld, frame_type: FrameType, opcode: int, payload: bytes, answer: int
) -> None:
    """JSON goes as configured (OpenGate protocol, "Connection"), MessagePack and CBOR as binary,
    anything else the way it came."""
    case = Case(make_world, frame_type=frame_type).send(frame(opcode, payload))
    assert case.got == [(answer, payload)]


# -- 2: pings and pongs ----------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"Hello", bytes(range(125)), b"\xff" * 125])
def test_pings_are_answered(case: Case, payload: bytes) -> None:
    """A pong repeats the payload of its ping."""
    case.send(frame(PING, payload))
    assert case.got == [(PONG, payload)]


def test_many_pings_are_answered_in_order(case: Case) -> None:
    """Ten pings in one go, ten pongs in their order, also byte by byte."""
    pings = [frame(PING, b"payload-%d" % number) for number in range(10)]
    case.send(*pings).send(*pings, chunk=1)
    assert case.got == [(PONG, b"payload-%d" % number) for number in range(10)] * 2


def test_oversized_ping_is_refused(case: Case) -> None:
    """A control frame has at most 125 bytes."""
    assert case.send(frame(PING, b"x" * 126)).refused_with(1002)


def test_unsolicited_pongs_are_ignored(case: Case) -> None:
    """A pong nobody asked for changes nothing, and a ping after it is answered."""
    case.send(frame(PONG), frame(PONG, b"unsolicited"), frame(PING, b"p"))
    assert case.got == [(PONG, b"p")]


# -- 3 and 4: reserved bits and opcodes ------------------------------------------------------


@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
def test_reserved_bits_are_refused(case: Case, opcode: int, rsv: int) -> None:
    """A reserved bit without an extension ends the connection; what came before is answered."""
    case.send(frame(TEXT, b"before"), frame(opcode, b"\x03\xe8", rsv=rsv), frame(PING))
    assert (TEXT, b"before") not in case.got[1:]
    assert case.refused_with(1002)


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("payload", [b"", b"reserved"])
def test_reserved_opcodes_are_refused(case: Case, opcode: int, payload: bytes) -> None:
    """An opcode without a meaning ends the connection."""
    case.send(frame(opcode, payload), frame(PING))
    assert [found for found, _ in case.got] == [CLOSE]
    assert case.refused_with(1002)


def test_masked_frames_are_refused(case: Case) -> None:
    """A server must not mask (section 5.1)."""
    assert case.send(frame(TEXT, b"x", mask=b"abcd")).refused_with(1002)


@pytest.mark.parametrize(
    "wrong",
    [
        frame(BINARY, b"x" * 5, extended=16),
        frame(BINARY, b"x" * 5, extended=64),
        frame(BINARY, b"x" * 200, extended=64),
        frame(BINARY, b"x", extended=64, length=2**63 + 5),
    ],
    ids=["16 bits for 5", "64 bits for 5", "64 bits for 200", "2**63"],
)
def test_wrong_lengths_are_refused(case: Case, wrong: bytes) -> None:
    """A length has its shortest form and fits in 63 bits (section 5.2)."""
    case.send(wrong)
    assert struct.unpack("!H", case.got[-1][1][:2])[0] in (1002, 1009)


# -- 5: fragmentation ------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_fragments_with_control_frames_between(case: Case, opcode: int, chunk: int | None) -> None:
    """A message in fragments is one message; pings between them are answered at once."""
    case.send(
        frame(opcode, b"frag1", fin=False),
        frame(PING, b"one"),
        frame(CONTINUATION, b"", fin=False),
        frame(PONG, b"unsolicited"),
        frame(CONTINUATION, b"frag2", fin=False),
        frame(PING, b"two"),
        frame(CONTINUATION, b"frag3"),
        frame(PING, b"three"),
        chunk=chunk,
    )
    assert [found for found in case.got if found[0] == PONG] == [
        (PONG, b"one"),
        (PONG, b"two"),
        (PONG, b"three"),
    ]
    assert [found for found in case.got if found[0] != PONG] == [(opcode, b"frag1frag2frag3")]


def test_empty_fragments(case: Case) -> None:
    """Fragments may be empty, all of them."""
    case.send(frame(TEXT, fin=False), frame(CONTINUATION, fin=False), frame(CONTINUATION))
    assert case.got == [(TEXT, b"")]


@pytest.mark.parametrize(
    "frames",
    [
        [frame(CONTINUATION, b"x")],
        [frame(CONTINUATION, b"x", fin=False)],
        [frame(TEXT, b"x"), frame(CONTINUATION, b"y")],
        [frame(TEXT, b"x", fin=False), frame(TEXT, b"y")],
        [frame(BINARY, b"x", fin=False), frame(BINARY, b"y", fin=False)],
        [frame(PING, b"x", fin=False)],
        [frame(PONG, b"x", fin=False)],
        [frame(CLOSE, b"", fin=False)],
    ],
)
def test_wrong_fragments_are_refused(case: Case, frames: list[bytes]) -> None:
    """Continuations need a beginning, beginnings no other message open, control frames no
    fragments."""
    assert case.send(*frames).refused_with(1002)


# -- 6: UTF-8 --------------------------------------------------------------------------------

VALID = [
    "κόσμε",
    "\x00",
    "\x7f\x80\u07ff\u0800\uffff\U00010000\U0010ffff",
    "\ufffe\ufdd0\U0001fffe",
    "Hello-µ@ßöäüàá-UTF-8!!",
]
INVALID = [
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xed\xbf\xbf",
    b"\x80",
    b"\xff",
    b"\xce",
    b"\xf0\x9f\x98",
]


@pytest.mark.parametrize("text", VALID)
@pytest.mark.parametrize("cut", [None, 1])
def test_valid_utf8(case: Case, text: str, cut: int | None) -> None:
    """Text comes back unchanged, also when fragments cut through its characters."""
    payload = text.encode()
    if cut is None:
        case.send(frame(TEXT, payload))
    else:
        pieces = [payload[i : i + cut] for i in range(0, len(payload), cut)]
        case.send(frame(TEXT, fin=False))
        case.send(*(frame(CONTINUATION, piece, fin=False) for piece in pieces))
        case.send(frame(CONTINUATION))
    assert case.got == [(TEXT, payload)]


@pytest.mark.parametrize("payload", INVALID)
@pytest.mark.parametrize("cut", [None, 1])
def test_invalid_utf8(case: Case, payload: bytes, cut: int | None) -> None:
    """Text that is not UTF-8 ends the connection with 1007, wherever it is cut; nothing of it
    reaches the dispatcher."""
    if cut is None:
        case.send(frame(TEXT, payload))
    else:
        pieces = [payload[i : i + cut] for i in range(0, len(payload), cut)]
        case.send(frame(TEXT, fin=False))
        case.send(*(frame(CONTINUATION, piece, fin=False) for piece in pieces))
        case.send(frame(CONTINUATION))
    assert case.world.dispatcher.received == []
    assert case.refused_with(1007)


def test_binary_needs_no_utf8(case: Case) -> None:
    """Binary messages may hold anything."""
    payload = bytes(itertools.chain(*(range(256),) * 3))
    case.send(frame(BINARY, payload))
    assert case.got == [(BINARY, payload)]


# -- 7: closing ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        1000,
        1001,
        1002,
        1003,
        1007,
        1008,
        1009,
        1010,
        1011,
        1012,
        1013,
        1014,
        3000,
        3999,
        4000,
        4999,
    ],
)
def test_valid_close_codes(case: Case, code: int) -> None:
    """A close is answered with a close, and nothing more is answered after it."""
    case.send(close(code, b"going"), frame(TEXT, b"late"), frame(PING, b"late"))
    assert [opcode for opcode, _ in case.got] == [CLOSE]
    assert struct.unpack("!H", case.got[0][1][:2])[0] in (code, 1000)
    assert case.world.dispatcher.received == []


@pytest.mark.parametrize(
    "code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
)
def test_invalid_close_codes(case: Case, code: int) -> None:
    """A close code that must not travel is a protocol error."""
    assert case.send(close(code)).refused_with(1002)


def test_close_without_a_code(case: Case) -> None:
    """A close may be empty; its answer is a normal one."""
    case.send(close())
    ((opcode, payload),) = case.got
    assert opcode == CLOSE
    assert payload in (b"", struct.pack("!H", 1000))


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002),
        (close(1000, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80"), 1007),
        (close(1000, b"\xce"), 1007),
    ],
    ids=["one byte", "too long", "no UTF-8", "cut UTF-8"],
)
def test_wrong_close_payloads(case: Case, wrong: bytes, code: int) -> None:
    """The payload of a close is a code and UTF-8 of at most 123 bytes."""
    assert case.send(wrong).refused_with(code)


def test_close_with_the_longest_reason(case: Case) -> None:
    """123 bytes of reason are allowed."""
    case.send(close(1000, b"x" * 123))
    assert case.got[0][1][:2] == struct.pack("!H", 1000)


def test_a_message_cut_by_a_close(case: Case) -> None:
    """A close in the middle of a message ends the connection; the message never was."""
    case.send(frame(TEXT, b"frag", fin=False), close(1000), frame(CONTINUATION, b"ment"))
    assert case.world.dispatcher.received == []
    assert [opcode for opcode, _ in case.got] == [CLOSE]


def test_the_second_close_is_ignored(case: Case) -> None:
    """Whoever closes twice gets one answer."""
    case.send(close(1000), close(1000))
    assert [opcode for opcode, _ in case.got] == [CLOSE]


# -- too large -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frames",
    [
        [frame(BINARY, b"x" * 1001)],
        [frame(TEXT, b"x" * 600, fin=False), frame(CONTINUATION, b"x" * 600)],
        [frame(BINARY, b"x", length=2**40)],
    ],
    ids=["one frame", "fragments", "announced"],
)
def test_too_large_messages(make_world: MakeWorld, frames: list[bytes]) -> None:
    """What exceeds maxMessageSize is refused with 1009, as soon as it is announced."""
    case = Case(make_world, max_message_size_bytes=1000).send(*frames)
    assert case.world.dispatcher.received == []
    opcode, payload = case.got[-1]
    assert (opcode, payload[:2]) == (CLOSE, struct.pack("!H", 1009))
    case.world.pass_time(10)
    assert case.world.log.has("connection lost", "1009")
    assert case.world.is_connected


def test_the_largest_message_is_accepted(make_world: MakeWorld) -> None:
    """maxMessageSize itself is allowed."""
    case = Case(make_world, max_message_size_bytes=1000).send(frame(BINARY, b"x" * 1000))
    assert case.got == [(BINARY, b"x" * 1000)]


# -- the upgrade -----------------------------------------------------------------------------


def test_frames_right_behind_the_upgrade(make_world: MakeWorld) -> None:
    """Messages that arrive together with the upgrade's answer are not lost."""
    world = make_world(dispatcher=FakeDispatcher(echo))
    platform = raw_server()
    answer = platform.answer

    def answer_and_send(peer: RawPeer) -> None:
        answer(peer)
        assert peer.transport is not None
        peer.transport.write(frame(TEXT, b"early"))

    platform.answer = answer_and_send
    world.network.default = platform
    world.start()
    assert (TEXT, b"early", True, 0) in list(parse(platform.peers[0].received))


@pytest.mark.parametrize(
    "extra",
    [
        b"Sec-WebSocket-Protocol: chat\r\n",
        b"Sec-WebSocket-Extensions: permessage-deflate\r\n",
        b"Sec-WebSocket-Extensions: x-unknown\r\n",
    ],
)
def test_what_was_not_asked_for_is_refused(make_world: MakeWorld, extra: bytes) -> None:
    """A subprotocol or extension the agent didn't offer fails the upgrade (section 4.1)."""
    world = make_world()
    world.network.default = raw_server(extra)
    world.start()
    assert not world.is_connected
    assert world.log.has("no connection")


# -- 12 and 13: compression ------------------------------------------------------------------


def deflated(payload: bytes, compressor: Any) -> bytes:
    return bytes(compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"


@pytest.mark.parametrize("size", [0, 16, 1000, 65536, 300_000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_compressed_echo(make_world: MakeWorld, opcode: int, size: int) -> None:
    """Compressed messages are understood and answered compressed, with one context over many."""
    case = Case(make_world, DEFLATE, compression=True)
    there = zlib.compressobj(wbits=-15)
    back = zlib.decompressobj(wbits=-15)
    payload = b"ab" * (size // 2)
    for _ in range(10):
        case.peer.received = b""
        case.send(frame(opcode, deflated(payload, there), rsv=4), chunk=4096)
        ((found, body, fin, rsv),) = case.frames
        assert (found, fin, rsv) == (opcode, True, 4)
        assert back.decompress(body + b"\0\0\xff\xff") == payload


def test_compressed_fragments(make_world: MakeWorld) -> None:
    """Only the first fragment carries the bit."""
    case = Case(make_world, DEFLATE, compression=True)
    body = deflated(b"hello " * 100, zlib.compressobj(wbits=-15))
    case.send(
        frame(TEXT, body[:5], fin=False, rsv=4), frame(PING, b"p"), frame(CONTINUATION, body[5:])
    )
    assert case.world.dispatcher.received == [(b"hello " * 100, None)]


def test_uncompressed_messages_are_still_allowed(make_world: MakeWorld) -> None:
    """With compression agreed on, a message may go without."""
    case = Case(make_world, DEFLATE, compression=True).send(frame(TEXT, b"plain"))
    assert case.world.dispatcher.received == [(b"plain", None)]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (frame(TEXT, b"\xff\xff\xff\xff", rsv=4), 1007),
        (frame(PING, b"", rsv=4), 1002),
        (frame(TEXT, b"", rsv=2), 1002),
    ],
    ids=["garbage", "control frame", "other bit"],
)
def test_wrong_compression_is_refused(make_world: MakeWorld, wrong: bytes, code: int) -> None:
    """Garbage, compressed control frames and other bits end the connection."""
    case = Case(make_world, DEFLATE, compression=True).send(wrong)
    assert case.got[-1][1][:2] == struct.pack("!H", code)


def test_what_compression_makes_larger_still_fits(make_world: MakeWorld) -> None:
    """A message of the maximum size passes, both ways, also when deflating it adds to it."""
    size = 100_000
    case = Case(make_world, DEFLATE, compression=True, max_message_size_bytes=size)
    payload = random.Random(1).randbytes(size)
    there = deflated(payload, zlib.compressobj(wbits=-15))
    assert len(there) > size, "the case must be what it says"
    case.send(frame(BINARY, there, rsv=4))
    ((found, body, _, rsv),) = case.frames
    assert (found, rsv) == (BINARY, 4)
    assert zlib.decompressobj(wbits=-15).decompress(body + b"\0\0\xff\xff") == payload


def test_a_compression_bomb(make_world: MakeWorld) -> None:
    """maxMessageSize counts what a message unfolds to."""
    case = Case(make_world, DEFLATE, compression=True, max_message_size_bytes=100_000)
    case.send(frame(BINARY, deflated(b"\0" * 10**8, zlib.compressobj(wbits=-15)), rsv=4))
    assert case.world.dispatcher.received == []
    assert case.got[-1][1][:2] == struct.pack("!H", 1009)
    case.world.pass_time(10)
    assert case.world.log.has("connection lost", "1009")


@pytest.mark.parametrize("compression", [True, False])
def test_compression_is_offered_only_where_configured(
    make_world: MakeWorld, compression: bool
) -> None:
    """permessage-deflate is offered with compression=true and not otherwise; a platform that
    declines is spoken to without."""
    world = make_world(settings=connector_settings(compression=compression)).start()
    offered = world.peer.http_headers.get("sec-websocket-extensions", "")
    assert ("permessage-deflate" in offered) is compression
    world.uplink(b"{}")
    assert world.peer.payloads == [b"{}"]
