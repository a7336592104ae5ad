"""The platform with real devices over the loopback interface."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import cbor2
import msgpack
import pytest
import pytest_twisted
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import formatEvent, globalLogPublisher

from oda.model import ContentType
from oda.platform.access import KeyRing
from oda.platform.faults import Fault, Incident, Refusal
from oda.platform.operation import OperationTimedOut, Order
from oda.platform.sessions import REPLACED
from oda.platform.wire import Dialect

from .device import telemetry


@pytest_twisted.ensureDeferred
async def test_a_device_connects_and_its_datapoint_is_kept(start: Any, connect: Any) -> None:
    """What a device publishes is in the store once its ping is answered."""
    platform = start()
    device = connect(platform)
    await platform.wait_for_device("dev-1")
    await device.next("open")
    device.datapoint(21.5, "temperature", at=1700000000000, device="dev-1")
    device.ping(b"1")
    assert await device.next("pong") == b"1"
    (datapoint,) = platform.datapoints("dev-1", "temperature")
    assert (datapoint.value, datapoint.at_ms, datapoint.copies) == (21.5, 1700000000000, 1)


@pytest.mark.parametrize(
    ("encode", "name"),
    [
        (lambda document: json.dumps(document).encode(), "JSON"),
        (msgpack.packb, "MESSAGE_PACK"),
        (cbor2.dumps, "CBOR"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_all_three_formats_are_read(start: Any, connect: Any, encode: Any, name: str) -> None:
    """The first byte tells the format, whatever the frame; the record names it."""
    platform = start()
    device = connect(platform)
    await device.next("open")
    device.send_bytes(encode(telemetry({"a": [1, None, "ü"]})))
    device.ping()
    await device.next("pong")
    (message,) = platform.messages("dev-1")
    assert message.format == name
    assert message.payload == encode(telemetry({"a": [1, None, "ü"]}))
    assert platform.latest("dev-1")[0].value == {"a": [1, None, "ü"]}


@pytest_twisted.ensureDeferred
async def test_an_operation_gets_its_answer(start: Any, connect: Any) -> None:
    """The request is a text frame with id, time, device and parameters; the answer comes back."""
    platform = start()
    device = connect(platform)
    await device.next("open")
    asked = platform.send_operation("dev-1", "REFRESH_INFO", {"a": 1})
    payload, is_text = await device.next("message")
    request = json.loads(payload)["operation"]["request"]
    assert is_text
    assert (request["name"], request["deviceId"]) == ("REFRESH_INFO", "dev-1")
    assert request["parameters"] == {"a": 1}
    assert isinstance(request["timestamp"], int)
    device.answer(request, resultDescription="No Error.")
    answer = await asked
    assert answer["resultDescription"] == "No Error."


@pytest.mark.parametrize(
    ("content_type", "decode"),
    [(ContentType.MESSAGE_PACK, msgpack.unpackb), (ContentType.CBOR, cbor2.loads)],
)
@pytest_twisted.ensureDeferred
async def test_operations_in_binary_formats(
    start: Any, connect: Any, content_type: ContentType, decode: Any
) -> None:
    """On request an operation goes out as MessagePack or CBOR, in a binary frame, and in the
    list dialect."""
    platform = start()
    device = connect(platform)
    await device.next("open")
    asked = platform.send_operation(
        "dev-1", "X", {"n": 1}, content_type=content_type, dialect=Dialect.LIST
    )
    payload, is_text = await device.next("message")
    request = decode(payload)["operation"]["request"]
    assert not is_text
    assert request["parameters"] == [{"name": "n", "value": {"number": 1}}]
    device.answer(request)
    assert (await asked)["resultCode"] == "SUCCESSFUL"


@pytest_twisted.ensureDeferred
async def test_an_operation_for_an_absent_device_waits_for_it(start: Any, connect: Any) -> None:
    """Operations are queued while the device is away and sent, in order, when it connects."""
    platform = start()
    first = platform.send_operation("dev-1", "A")
    second = platform.send_operation("dev-1", "B")
    device = connect(platform)
    for expected in ("A", "B"):
        request = await device.request()
        assert request["name"] == expected
        device.answer(request)
    assert (await first)["name"] == "A"
    assert (await second)["name"] == "B"


@pytest_twisted.ensureDeferred
async def test_an_unanswered_operation_times_out(start: Any, connect: Any) -> None:
    """Without an answer in time the Deferred fails and names the operation."""
    platform = start()
    with pytest.raises(OperationTimedOut, match=r"GET.*dev-1.*never sent"):
        await platform.send_operation("dev-1", "GET", timeout=0.01)


@pytest_twisted.ensureDeferred
async def test_a_bad_key_is_refused_with_401(start: Any, connect: Any) -> None:
    """Without its key a device gets no WebSocket; with it, by header or by query, it does."""
    platform = start(keys=KeyRing("k&y +ü"))
    for refused in (
        connect(platform),
        connect(platform, headers={"X-ApiKey": "other"}),
        connect(platform, "dev-1?X-ApiKey=k%26y"),
    ):
        _, reason = await refused.next("close")
        assert "401" in reason
    assert platform.messages() == []
    assert platform.recording.connections() == []
    by_query = connect(platform, "dev-1?X-ApiKey=k%26y%20%2B%C3%BC")
    await by_query.next("open")


@pytest.mark.parametrize("device", ["a/b", "ä ö", "a?b&c=d", "a;b", "%", "a+b", "日本"])
@pytest_twisted.ensureDeferred
async def test_any_text_is_a_device_id(start: Any, connect: Any, device: str) -> None:
    """Device ids are percent-decoded as one path segment."""
    from urllib.parse import quote

    platform = start()
    connect(platform, quote(device, safe=""))
    session = await platform.wait_for_device(device)
    assert session.device == device


@pytest_twisted.ensureDeferred
async def test_other_paths_are_refused_with_404(start: Any, connect: Any) -> None:
    """Only one segment below the configured path is a device."""
    platform = start(path="south/x/")
    assert platform.path == "/south/x"
    for path in ("a/b", ""):
        _, reason = await connect(platform, path).next("close")
        assert "404" in reason


@pytest_twisted.ensureDeferred
async def test_of_two_connections_of_a_device_the_newer_wins(start: Any, connect: Any) -> None:
    """The older connection is closed; the device counts as connected all the time."""
    platform = start()
    older = connect(platform)
    await older.next("open")
    newer = connect(platform)
    await newer.next("open")
    assert (await older.next("close"))[0] == REPLACED
    assert platform.sessions.get("dev-1").number == 2
    asked = platform.send_operation("dev-1", "A")
    newer.answer(await newer.request())
    await asked


@pytest_twisted.ensureDeferred
async def test_the_older_connection_may_win(start: Any, connect: Any) -> None:
    """With ``older_wins`` a second connection of the device is refused."""
    platform = start(older_wins=True)
    older = connect(platform)
    await older.next("open")
    _, reason = await connect(platform).next("close")
    assert "409" in reason
    assert platform.sessions.get("dev-1").number == 1


@pytest_twisted.ensureDeferred
async def test_compression_is_accepted(start: Any, connect: Any) -> None:
    """A device that offers permessage-deflate gets it, and its messages are read."""
    platform = start()
    device = connect(platform, deflate=True)
    await device.next("open")
    assert device.protocol.websocket_extensions_in_use
    device.datapoint("x" * 10000)
    device.ping()
    await device.next("pong")
    assert platform.latest("dev-1")[0].value == "x" * 10000


@pytest_twisted.ensureDeferred
async def test_unreadable_messages_are_recorded_and_the_connection_stays(
    start: Any, connect: Any
) -> None:
    """What is neither telemetry nor an answer is on record, and does no harm."""
    platform = start()
    device = connect(platform)
    await device.next("open")
    rubbish = [b"", b"\xff\xff", b"{", b"{}", b"[1]", b'{"datastreams":7}', b'{"operation":{}}']
    for payload in rubbish:
        device.send_bytes(payload)
    device.ping(b"x")
    await device.next("pong")
    assert [message.payload for message in platform.messages("dev-1")] == rubbish
    assert platform.datapoints("dev-1") == []


@pytest_twisted.ensureDeferred
async def test_small_messages_are_not_held_back(start: Any, connect: Any) -> None:
    """TCP_NODELAY is set on the accepted socket."""
    platform = start()
    connect(platform)
    session = await platform.wait_for_device("dev-1")
    assert session._pipe._protocol.transport.getTcpNoDelay()


@pytest_twisted.ensureDeferred
async def test_a_queued_operation_survives_a_restart(
    start: Any, connect: Any, tmp_path: Path
) -> None:
    """With a database the next run of the platform sends what this one has not."""
    before = start(database=tmp_path / "record.db")
    before.requests.post(Order(session_device="dev-1", name="LATER"))
    await before.stopService()
    after = start(database=tmp_path / "record.db")
    device = connect(after)
    assert (await device.request())["name"] == "LATER"


KEY = "canary-4f1d"


@pytest_twisted.ensureDeferred
async def test_the_key_is_in_no_log_line(start: Any, connect: Any) -> None:
    """Neither good nor bad keys are logged, by header or query, in good or bad handshakes; but
    every connection and operation is."""
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        platform = start(keys=KeyRing(KEY))
        for version, key in (("13", "dGhlIHNhbXBsZSBub25jZQ=="), ("99", "x"), ("13", "bad")):
            await deferToThread(bad_handshake, platform.port, version, key)
        await connect(platform, headers={"X-ApiKey": f"wrong-{KEY}"}).next("close")
        device = connect(platform, f"dev-1?X-ApiKey={KEY}")
        await device.next("open")
        asked = platform.send_operation("dev-1", "PING_ME")
        device.answer(await device.request())
        await asked
        await platform.stopService()
    finally:
        globalLogPublisher.removeObserver(events.append)
    lines = [formatEvent(event) for event in events]
    assert not any(KEY in line for line in lines)
    assert not any(KEY in str(value) for event in events for value in event.values())
    for expected in ("dev-1 connected", "sent PING_ME", "answered PING_ME", "dev-1 disconnected"):
        assert sum(expected in line for line in lines) == 1, expected
    assert any("refused a connection: 401" in line for line in lines)


def bad_handshake(port: int, version: str, key: str) -> None:
    """An upgrade request with the API key in a place where it is bad; blocks until the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(
            f"GET /south/v80/sessions/dev-1?X-ApiKey={KEY}#x HTTP/1.1\r\nHost: x\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nX-ApiKey: {KEY}\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: {version}\r\n\r\n".encode()
        )
        while raw.recv(4096):
            pass


