"""Sessions played back: to a real platform, and to a real device."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock, deferLater

from oda.codecs import default_registry
from oda.model import ContentType
from oda.platform.access import KeyRing
from oda.platform.clock import SystemClock
from oda.platform.faults import Fault, Incident, PongMode
from oda.platform.tape.client import read_target
from oda.platform.tape.device_player import DevicePlayer, Pace, PlayReport
from oda.platform.tape.from_record import session_from_record
from oda.platform.tape.link import DeviceLink
from oda.platform.tape.platform_player import PlatformPlayer, Verdict
from oda.platform.tape.script import TIMES, Script, read_script
from oda.platform.tape.session_file import Entry, Side, What
from tests.platform.device import Device, answer_to, telemetry

KEY = {"X-ApiKey": "k"}


def test_the_recorded_times_count() -> None:
    """What was a second later then is a second later now, half a second at twice the speed."""
    for speed, waits_s in ((1.0, 1.5), (2.0, 0.75)):
        clock = Clock()
        pace = Pace(clock, speed)
        assert ensureDeferred(pace.until(500)).called
        later = ensureDeferred(pace.until(2000))
        clock.advance(waits_s - 0.01)
        assert not later.called
        clock.advance(0.02)
        assert later.called
    assert ensureDeferred(Pace(Clock(), 0).until(10**9)).called


def message(payload: bytes, connection: int = 1, side: Side = Side.DEVICE, at_ms: int = 0) -> Entry:
    return Entry(at_ms=at_ms, connection=connection, what=What.MESSAGE, side=side, payload=payload)


def opening(connection: int = 1) -> Entry:
    return Entry(at_ms=0, connection=connection, what=What.OPEN, device="dev-1")


def closing(connection: int = 1, code: int | None = 1000) -> Entry:
    return Entry(at_ms=0, connection=connection, what=What.CLOSE, side=Side.DEVICE, code=code)


def player_to(platform: Any, **more: Any) -> DevicePlayer:
    async def connect() -> DeviceLink:
        link = DeviceLink()
        target = read_target(platform.url)
        await link.open(platform.reactor, target, f"{target.path}/dev-1", KEY)
        return link

    return DevicePlayer(platform.reactor, connect, 0, **more)


async def play_to(platform: Any, entries: list[Entry], **more: Any) -> PlayReport:
    return await player_to(platform, **more).play(entries)


@pytest_twisted.ensureDeferred
async def test_a_platform_gets_what_the_other_one_got(start: Any) -> None:
    """Every message, byte by byte, on connections that end as those recorded."""
    platform = start(keys=KeyRing(key="k"))
    payloads = [json.dumps(telemetry(n, at=n)).encode() for n in range(300)]
    entries = [
        opening(),
        *(message(payload) for payload in payloads[:200]),
        Entry(at_ms=0, connection=1, what=What.PING, side=Side.DEVICE, payload=b"p"),
        message(b"from the platform: not for it", side=Side.PLATFORM),
        closing(code=4002),
        opening(2),
        *(message(payload, 2) for payload in payloads[200:]),
        closing(2, None),
        opening(3),
    ]
    report = await play_to(platform, entries)
    assert (report.connections, report.messages, report.sent) == (3, 300, 300)
    assert (report.acknowledged, report.problems) == (300, [])
    while platform.sessions.all():
        await deferLater(platform.reactor, 0.01, lambda: None)
    assert [one.payload for one in platform.messages("dev-1")] == payloads
    connections = platform.recording.connections()
    assert [one.close_code for one in connections] == [4002, 1006, 1000]
    assert [one.messages_in for one in connections] == [200, 100, 0]


@pytest_twisted.ensureDeferred
async def test_a_platform_that_does_not_take_it_is_a_problem(start: Any) -> None:
    """A refusal, a closure, and a ping that is not answered are told; nothing hangs."""
    platform = start(keys=KeyRing(key="other"))
    report = await play_to(platform, [opening(), message(b"{}"), closing()])
    assert (report.sent, report.problems) == (0, ["connection 1: refused with 401"])
    platform = start()
    platform.faults.set(None, Fault(close=1008, close_reason="no", after_messages=1))
    report = await play_to(platform, [opening(), message(b"{}"), closing()])
    assert report.acknowledged == 0
    assert report.problems == ["connection 1: closed with code 1008 (no)"]
    platform = start()
    platform.faults.set(None, Fault(pong=PongMode.DROP))
    report = await play_to(platform, [opening(), message(b"{}"), closing()], pong_timeout_s=0.05)
    assert (report.sent, report.acknowledged) == (1, 0)
    assert report.problems == ["connection 1: no pong within 0.05 s"]
    await platform.stopService()
    report = await play_to(platform, [opening(), message(b"{}")])
    assert "can't connect" in report.problems[0]


@pytest_twisted.ensureDeferred
async def test_more_than_fits_waits_for_the_platform(start: Any) -> None:
    """A platform that reads slowly gets everything; the player does not pile it up."""
    platform = start()
    platform.faults.set(None, Fault(freeze=True))
    entries = [opening(), *[message(b"x" * 500_000)] * 60, closing()]
    player = player_to(platform)
    playing = ensureDeferred(player.play(entries))
    await deferLater(platform.reactor, 0.3, lambda: None)
    assert 0 < player.report.sent < 60
    assert platform.messages("dev-1") == []
    platform.faults.clear(None)
    report = await playing
    assert report.acknowledged == 60


def request(request_id: Any, name: str = "A", **more: Any) -> bytes:
    document = {"operation": {"request": {"id": request_id, "deviceId": "dev-1", "name": name}}}
    document["operation"]["request"].update(more)
    return json.dumps(document).encode()


def response(request_id: str, name: str = "A", **more: Any) -> bytes:
    return json.dumps(
        answer_to({"id": request_id, "name": name, "deviceId": "dev-1"}, **more)
    ).encode()


def decode(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return None


class Stage:
    """A player, its verdicts to come, and a device that connects to it."""

    def __init__(self, entries: list[Entry], **more: Any) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        numbers = count(1)
        arguments: dict[str, Any] = {
            "speed": 0.0,
            "answer_timeout_s": 5.0,
            "new_id": lambda: f"new-{next(numbers)}",
            **more,
        }
        script: Script = read_script(entries, decode)
        self.player = PlatformPlayer(
            reactor, SystemClock(), default_registry(), script, "dev-1", **arguments
        )
        self.port = self.player.listen(0, "127.0.0.1", "/x")
        self.verdicts: Deferred[list[Verdict]] = ensureDeferred(self.player.play(TIMES))

    async def device(self, name: str = "dev-1") -> Device:
        device = Device(self.reactor, f"ws://127.0.0.1:{self.port}/x/{name}")
        await device.next("open")
        return device


@pytest_twisted.ensureDeferred
async def test_a_device_that_answers_the_same_is_the_same() -> None:
    """Other ids and times of answers are no difference, nor is another device id or format."""
    stage = Stage(
        [
            opening(),
            message(request("1"), side=Side.PLATFORM),
            message(response("1", steps=[{"name": "A", "timestamp": 1}])),
            message(request(2, "B"), side=Side.PLATFORM),
            message(response("2", "B")),
        ]
    )
    device = await stage.device("other")
    first = await device.request()
    assert (first["id"], first["deviceId"], first["name"]) == ("new-1", "other", "A")
    device.datapoint(1)
    device.ping()
    await device.next("pong")
    assert device.pending("message") == []  # B was asked after A's answer, and is again
    device.answer(first, steps=[{"name": "A", "timestamp": 2}])
    second = await device.request()
    codec = default_registry().codec(ContentType.CBOR)
    device.send_bytes(codec.encode(answer_to(second)))
    assert await stage.verdicts == [Verdict("A", "1", []), Verdict("B", "2", [])]
    assert stage.player.other_messages == 1
    await stage.player.stop()
    assert (await device.next("close"))[0] == 1000
    recorded = stage.player.recorded()
    assert recorded.devices() == ["other"]
    assert [e.side for e in recorded.entries if e.what is What.MESSAGE] == [
        Side.PLATFORM,
        Side.DEVICE,
        Side.DEVICE,
        Side.PLATFORM,
        Side.DEVICE,
    ]


@pytest_twisted.ensureDeferred
async def test_other_answers_and_none_are_told() -> None:
    """A member that differs is named; an answer that does not come costs its time limit once."""
    stage = Stage(
        [
            opening(),
            message(request("1"), side=Side.PLATFORM),
            message(response("1", steps=[])),
            message(request("2"), side=Side.PLATFORM),
            message(response("2")),
            *(message(request(str(n)), side=Side.PLATFORM) for n in range(3, 13)),
        ],
        answer_timeout_s=0.2,
    )
    device = await stage.device()
    began_s = stage.reactor.seconds()
    device.answer(await device.request(), resultCode="NOT_SUPPORTED")
    verdicts = await stage.verdicts
    assert stage.reactor.seconds() - began_s < 10 * 0.2
    assert [(await device.request())["id"] for _ in range(11)][-1] == "new-12"
    assert verdicts == [
        Verdict(
            "A",
            "1",
            [
                "$.resultCode: recorded 'SUCCESSFUL', now 'NOT_SUPPORTED'",
                "$.steps: recorded [], now missing",
            ],
        ),
        Verdict("A", "2", ["recorded 1 answer, now no answer"]),
        *(Verdict("A", str(n), []) for n in range(3, 13)),
    ]
    await stage.player.stop()


@pytest_twisted.ensureDeferred
async def test_ids_and_bytes_may_be_kept() -> None:
    """Without new ids every message goes out byte by byte; what is no operation always does."""
    rubbish = b'{"operation": 1}'
    entries = [
        opening(),
        message(rubbish, side=Side.PLATFORM),
        message(request("1", parameters={"b": 1}), side=Side.PLATFORM),
        message(response("1")),
    ]
    stage = Stage(entries, new_id=None)
    device = await stage.device()
    assert (await device.next("message"))[0] == rubbish
    payload, _ = await device.next("message")
    assert payload == request("1", parameters={"b": 1})
    device.send_bytes(response("1"))
    assert await stage.verdicts == [Verdict("A", "1", [])]
    await stage.player.stop()


@pytest_twisted.ensureDeferred
async def test_it_goes_on_after_a_reconnect_and_repeats_count_once() -> None:
    """A device that loses its connection gets the rest on the next one; a duplicate request keeps
    its id, and an answer that comes twice is one."""
    stage = Stage(
        [
            opening(),
            message(request("1"), side=Side.PLATFORM),
            message(request("1"), side=Side.PLATFORM),
            message(response("1")),
            message(request("2"), side=Side.PLATFORM),
            message(response("2")),
        ]
    )
    device = await stage.device()
    first, again = await device.request(), await device.request()
    assert first["id"] == again["id"] == "new-1"
    device.protocol.transport.abortConnection()
    await device.next("close")
    device = await stage.device()
    device.answer(first)
    device.answer(first)
    device.answer(await device.request())
    assert await stage.verdicts == [Verdict("A", "1", []), Verdict("A", "2", [])]
    await stage.player.stop()


@pytest_twisted.ensureDeferred
async def test_a_platforms_record_can_be_played_again(start: Any, connect: Any) -> None:
    """What one platform has on record of a device, played to another, gives the same datapoints."""
    first = start()
    device = connect(first)
    await device.next("open")
    for number in range(5):
        device.datapoint(number, at=number)
    device.ping()
    await device.next("pong")
    first.strike(None, Incident(close=1000))
    await device.next("close")
    while first.sessions.all():
        await deferLater(first.reactor, 0.01, lambda: None)
    session = session_from_record(first.messages(None, None), first.recording.connections())
    second = start()
    report = await play_to(second, session.of_device("dev-1"))
    assert report.problems == []
    assert [p.value for p in second.datapoints("dev-1")] == [0, 1, 2, 3, 4]
