"""The API key shows nowhere: not in the log at any level, not in an error, in no encoding."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import txaio
from twisted.internet.error import ConnectionRefusedError
from twisted.logger import Logger, formatEvent
from twisted.python.failure import Failure

from oda.settings import Auth
from tests.wire.fakes import KEY, FakeDeviceInfo, FakeDispatcher
from tests.wire.platform import RawPeer, RawPlatform, say
from tests.wire.world import World, connector_settings

MakeWorld = Callable[..., World]

RAW = KEY.encode()
FORMS = {
    KEY,
    RAW.decode("latin-1"),
    repr(KEY)[1:-1],
    repr(RAW)[2:-1],
    ascii(KEY)[1:-1],
    quote(KEY),
    quote(KEY, safe=""),
    quote_plus(KEY),
    b64encode(RAW).decode().rstrip("="),
    urlsafe_b64encode(RAW).decode().rstrip("="),
    RAW.hex(),
    "canary-",  # the beginning alone would be too much
}


def texts(value: Any, depth: int = 4) -> Iterator[str]:
    """Everything that a log observer could make of a field."""
    yield str(value)
    yield repr(value)
    if isinstance(value, Failure):
        yield value.getErrorMessage()
        for detail in ("brief", "default", "verbose"):
            yield value.getTraceback(detail=detail)
        yield from texts(value.value, depth - 1)
    if isinstance(value, BaseException):
        yield repr(value.args)
        for cause in (value.__cause__, value.__context__):
            if cause is not None and depth:
                yield from texts(cause, depth - 1)
    if depth and isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from texts(item, depth - 1)
    elif depth and isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from texts(item, depth - 1)


def leaks(events: list[dict[str, Any]]) -> list[str]:
    """The texts in ``events`` that show the key."""
    found = []
    for event in events:
        for text in (formatEvent(event), *texts(dict(event))):
            if any(form in text for form in FORMS):
                found.append(text)
    return found


@pytest.fixture
def loud() -> Iterator[None]:
    """Let the WebSocket library log everything it can."""
    level = txaio.get_global_log_level()
    txaio.set_global_log_level("trace")
    yield
    txaio.set_global_log_level(level)


def repeat_the_request(peer: RawPeer) -> None:
    """A platform that shows the request it got, in every part of its answer."""
    assert peer.transport is not None
    head = peer.received.replace(b"\r\n", b" ")
    peer.transport.write(
        b"HTTP/1.1 400 " + head + b"\r\nX-Request: " + head + b"\r\n\r\n" + peer.received
    )
    peer.transport.loseConnection()


def odd_status(peer: RawPeer) -> None:
    assert peer.transport is not None
    peer.transport.write(peer.received + b"\r\n\r\n")


def odd_upgrade(peer: RawPeer) -> None:
    assert peer.transport is not None
    head = peer.received.replace(b"\r\n", b" ")
    peer.transport.write(
        b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + head + b"\r\n\r\n"
    )


def raises(payload: bytes) -> bytes:
    raise ValueError("a defect of the dispatcher")


def everything_goes_wrong(world: World) -> None:
    """One failure after the other, of every kind there is."""
    network = world.network
    answers: list[Any] = [
        repeat_the_request,
        odd_status,
        odd_upgrade,
        say(b"HTTP/1.1 401 Unauthorized\r\n\r\n"),
        say(b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n\r\n"),
        say(bytes(range(256)) + b"\r\n\r\n"),
        say(b"x" * 100_000),
        say(b""),
    ]
    world.start()
    for cut in range(170):
        # wherever a long text is cut, no part of the key stays
        world.peer.sendClose(4000, "x" * (cut % 100) + KEY)
        network.default = RawPlatform(say(b"HTTP/1.1 400 " + b"y" * cut + RAW + b"\r\n\r\n"))
        world.pass_time(1)
        network.default = world.platform
        world.pass_time(160)
    for forms in (KEY, quote(KEY, safe=""), b64encode(RAW).decode()):
        world.peer.sendClose(4000, f"go away with your {forms}")
        world.pass_time(2)
    world.uplink(b"{}")
    world.peer.sendMessage(b'{"operation":1}')
    world.settle()
    world.wire.reset()
    for answer in answers:
        network.default = RawPlatform(answer)
        world.pass_time(700)
    network.default = RawPlatform()
    world.pass_time(700)
    network.default = None
    world.pass_time(700)
    network.default = ConnectionRefusedError()
    world.pass_time(700)
    network.default = world.platform
    network.is_raising = RuntimeError("no sockets")
    world.pass_time(700)
    network.is_raising = None
    world.pass_time(700)
    assert world.is_connected
    world.platform.pong = lambda payload: None
    world.pass_time(700)
    world.platform.pong = lambda payload: payload
    world.pass_time(700)
    world.peer.sendFrame(opcode=11)
    world.pass_time(700)
    assert world.is_connected
    world.service._counters = None  # type: ignore[assignment]  # a defect inside
    world.peer.sendMessage(b"{}")
    world.pass_time(700)
    world.service._counters = world.counters
    world.service.reconfigure(world.settings)
    world.pass_time(10)
    world.service.stopService()
    world.pass_time(20)


@pytest.mark.parametrize("auth", list(Auth))
def test_no_log_line_shows_the_key(make_world: MakeWorld, auth: Auth, loud: None) -> None:
    """Through every kind of failure, at every level, with every field of every event."""
    world = make_world(
        settings=connector_settings(auth=auth, reconnect_spread_s=0.0),
        device_info=FakeDeviceInfo(key=KEY),
        dispatcher=FakeDispatcher(raises),
    )
    everything_goes_wrong(world)
    assert len(world.platform.peers) > 5
    assert len(world.log.events) > 50
    assert leaks(world.log.events) == []
    world.log.events.clear()


@pytest.mark.parametrize("auth", list(Auth))
@pytest.mark.parametrize("key", [KEY + "\r\nX-Evil: 1", KEY + "\ud800", KEY + "\x00"])
def test_unusable_keys_are_not_shown(make_world: MakeWorld, auth: Auth, key: str) -> None:
    """The error about a key that can't be used doesn't hold it."""
    world = make_world(
        settings=connector_settings(auth=auth), device_info=FakeDeviceInfo(key=key)
    ).start()
    assert world.log.has("can't connect", "the API key")
    assert leaks(world.log.events) == []


@pytest.mark.parametrize("auth", list(Auth))
def test_no_object_shows_the_key(make_world: MakeWorld, auth: Auth) -> None:
    """What a traceback or a debugger prints of the connection's objects holds no key."""
    world = make_world(settings=connector_settings(auth=auth)).start()
    link = world.service._link
    for thing in (
        world.service,
        link,
        link._factory,
        link._address,
        link._protocol,
        link._session,
        world.network.connectors[0],
        world.settings,
        world.device_info,
    ):
        assert thing is not None
        assert not any(form in text for form in FORMS for text in texts(thing))


def test_the_search_finds_what_is_there(world: World) -> None:
    """The canary's own canary: a key in a text, a field, an exception or its arguments is found."""
    world.log.events.clear()
    log = Logger()
    log.info("plain {key}", key=KEY)
    log.info("a field", request=f"GET /?X-ApiKey={quote(KEY, safe='')}".encode())
    log.info("nested", fields={"headers": [b64encode(RAW)]})
    try:
        raise ValueError("text", KEY)
    except ValueError:
        log.failure("with an exception")
    assert len({text[:5] for text in leaks(world.log.events)}) >= 4
    assert all(leaks([event]) for event in world.log.events)
    world.log.events.clear()
