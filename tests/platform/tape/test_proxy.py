"""The recording proxy, between a real device and a real platform."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import ssl
from twisted.internet.task import deferLater

from oda.platform.access import KeyRing
from oda.platform.faults import Fault, Incident, OperationsMode, PongMode, Refusal
from oda.platform.tape.client import WrongAddress, read_target
from oda.platform.tape.proxy import resource_of
from oda.platform.tape.session_file import Entry, Side, What
from oda.platform.tls import load_server_tls
from tests.platform.device import Device, telemetry
from tests.platform.test_tap import Authority
from tests.wire.certificates import Authority as MakesAnyCertificate

KEY = "a-secret-key-0123"


def short(entries: Any) -> list[tuple[Any, ...]]:
    return [(e.what, e.side, e.payload if e.what is not What.CLOSE else e.code) for e in entries]


async def through(tap: Any, platform: Any, **arguments: Any) -> Device:
    from twisted.internet import reactor

    device = Device(reactor, f"{tap.url}/dev-1", **arguments)
    await device.next("open")
    return device


@pytest_twisted.ensureDeferred
async def test_everything_passes_and_is_written_down_in_order(start: Any, tap: Any) -> None:
    """Messages of both directions and both kinds of frame, pings, pongs, the closure."""
    platform = start()
    box = tap(platform)
    device = await through(box, platform)
    device.send_bytes(b'{"datastreams":[]}', is_text=True)
    device.send_bytes(b"\x00\xff")
    device.ping(b"p1")
    assert await device.next("pong") == b"p1"
    platform.send_operation("dev-1", "A", timeout=5).addErrback(lambda failure: None)
    payload, is_text = await device.next("message")
    assert is_text
    device.protocol.sendClose(4001, "bye")
    await device.next("close")
    await box.stop_reading()
    entries = box.entries
    assert short(entries) == [
        (What.OPEN, None, b""),
        (What.MESSAGE, Side.DEVICE, b'{"datastreams":[]}'),
        (What.MESSAGE, Side.DEVICE, b"\x00\xff"),
        (What.PING, Side.DEVICE, b"p1"),
        (What.PONG, Side.PLATFORM, b"p1"),
        (What.MESSAGE, Side.PLATFORM, payload),
        (What.CLOSE, Side.DEVICE, 4001),
    ]
    assert entries[0].device == "dev-1"
    assert [e.is_text for e in entries if e.what is What.MESSAGE] == [True, False, True]
    assert entries[-1].reason == "bye"
    assert [message.payload for message in platform.messages("dev-1")] == [
        b'{"datastreams":[]}',
        b"\x00\xff",
    ]
    assert platform.recording.connections()[0].close_code == 4001


@pytest_twisted.ensureDeferred
async def test_a_pong_comes_from_the_platform(start: Any, tap: Any) -> None:
    """The proxy answers no ping itself: what a pong vouches for was read by the platform."""
    platform = start()
    platform.faults.set(None, Fault(pong=PongMode.WRONG))
    box = tap(platform)
    device = await through(box, platform)
    device.ping(b"\x01")
    assert await device.next("pong") == b"\xfe"
    platform.faults.set(None, Fault(pong=PongMode.DROP))
    device.ping(b"lost")
    device.send(telemetry(1))
    while not platform.datapoints("dev-1"):
        await deferLater(platform.reactor, 0.01, lambda: None)
    assert device.pending("pong") == []


@pytest_twisted.ensureDeferred
async def test_the_platform_ends_the_connection(start: Any, tap: Any) -> None:
    """Any close code reaches the device; a reset ends the device's connection without one."""
    platform = start()
    box = tap(platform)
    device = await through(box, platform)
    platform.strike(None, Incident(close=1013, reason="busy"))
    assert await device.next("close") == (1013, "busy")
    device = await through(box, platform)
    platform.strike(None, Incident(reset=True))
    code, _ = await device.next("close")
    assert code is None
    await box.stop_reading()
    ends = [entry for entry in box.entries if entry.what is What.CLOSE]
    assert [(end.side, end.code, end.reason) for end in ends] == [
        (Side.PLATFORM, 1013, "busy"),
        (Side.PLATFORM, None, ""),
    ]


