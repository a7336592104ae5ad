"""The kit for others: a platform in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from itertools import repeat
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from oda.platform.client import _read_events
from oda.platform.testing import (
    Fault,
    Incident,
    NotWithinTime,
    PlatformRefused,
    PongMode,
    RunningPlatform,
    StartFailed,
)

from .device import answer_to, telemetry

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "ten_lines.py"


def device(platform: RunningPlatform, name: str = "dev-1") -> ClientConnection:
    return connect(platform.device_url_of(name), open_timeout=10, close_timeout=1)


def test_the_example_of_the_documentation_publishes_a_datapoint(
    oda_platform: RunningPlatform,
) -> None:
    """A device that never saw this project, in ten lines, connects and its datapoint arrives."""
    url = oda_platform.device_url_of("ten-lines")
    subprocess.run([sys.executable, str(EXAMPLE), url], check=True, timeout=30)
    (datapoint,) = oda_platform.wait_for_datapoints("ten-lines", "temperature")
    assert datapoint.value == 21.5
    code = [
        line
        for line in EXAMPLE.read_text().splitlines()
        if line.strip() and not line.startswith('"""')
    ]
    assert len(code) <= 10


def test_record_and_operations_of_a_running_platform(oda_platform: RunningPlatform) -> None:
    """The blocking client gives messages, connections, datapoints, operations and their answers."""
    operation_id = oda_platform.post_operation("dev-1", "A", {"x": 1}, timeout=20)
    with device(oda_platform) as websocket:
        assert oda_platform.wait_for_device("dev-1")["connection"]["number"] == 1
        websocket.send(json.dumps(telemetry(1)))
        request = json.loads(websocket.recv(timeout=10))["operation"]["request"]
        websocket.send(json.dumps(answer_to(request)).encode())
        settled = oda_platform.operation(operation_id, wait_s=10)
        assert settled.answer is not None
        assert [one.id for one in oda_platform.operations("dev-1")] == [operation_id]
        oda_platform.set_fault(Fault(pong=PongMode.EMPTY), "dev-1")
        assert oda_platform.call("GET", "/devices/dev-1/faults")["effective"] == {"pong": "empty"}
        oda_platform.clear_fault("dev-1")
        assert oda_platform.strike(Incident(close=4000), "dev-1") == 1
    first, second = oda_platform.messages("dev-1")
    assert (first.payload, first.is_text) == (json.dumps(telemetry(1)).encode(), True)
    assert (second.position, second.is_text) == (2, False)
    assert [m.format for m in oda_platform.messages("dev-1", "out")] == ["JSON"]
    assert oda_platform.latest("dev-1")[0].value == 1
    (connection,) = oda_platform.connections("dev-1")
    assert (connection.close_code, connection.messages_in) == (4000, 2)


def test_errors_are_named(oda_platform: RunningPlatform) -> None:
    """What the API refuses is raised with its words; what does not happen raises NotWithinTime."""
    with pytest.raises(PlatformRefused, match="name"):
        oda_platform.post_operation("dev-1", "")
    with pytest.raises(NotWithinTime):
        oda_platform.wait_for_device("nobody", timeout_s=0.05)
    with pytest.raises(NotWithinTime):
        oda_platform.send_operation("nobody", "A", timeout_s=0.05)
    assert oda_platform.datapoints("nobody") == []


def test_live_events_can_be_followed(oda_platform: RunningPlatform) -> None:
    """``events`` yields what happens, in order."""
    with oda_platform.events() as events, device(oda_platform) as websocket:
        assert next(events).data == {"device": "dev-1", "connected": True}
        websocket.send(json.dumps(telemetry(7, at=5)))
        arrived = next(events)
    assert (arrived.kind, arrived.data["datapoints"][0]["value"]) == ("datapoints", 7)


def test_a_bad_option_does_not_start(tmp_path: Path) -> None:
    """The reason is in the log, and the exception says where that is."""
    platform = RunningPlatform(["--fault", "pong=x"], log=tmp_path / "log")
    with pytest.raises(StartFailed, match="log"):
        platform.start()
    assert "pong: must be one of" in (tmp_path / "log").read_text()


def test_every_message_a_pong_vouches_for_survives_a_kill(tmp_path: Path) -> None:
    """With a durable record, what was read before a pong is on record after SIGKILL, in order, on
    its connection; numbers go on where they were."""
    options = ["--database", str(tmp_path / "record.db"), "--durable"]
    with RunningPlatform(options, log=tmp_path / "log") as platform:
        url = platform.device_url
        payloads = [json.dumps(telemetry(number, at=number)).encode() for number in range(500)]
        with device(platform) as websocket:
            for payload in payloads:
                websocket.send(payload)
            assert websocket.ping().wait(10)
            platform.kill()
        platform.start()
        assert platform.device_url == url
        with device(platform) as websocket:
            websocket.send(payloads[0])
            assert websocket.ping().wait(10)
        messages = platform.messages("dev-1")
        assert [message.payload for message in messages] == [*payloads, payloads[0]]
        assert [message.number for message in messages] == list(range(1, 502))
        assert [message.position for message in messages] == [*range(1, 501), 1]
        assert {message.connection for message in messages} == {1, 2}
        killed, _ = platform.connections("dev-1")
        assert killed.closed_ms is None
        datapoints = platform.datapoints("dev-1")
        assert [datapoint.value for datapoint in datapoints] == list(range(500))
        assert [datapoint.copies for datapoint in datapoints[:2]] == [2, 1]


@pytest.mark.parametrize("after", [50, 400, 1100])
def test_a_kill_at_any_moment_leaves_a_record_without_a_gap(tmp_path: Path, after: int) -> None:
    """Killed while a device streams: the record is the beginning of what was sent, in order, at
    least up to the newest pong and the newest live change; its datapoints are exactly its own."""
    options = ["--database", str(tmp_path / "record.db"), "--durable"]
    with RunningPlatform(options, log=tmp_path / "log") as platform:
        sent: list[bytes] = []
        acknowledged = told = 0
        with device(platform) as websocket, platform.events() as events:
            try:
                for number in range(100_000):
                    payload = json.dumps(telemetry(number, at=number)).encode()
                    websocket.send(payload)
                    sent.append(payload)
                    if number == after:
                        told = next(events).data["datapoints"][0]["value"] + 1
                        threading.Timer(0.02, platform.kill).start()
                    if number % 100 == 99 and number < after:
                        assert websocket.ping().wait(10)
                        acknowledged = len(sent)
            except ConnectionClosed:
                pass
        platform.start()
        payloads = [message.payload for message in platform.messages("dev-1")]
        assert payloads == sent[: len(payloads)]
        assert len(payloads) >= max(acknowledged, told)
        assert [point.value for point in platform.datapoints("dev-1")] == list(range(len(payloads)))


def test_heartbeats_do_not_prolong_a_wait() -> None:
    """A wait ends at its limit although the stream of events is never silent: before, each
    heartbeat of the platform began the limit anew, and a wait longer than one never ended."""
    asked = []

    def limit() -> None:
        asked.append(None)
        if len(asked) > 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        next(_read_events(repeat(b": heartbeat\n"), limit))
