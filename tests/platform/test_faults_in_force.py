"""Every fault, shown to a real device over the loopback interface."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from oda.platform.faults import Fault, Incident, OperationsMode, PongMode, Refusal
from oda.platform.pongs import wrong_payload

from .conftest import call
from .device import telemetry


async def settle(platform: Any) -> None:
    """Let what is on its way over the loopback arrive: a full exchange on another connection."""
    await call(platform, "GET", "/platform")
    await deferLater(platform.reactor, 0)


def upgrade(platform: Any, timeout_s: float = 10.0) -> bytes:
    """What a raw upgrade request of dev-1 is answered, until the platform closes; blocks."""
    with socket.create_connection(("127.0.0.1", platform.port), timeout=timeout_s) as raw:
        raw.sendall(
            b"GET /south/v80/sessions/dev-1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )
        answer = b""
        while chunk := raw.recv(4096):
            answer += chunk
        return answer


@pytest.mark.parametrize("refusal", ["401", "403", "404", "429", "503"])
@pytest_twisted.ensureDeferred
async def test_refuse_with_a_status(start: Any, refusal: str) -> None:
    """The upgrade gets that status; Retry-After goes with 429 and 503 only."""
    platform = start()
    platform.faults.set("dev-1", Fault(refuse=Refusal(refusal), retry_after_s=7))
    answer = await deferToThread(upgrade, platform)
    head = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert head[0].startswith(f"HTTP/1.1 {refusal} ")
    assert ("Retry-After: 7" in head) == (refusal in ("429", "503"))
    assert platform.sessions.get("dev-1") is None


@pytest_twisted.ensureDeferred
async def test_refuse_with_garbage(start: Any) -> None:
    """The upgrade is answered by bytes that are no HTTP."""
    platform = start()
    platform.faults.set(None, Fault(refuse=Refusal.GARBAGE))
    answer = await deferToThread(upgrade, platform)
    assert answer
    assert not answer.startswith(b"HTTP")


@pytest_twisted.ensureDeferred
async def test_refuse_with_silence(start: Any, connect: Any) -> None:
    """The upgrade is never answered; another device is not concerned."""
    platform = start()
    platform.faults.set("dev-1", Fault(refuse=Refusal.SILENCE))
    silent = connect(platform)
    await connect(platform, "dev-2").next("open")
    await settle(platform)
    assert silent.pending("open") == silent.pending("close") == []
    with pytest.raises(TimeoutError):
        await deferToThread(upgrade, platform, 0.05)


@pytest_twisted.ensureDeferred
async def test_reset_now_and_at_every_connection(start: Any, connect: Any) -> None:
    """An incident resets the open connection; the fault every later one too, until cleared."""
    platform = start()
    device = connect(platform)
    await device.next("open")
    assert platform.strike("dev-1", Incident(reset=True)) == 1
    await device.next("close")
    assert device.was_reset
    platform.faults.set(None, Fault(reset=True))
    again = connect(platform)
    await again.next("close")
    assert again.was_reset
    platform.faults.clear(None)
    await connect(platform).next("open")


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1009, 1011, 1012, 1013, 3000, 4999])
@pytest_twisted.ensureDeferred
async def test_close_with_any_code(start: Any, connect: Any, code: int) -> None:
    """The device sees a close frame with the code and reason."""
    platform = start()
    device = connect(platform)
    await device.next("open")
    platform.strike(None, Incident(close=code, reason="because"))
    assert await device.next("close") == (code, "because")
    (connection,) = platform.recording.connections("dev-1")
    assert (connection.close_code, connection.close_reason) == (code, "because")


@pytest_twisted.ensureDeferred
async def test_close_after_every_n_messages(start: Any, connect: Any) -> None:
    """The connection is closed after so many messages; those that follow are not read."""
    platform = start()
    platform.faults.set("dev-1", Fault(close=1012, after_messages=2))
    for turn in (1, 2):
        device = connect(platform)
        await device.next("open")
        for number in range(5):
            device.datapoint(number, at=number)
        assert (await device.next("close"))[0] == 1012
        assert len(platform.messages("dev-1")) == 2 * turn
    assert [point.value for point in platform.datapoints("dev-1")] == [0, 1]


@pytest_twisted.ensureDeferred
async def test_freeze_reads_nothing_until_it_ends(start: Any, connect: Any) -> None:
    """A frozen connection stays open; what was sent meanwhile is read afterwards, in order."""
    platform = start()
    device = connect(platform)
    await device.next("open")
    platform.faults.set("dev-1", Fault(freeze=True))
    for number in range(3):
        device.datapoint(number, at=number)
    device.ping(b"still there?")
    await settle(platform)
    assert platform.messages("dev-1") == []
    assert device.pending("pong") == []
    platform.faults.clear("dev-1")
    assert await device.next("pong") == b"still there?"
    assert [point.value for point in platform.datapoints("dev-1")] == [0, 1, 2]


@pytest_twisted.ensureDeferred
async def test_freeze_holds_in_the_middle_of_a_burst(start: Any, connect: Any) -> None:
    """When the handler of a message freezes the connection, the next message of the same chunk of
    bytes is not read either."""
    platform = start()
    device = connect(platform)
    await device.next("open")
    platform.events.subscribe(
        lambda: (
            platform.faults.set("dev-1", Fault(freeze=True))
            if len(platform.messages("dev-1")) == 2 and not platform.faults.get("dev-1").freeze
            else None
        )
    )
    frames = [json.dumps(telemetry(number, at=number)).encode() for number in range(5)]
    for frame in frames:
        device.send_bytes(frame)
    await settle(platform)
    await settle(platform)
    assert [message.payload for message in platform.messages("dev-1")] == frames[:2]


@pytest_twisted.ensureDeferred
async def test_slow_limits_what_is_read(start: Any, connect: Any) -> None:
    """A slow platform takes its time: a message longer than a helping comes in pieces, whole."""
    platform = start()
    device = connect(platform)
    await device.next("open")
    platform.faults.set("dev-1", Fault(slow_bytes_per_s=100_000))
    began = platform.reactor.seconds()
    device.datapoint("x" * 20_000)
    device.ping()
    await device.next("pong")
    assert platform.reactor.seconds() - began >= 0.15
    assert platform.latest("dev-1")[0].value == "x" * 20_000


@pytest_twisted.ensureDeferred
async def test_dropped_pongs(start: Any, connect: Any) -> None:
    """No ping is answered, messages are read all the same."""
    platform = start()
    platform.faults.set("dev-1", Fault(pong=PongMode.DROP))
    device = connect(platform)
    await device.next("open")
    device.ping(b"1")
    asked = platform.send_operation("dev-1", "A")
    device.answer(await device.request())
    await asked
    assert device.pending("pong") == []
    assert platform.sessions.get("dev-1").traffic.pings_in == 1


@pytest_twisted.ensureDeferred
async def test_empty_and_wrong_pongs(start: Any, connect: Any) -> None:
    """A pong without the payload, or with another one of the same length."""
    platform = start()
    device = connect(platform)
    await device.next("open")
    platform.faults.set("dev-1", Fault(pong=PongMode.EMPTY))
    device.ping(b"abc")
    assert await device.next("pong") == b""
    platform.faults.set("dev-1", Fault(pong=PongMode.WRONG))
    device.ping(b"abc")
    assert await device.next("pong") == wrong_payload(b"abc")
    assert len(wrong_payload(b"abc")) == 3
    assert not set(wrong_payload(b"abc")) & set(b"abc")


@pytest_twisted.ensureDeferred
async def test_coalesced_pongs(start: Any, connect: Any) -> None:
    """Of several pings within the window only the newest is answered."""
    platform = start()
    platform.faults.set("dev-1", Fault(pong=PongMode.COALESCE, pong_delay_s=0.02))
    device = connect(platform)
    await device.next("open")
    for payload in (b"1", b"2", b"3"):
        device.ping(payload)
    assert await device.next("pong") == b"3"
    await settle(platform)
    assert device.pending("pong") == []


@pytest_twisted.ensureDeferred
async def test_late_pongs(start: Any, connect: Any) -> None:
    """Each ping is answered after the delay, messages before."""
    platform = start()
    platform.faults.set("dev-1", Fault(pong=PongMode.LATE, pong_delay_s=0.03))
    device = connect(platform)
    await device.next("open")
    began = platform.reactor.seconds()
    device.ping(b"1")
    device.ping(b"2")
    assert [await device.next("pong"), await device.next("pong")] == [b"1", b"2"]
    assert platform.reactor.seconds() - began >= 0.029


@pytest_twisted.ensureDeferred
async def test_pong_then_die(start: Any, connect: Any) -> None:
    """The ping is answered, then the connection ends without a close frame."""
    platform = start()
    platform.faults.set("dev-1", Fault(pong=PongMode.DIE))
    device = connect(platform)
    await device.next("open")
    device.ping(b"last")
    assert await device.next("pong") == b"last"
    assert (await device.next("close"))[0] is None
    (connection,) = platform.recording.connections("dev-1")
    assert connection.close_code == 1006


@pytest_twisted.ensureDeferred
async def test_pongs_before_reading(start: Any, connect: Any) -> None:
    """The pong comes before the message in front of the ping is read; when the connection is reset
    in between, the message was never read."""
    platform = start()
    platform.faults.set("dev-1", Fault(pong=PongMode.EARLY, pong_delay_s=60))
    device = connect(platform)
    await device.next("open")
    device.datapoint(1)
    device.ping(b"read?")
    assert await device.next("pong") == b"read?"
    assert platform.messages("dev-1") == []
    platform.strike("dev-1", Incident(reset=True))
    await device.next("close")
    assert platform.messages("dev-1") == []
    again = connect(platform)
    await again.next("open")
    again.datapoint(2)
    again.ping()
    await again.next("pong")
    platform.faults.clear("dev-1")
    assert [point.value for point in platform.datapoints("dev-1")] == [2]


@pytest_twisted.ensureDeferred
async def test_terminate_after_n_pings(start: Any, connect: Any) -> None:
    """The N-th ping on a connection is answered by a reset."""
    platform = start()
    platform.faults.set("dev-1", Fault(terminate_after_pings=3))
    device = connect(platform)
    await device.next("open")
    for payload in (b"1", b"2", b"3"):
        device.ping(payload)
    await device.next("close")
    assert device.was_reset
    assert platform.recording.connections("dev-1")[0].pongs_out == 2


@pytest_twisted.ensureDeferred
async def test_close_above_a_size(start: Any, connect: Any) -> None:
    """A longer message is answered by close 1009 and not read; a shorter one is."""
    platform = start()
    platform.faults.set("dev-1", Fault(close_above_bytes=100))
    device = connect(platform)
    await device.next("open")
    device.datapoint(1)
    device.datapoint("x" * 100)
    assert (await device.next("close"))[0] == 1009
    assert [point.value for point in platform.datapoints("dev-1")] == [1]


@pytest_twisted.ensureDeferred
async def test_duplicated_operations_and_extra_answers(start: Any, connect: Any) -> None:
    """The same request comes twice; a second answer is counted, and whether it differs."""
    platform = start()
    platform.faults.set("dev-1", Fault(operations=OperationsMode.DUPLICATE))
    device = connect(platform)
    await device.next("open")
    asked = platform.send_operation("dev-1", "A")
    first, second = await device.request(), await device.request()
    assert first == second
    device.answer(first)
    device.answer(first)
    device.answer(first, resultDescription="different")
    await asked
    device.ping()
    await device.next("pong")
    operation = platform.requests.find(first["id"])
    assert (operation.extra_answers, operation.differing_answers) == (2, 1)
    assert "resultDescription" not in operation.answer


@pytest_twisted.ensureDeferred
async def test_reordered_operations(start: Any, connect: Any) -> None:
    """Of two operations the later one comes first, and both come."""
    platform = start()
    platform.faults.set("dev-1", Fault(operations=OperationsMode.REORDER))
    device = connect(platform)
    await device.next("open")
    asked = [platform.send_operation("dev-1", name) for name in ("A", "B")]
    requests = [await device.request(), await device.request()]
    assert [request["name"] for request in requests] == ["B", "A"]
    for request in requests:
        device.answer(request)
    assert [(await one)["name"] for one in asked] == ["A", "B"]


@pytest_twisted.ensureDeferred
async def test_malformed_operations(start: Any, connect: Any) -> None:
    """What comes is no good request, in ever new ways; afterwards they are good again."""
    platform = start()
    platform.faults.set("dev-1", Fault(operations=OperationsMode.MALFORMED))
    device = connect(platform)
    await device.next("open")
    lost = [platform.send_operation("dev-1", "A", {"b": 1}, timeout=0.2) for _ in range(8)]
    came = [(await device.next("message"))[0] for _ in lost]
    assert len(set(came)) == len(lost)
    for payload in came:
        try:
            document = json.loads(payload)
        except (ValueError, RecursionError):
            continue
        request = (
            ((document or {}).get("operation") or {}).get("request")
            if isinstance(document, dict)
            else None
        )
        assert not (request and isinstance(request.get("id"), str) and "name" in request)
    platform.faults.clear("dev-1")
    asked = platform.send_operation("dev-1", "B")
    device.answer(await device.request())
    await asked
    for one in lost:
        with pytest.raises(Exception, match="no answer"):
            await one


@pytest_twisted.ensureDeferred
async def test_a_fault_of_one_device_leaves_the_others_alone(start: Any, connect: Any) -> None:
    """Faults are per device, over those for all."""
    platform = start()
    platform.faults.set("dev-1", Fault(pong=PongMode.EMPTY))
    one, two = connect(platform), connect(platform, "dev-2")
    await one.next("open")
    await two.next("open")
    one.ping(b"x")
    two.ping(b"x")
    assert await one.next("pong") == b""
    assert await two.next("pong") == b"x"