@pytest_twisted.ensureDeferred
async def test_the_device_vanishes(start: Any, tap: Any) -> None:
    """Its platform sees that, and the record says who it was."""
    platform = start()
    box = tap(platform)
    device = await through(box, platform)
    device.protocol.transport.abortConnection()
    while platform.sessions.all():
        await deferLater(platform.reactor, 0.01, lambda: None)
    assert platform.recording.connections()[0].close_code == 1006
    await box.stop_reading()
    assert short(box.entries)[-1] == (What.CLOSE, Side.DEVICE, None)


@pytest_twisted.ensureDeferred
async def test_refusals_reach_the_device(start: Any, tap: Any, connect: Any) -> None:
    """With the platform's status and Retry-After; a platform that is no WebSocket server, or not
    there at all, is a bad gateway. Each is on record."""
    platform = start(keys=KeyRing(key=KEY))
    box = tap(platform)
    assert await status_of(platform, box.port) == (401, None)
    platform.faults.set(None, Fault(refuse=Refusal.TOO_MANY_REQUESTS, retry_after_s=7))
    assert await status_of(platform, box.port) == (429, "7")
    platform.faults.set(None, Fault(refuse=Refusal.GARBAGE))
    assert await status_of(platform, box.port) == (502, None)
    await platform.stopService()
    assert await status_of(platform, box.port) == (502, None)
    await box.stop_reading()
    assert [(entry.what, entry.device, entry.code) for entry in box.entries] == [
        (What.REFUSED, "dev-1", 401),
        (What.REFUSED, "dev-1", 429),
        (What.REFUSED, "dev-1", None),
        (What.REFUSED, "dev-1", None),
    ]


async def status_of(platform: Any, port: int) -> tuple[int, str | None]:
    """What an upgrade request is answered with."""
    from twisted.internet.threads import deferToThread
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    def ask() -> tuple[int, str | None]:
        try:
            connect(f"ws://127.0.0.1:{port}/south/v80/sessions/dev-1", open_timeout=10)
        except InvalidStatus as error:
            return error.response.status_code, error.response.headers.get("Retry-After")
        raise AssertionError("it was accepted")

    return await deferToThread(ask)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("place", ["header", "query"])
async def test_the_key_opens_the_door_and_is_not_written(start: Any, tap: Any, place: str) -> None:
    """Header or query, it reaches the platform; the file does not hold it, not even where a
    message or a close reason repeats it."""
    from twisted.internet import reactor

    platform = start(keys=KeyRing(key=KEY))
    box = tap(platform)
    query, headers = ("", {"X-ApiKey": KEY}) if place == "header" else (f"?X-ApiKey={KEY}", {})
    device = Device(reactor, f"{box.url}/dev-1{query}", headers=headers)
    await device.next("open")
    device.send({"datastreams": [], "note": f"key {KEY}"})
    device.ping()
    await device.next("pong")
    assert KEY.encode() in platform.messages("dev-1")[0].payload
    platform.strike(None, Incident(close=4000, reason=f"bad {KEY}"))
    assert await device.next("close") == (4000, f"bad {KEY}")
    await box.stop_reading()
    content = box.file.getvalue()
    assert KEY.encode() not in content
    message = next(entry for entry in box.entries if entry.what is What.MESSAGE)
    assert message.is_redacted
    assert json.loads(message.payload)["note"] == "key " + "*" * len(KEY)


@pytest_twisted.ensureDeferred
async def test_a_slow_platform_slows_the_device_down(start: Any, tap: Any) -> None:
    """What a frozen platform does not read waits in the device, not in the proxy."""
    platform = start()
    box = tap(platform)
    device = await through(box, platform)
    platform.faults.set(None, Fault(freeze=True))
    room: list[str] = []

    class Producer:
        def pauseProducing(self) -> None:
            room.append("full")

        def resumeProducing(self) -> None:
            room.append("empty")

        def stopProducing(self) -> None:
            pass

    device.protocol.transport.registerProducer(Producer(), True)
    sent, full_since = 0, box.proxy.reactor.seconds()
    while sent < 200:
        if room[-1:] != ["full"]:
            device.send_bytes(b"x" * 500_000)
            sent += 1
        elif box.proxy.reactor.seconds() > full_since + 0.5:
            break
        if room[-1:] != ["full"]:
            full_since = box.proxy.reactor.seconds()
        await deferLater(platform.reactor, 0, lambda: None)
    assert sent < 100  # 50 MB: sockets' buffers hold a few
    platform.faults.clear(None)
    while len(platform.messages("dev-1")) < sent:
        await deferLater(platform.reactor, 0.01, lambda: None)
    device.protocol.transport.unregisterProducer()