@pytest_twisted.ensureDeferred
async def test_stopping_ends_connections_that_never_became_websockets(
    start: Any, connect: Any
) -> None:
    """A connection kept in silence, and one whose farewell nobody reads, are cut off too."""
    platform = start()
    frozen = connect(platform, "frozen")
    await frozen.next("open")
    platform.faults.set("frozen", Fault(freeze=True))
    platform.strike("frozen", Incident(close=1000))
    platform.faults.set("silent", Fault(refuse=Refusal.SILENCE))
    silent = connect(platform, "silent")
    refused: list[Any] = []
    log = globalLogPublisher
    log.addObserver(refused.append)
    while not any("refused silent" in formatEvent(event) for event in refused):
        await deferLater(platform.reactor, 0.001)
    log.removeObserver(refused.append)
    await platform.stopService()
    await silent.next("close")
    await frozen.next("close")


@pytest_twisted.ensureDeferred
async def test_stopping_leaves_nothing_open(start: Any, connect: Any) -> None:
    """When ``stopService`` fires, devices are cut off and both ports are free again."""
    platform = start()
    device = connect(platform)
    await device.next("open")
    await platform.stopService()
    await device.next("close")
    assert platform.sessions.all() == []
    again = start(port=platform.port, http_port=platform.http_port)
    assert again.port == platform.port