@pytest_twisted.ensureDeferred
async def test_tls_to_the_platform(start: Any, tap: Any, tmp_path: Any) -> None:
    """A ``wss`` target is verified against the authority given, and refused without it."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("localhost")
    platform = start(tls=load_server_tls(cert, key))
    url = f"wss://localhost:{platform.port}"
    trust = ssl.Certificate.loadPEM(authority.file.read_bytes())
    box = tap(platform, url=url, trust_root=ssl.trustRootFromCertificates([trust]))
    device = await through(box, platform)
    device.send(telemetry(5))
    device.ping()
    await device.next("pong")
    assert platform.latest("dev-1")[0].value == 5
    device.protocol.sendClose(1000)
    await device.next("close")
    stranger = tap(platform, url=url)
    assert await status_of(platform, stranger.port) == (502, None)


@pytest.mark.parametrize("names", [[], ["name:*.x"], ["name:127.0.0.1"]])
@pytest_twisted.ensureDeferred
async def test_a_certificate_whose_names_cannot_be_used_is_refused(
    start: Any, tap: Any, tmp_path: Any, names: list[str]
) -> None:
    """The proxy carries the device's key: a certificate of the authority that names no host, or
    malformed names, gets neither key nor data."""
    authority = MakesAnyCertificate(tmp_path, "authority")
    platform = start(tls=load_server_tls(*authority.issue("unusable", *names)))
    trust = ssl.Certificate.loadPEM(authority.file.read_bytes())
    box = tap(
        platform,
        url=f"wss://localhost:{platform.port}",
        trust_root=ssl.trustRootFromCertificates([trust]),
    )
    assert await status_of(platform, box.port) == (502, None)
    assert platform.store.device("dev-1") is None


class FullDisk(BytesIO):
    """A file that takes the header and one line."""

    def write(self, data: Any) -> int:
        if self.getvalue().count(b"\n") > 1:
            raise OSError(28, "No space left on device")
        return super().write(data)


@pytest_twisted.ensureDeferred
async def test_a_record_with_a_gap_is_none(start: Any, tap: Any) -> None:
    """When the file can't be written every connection ends, and the owner is told."""
    platform = start()
    box = tap(platform, file=FullDisk())
    device = await through(box, platform)
    device.send(telemetry(1))
    code, _ = await device.next("close")
    assert code is None
    with pytest.raises(OSError, match="No space left"):
        await box.failed
    assert platform.messages("dev-1") == []


@pytest_twisted.ensureDeferred
async def test_damaged_operations_pass_as_they_are(start: Any, tap: Any) -> None:
    """The proxy judges nothing: what is no UTF-8, no JSON, or empty goes through."""
    platform = start()
    platform.faults.set(None, Fault(operations=OperationsMode.MALFORMED))
    box = tap(platform)
    device = await through(box, platform)
    for _ in range(8):
        platform.send_operation("dev-1", "A", timeout=5).addErrback(lambda failure: None)
        await device.next("message")
    assert [entry.payload for entry in box.session().entries if entry.side is Side.PLATFORM] == [
        message.payload for message in platform.messages("dev-1", "out")
    ]


def test_addresses() -> None:
    """Scheme, host, port and path; anything else is refused without showing a query."""
    assert read_target("wss://h/x") == (True, "h", 443, "/x")
    assert read_target("ws://[::1]:9") == (False, "::1", 9, "")
    for wrong in ("http://h", "ws://", "ws://h:x", "ws://h/?X-ApiKey=secret", "ws://u@h"):
        with pytest.raises(WrongAddress) as caught:
            read_target(wrong)
        assert "secret" not in str(caught.value)
    assert resource_of("/a/b/d%2F1?q=1", "") == "/a/b/d%2F1?q=1"
    assert resource_of("/a/b/d%2F1?q=1", "/x/y/") == "/x/y/d%2F1?q=1"


def entry_times(entries: list[Entry]) -> list[int]:
    return [entry.at_ms for entry in entries]


@pytest_twisted.ensureDeferred
async def test_times_run_forward(start: Any, tap: Any) -> None:
    """``at`` counts from the beginning of the recording and never goes back."""
    platform = start()
    box = tap(platform)
    device = await through(box, platform)
    for number in range(20):
        device.send(telemetry(number))
    device.ping()
    await device.next("pong")
    times = entry_times(list(box.session().entries))
    assert times == sorted(times)
    assert times[0] >= 0
    assert box.session().started_ms == 1000
