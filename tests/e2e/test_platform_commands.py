"""``oda platform``, ``oda record`` and ``oda replay`` as a user runs them."""

from __future__ import annotations

import json
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oda.platform.client import PlatformClient
from oda.platform.testing import RunningPlatform
from tests.e2e.processes import (
    BIN,
    KEY,
    AgentProcess,
    environment,
    run_oda,
    write_configuration,
)

TRACE = re.compile(r"Traceback|Unhandled")


class OdaProcess:
    """An ``oda`` command that goes on until it is told to end."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self.process = subprocess.Popen(
            [str(BIN / "oda"), *arguments],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(PYTHONUNBUFFERED="1"),
        )

    def line(self, begin: str) -> str:
        """The rest of the first line of its output from now on that begins so."""
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            text: str = raw.decode()
            if text.startswith(begin):
                return text.removeprefix(begin).strip()
        raise AssertionError(f"no line {begin!r}: {self.end()}")

    def lines(self, pattern: str, count: int) -> list[str]:
        """So many lines with this pattern in them."""
        assert self.process.stdout is not None
        found: list[str] = []
        while len(found) < count:
            raw = self.process.stdout.readline()
            assert raw, self.end()
            if re.search(pattern, raw.decode()):
                found.append(raw.decode().rstrip("\n"))
        return found

    def end(self, how: signal.Signals = signal.SIGINT) -> tuple[int, str, str]:
        """Status, the rest of its output, and its log."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        out, log = self.process.communicate(timeout=30)
        return self.process.returncode, out.decode(), log.decode()

    def __enter__(self) -> OdaProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def agent(platform: RunningPlatform, tmp_path: Path) -> Iterator[AgentProcess]:
    """An agent that is connected."""
    conf = write_configuration(tmp_path / "conf", platform, connector={"reconnectMaxDelay": 1})
    with AgentProcess(conf) as running:
        platform.wait_for_device("dev-1", 30)
        yield running


def test_the_platform_runs_in_the_foreground(tmp_path: Path) -> None:
    """``oda platform`` takes twistd's options, prints its addresses, and ends on Ctrl-C."""
    with OdaProcess("platform", "--port", "0", "--http-port", "0", cwd=tmp_path) as running:
        devices = running.line("devices ")
        console = running.line("console ")
        assert re.fullmatch(r"ws://127\.0\.0\.1:\d+/south/v80/sessions/<device id>", devices)
        client = PlatformClient(console)
        assert client.devices() == []
        assert client.call("GET", "/platform")["url"] == devices.removesuffix("/<device id>")
        status, _, log = running.end()
    assert status == 0
    assert "console and REST API at" in log
    assert "starting on" not in log
    assert not TRACE.search(log)


def test_a_stranger_connects_to_twistds_platform(tmp_path: Path) -> None:
    """The ten lines of the documentation, which never saw this project, against
    ``twistd -n oda-platform`` with a file of keys and a scenario."""
    example = Path(__file__).parents[2] / "docs" / "examples" / "ten_lines.py"
    (tmp_path / "keys").write_text("ten-lines=its-own-key\n")
    (tmp_path / "chaos.txt").write_text("on other at 1ms freeze\n")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(str(BIN / "twistd"), "-n", "--pidfile=", "oda-platform"),
                *("--port", "0", "--http-port", "0"),
                *("--keys-file", "keys", "--scenario", "chaos.txt", "--fault", "pong=empty"),
            ],
            cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(),
        )  # fmt: skip
    try:
        devices = wait_for(tmp_path / "log", r"devices connect to (ws://\S+)/<deviceId>")
        client = PlatformClient(wait_for(tmp_path / "log", r"REST API at (http://\S+)"))
        arguments = [sys.executable, str(example), f"{devices}/ten-lines"]
        quiet: dict[str, Any] = {"cwd": tmp_path, "env": environment(), "capture_output": True}
        assert subprocess.run([*arguments, "wrong"], check=False, **quiet).returncode != 0
        subprocess.run([*arguments, "its-own-key"], check=True, **quiet)
        (point,) = client.wait_for_datapoints("ten-lines", "temperature")
        assert point.value == 21.5
        faults = client.call("GET", "/faults")
        assert faults["all"] == {"pong": "empty"}
        assert faults["devices"] == {"other": {"freeze": True}}
    finally:
        process.terminate()
        process.wait(30)
    text = (tmp_path / "log").read_text()
    assert "its-own-key" not in text
    assert not TRACE.search(text)


def wait_for(file: Path, pattern: str) -> str:
    """The group of the first match in a file that is being written."""
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        found = re.search(pattern, file.read_text())
        if found:
            return found[1]
        time.sleep(0.05)
    raise AssertionError(f"{pattern!r} is not in {file.read_text()}")


def test_wrong_options_of_the_platform(tmp_path: Path) -> None:
    """They are named, with status 2; a taken port is an error with status 1."""
    done = run_oda("platform", "--fault", "frieze", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "frieze: unknown" in done.stderr
    with OdaProcess("platform", "--port", "0", "--http-port", "0", cwd=tmp_path) as running:
        port = re.search(r":(\d+)/", running.line("devices "))
        assert port is not None
        done = run_oda("platform", "--port", port[1], "--no-http", cwd=tmp_path)
        assert done.returncode == 1
        assert port[1] in done.stderr
        assert not TRACE.search(done.stderr)
        assert running.end(signal.SIGTERM)[0] == 0
    assert "--scenario" in run_oda("platform", "run", "--help", cwd=tmp_path).stdout


def test_operations_from_the_shell(
    platform: RunningPlatform, agent: AgentProcess, tmp_path: Path
) -> None:
    """``send`` prints the answer; its status says whether it was SUCCESSFUL."""
    parameters = '{"variableList": ["device.ram.total"]}'
    done = run_oda(
        "platform", "send", "dev-1", "GET_DEVICE_PARAMETERS", parameters, "--api", platform.url,
        cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["steps"][0]["response"][0]["variableName"] == "device.ram.total"
    done = run_oda("platform", "send", "dev-1", "NOPE", "--api", platform.url, cwd=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["resultCode"] == "NOT_SUPPORTED"
    done = run_oda(
        "platform", "send", "nobody", "NOPE", "--timeout", "0.2", "--api", platform.url,
        cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "nobody was never seen" in done.stderr
    assert "no answer within 0.2 s" in done.stderr
    done = run_oda("platform", "send", "dev-1", "A", "{", cwd=tmp_path)
    assert done.returncode == 2
    assert "PARAMETERS: not JSON" in done.stderr
    done = run_oda("platform", "devices", "--api", "http://127.0.0.1:1", cwd=tmp_path)
    assert done.returncode == 1
    assert "no platform answers at http://127.0.0.1:1" in done.stderr
    done = run_oda("platform", "devices", "--api", platform.url, cwd=tmp_path)
    assert re.search(r"^dev-1 +connected ", done.stdout, re.M)
    done = run_oda("platform", "devices", "dev-1", "--api", platform.url, cwd=tmp_path)
    assert re.search(r"^device\.ram\.total .* \d+$", done.stdout, re.M)


def test_faults_from_the_shell(
    platform: RunningPlatform, agent: AgentProcess, tmp_path: Path
) -> None:
    """Set, shown, struck and cleared; ``watch`` prints what comes of it."""

    def fault(*words: str) -> subprocess.CompletedProcess[str]:
        return run_oda("platform", "fault", *words, "--api", platform.url, cwd=tmp_path)

    with OdaProcess("platform", "watch", "--api", platform.url, cwd=tmp_path) as watching:
        wait_for_reader(platform, watching)
        assert fault("set", "on", "dev-1", "refuse=503", "retryAfter=1").returncode == 0
        assert fault("strike", "on", "dev-1", "close=4000").stdout == "1 connection hit\n"
        lines = watching.lines("dev-1", 2)
        assert "the faults of dev-1 have changed" in lines[0]
        assert lines[1].endswith("dev-1 disconnected")
        assert "dev-1: refuse=503 retryAfter=1\n" in fault().stdout
        assert fault("clear").stdout == "the faults of single devices stay: dev-1\n"
        assert fault("clear", "on", "dev-1").returncode == 0
        assert watching.lines("dev-1 connected", 1)
        assert fault().stdout == "all devices: no faults\n"
        assert watching.end()[0] == 0
    assert "frieze: unknown" in fault("set", "frieze").stderr
    assert fault("strike", "freeze").returncode == 2
    assert platform.connections("dev-1")[0].close_code == 4000


def wait_for_reader(platform: RunningPlatform, watching: OdaProcess) -> None:
    """Return once ``watching`` sees what happens."""
    deadline_s = time.monotonic() + 30
    assert watching.process.stdout is not None
    while time.monotonic() < deadline_s:
        platform.clear_fault()
        if select.select([watching.process.stdout], [], [], 0.2)[0]:
            return
    raise AssertionError("watch prints nothing")


def between(platform: RunningPlatform, tmp_path: Path, file: str) -> tuple[OdaProcess, Any]:
    """A recording proxy, and a configuration for an agent that goes through it."""
    recording = OdaProcess(
        "record", file, "--listen", "0", "--to", platform.device_url, cwd=tmp_path
    )
    address = recording.line("devices ").partition(",")[0]
    port = address.rpartition(":")[2]
    conf = write_configuration(tmp_path / "conf", platform, connector={"port": port})
    return recording, conf


def test_a_session_is_recorded_and_played(platform: RunningPlatform, tmp_path: Path) -> None:
    """An agent through the proxy; its session then goes to another platform, and to the agent."""
    recording, conf = between(platform, tmp_path, "session.jsonl")
    with recording:
        with AgentProcess(conf) as agent:
            platform.wait_for_device("dev-1", 30)
            wanted = {"variableList": ["device.ram.total", "nope"]}
            platform.send_operation("dev-1", "GET_DEVICE_PARAMETERS", wanted)
            platform.send_operation("dev-1", "NOPE", dialect="list", parameters=[])
            platform.wait_for_datapoints("dev-1", "device.ram.total", 1)
            agent.stop()
        status, out, log = recording.end()
    assert status == 0, log
    assert not TRACE.search(log)
    assert re.search(r"^1 connection, \d+ messages in session.jsonl$", out, re.M)
    content = (tmp_path / "session.jsonl").read_text()
    assert KEY not in content + log
    lines = [json.loads(line) for line in content.splitlines()]
    assert {"open", "message", "ping", "pong", "close"} <= {line.get("what") for line in lines}
    assert lines[-1]["from"] == "device"

    done = run_oda("record", "session.jsonl", "--to", "ws://127.0.0.1:1", cwd=tmp_path)
    assert done.returncode == 1
    assert "session.jsonl exists already" in done.stderr

    done = run_oda(
        "record", "record.jsonl", "--device", "dev-1", "--api", platform.url, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    of_record = [json.loads(line) for line in (tmp_path / "record.jsonl").read_text().splitlines()]
    payloads = [line["text"] for line in lines if line.get("what") == "message"]
    assert [line["text"] for line in of_record if line.get("what") == "message"] == payloads

    with RunningPlatform(["--key", "other"]) as other:
        done = subprocess.run(
            [BIN / "oda", "replay", "session.jsonl", "--to", other.device_url, "--speed", "0"],
            cwd=tmp_path, env=environment(ODA_API_KEY="other"), capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        first = platform.datapoints("dev-1")
        played = other.datapoints("dev-1")
        assert [(p.datastream, p.at_ms, p.value) for p in played] == [
            (p.datastream, p.at_ms, p.value) for p in first
        ]
        done = run_oda("replay", "session.jsonl", "--to", other.device_url, cwd=tmp_path)
        assert done.returncode == 1
        assert "refused with 401" in done.stderr

    arguments = ("replay", "session.jsonl", "--listen", "0", "--speed", "0")
    status, out = play_to_agent(tmp_path, *arguments)
    assert status == 0, out
    assert re.search(r"GET_DEVICE_PARAMETERS \w+: same", out)
    assert "2 operations, 0 with other answers" in out

    broken = content.replace("NON_EXISTENT", "SUCCESS")
    (tmp_path / "broken.jsonl").write_text(broken)
    arguments = ("replay", "broken.jsonl", "--listen", "0", "--save", "again.jsonl")
    status, out = play_to_agent(tmp_path, *arguments)
    assert status == 1
    assert "recorded 'SUCCESS', now 'NON_EXISTENT'" in out
    assert "2 operations, 1 with other answers" in out
    again = [json.loads(line) for line in (tmp_path / "again.jsonl").read_text().splitlines()]
    assert sum(line.get("from") == "platform" for line in again) == 2
    assert any("NON_EXISTENT" in line.get("text", "") for line in again)


def play_to_agent(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    """Status and output of a replay to a fresh start of the agent that was recorded."""
    with OdaProcess(*arguments, cwd=tmp_path) as playing:
        address = playing.line("devices ")
        port = re.search(r":(\d+)/", address)
        assert port is not None
        file = tmp_path / "conf" / "es.amplia.oda.connector.websocket.cfg"
        file.write_text(re.sub(r"port=\d+", f"port={port[1]}", file.read_text()))
        with AgentProcess(tmp_path / "conf"):
            out, log = playing.process.communicate(timeout=60)
    assert not TRACE.search(log.decode()), log
    return playing.process.returncode, out.decode()


def test_a_killed_recorder_leaves_a_readable_file(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    """Everything that has passed before a kill is in the file, and can be played."""
    recording, conf = between(platform, tmp_path, "session.jsonl")
    with recording, AgentProcess(conf):
        platform.wait_for_device("dev-1", 30)
        platform.send_operation("dev-1", "REFRESH_INFO", timeout_s=30)
        recording.process.kill()
        recording.process.communicate()
        seen = {message.payload for message in platform.messages("dev-1")}
    lines = [json.loads(line) for line in (tmp_path / "session.jsonl").read_text().splitlines()]
    written = {
        line["text"].encode() for line in lines if line.get("from") == "device" and "text" in line
    }
    assert seen <= written
    with RunningPlatform() as other:
        done = run_oda("replay", "session.jsonl", "--to", other.device_url, cwd=tmp_path)
        assert done.returncode == 0, done.stderr + done.stdout
        assert {message.payload for message in other.messages("dev-1")} >= seen


def test_files_that_are_no_session_are_refused(tmp_path: Path) -> None:
    """With file, line and member."""
    (tmp_path / "x.jsonl").write_text('{"format": "other"}\n')
    done = run_oda("replay", "x.jsonl", "--listen", "0", cwd=tmp_path)
    assert done.returncode == 1
    assert "x.jsonl:1: format: is not oda-session" in done.stderr
    done = run_oda("replay", "x.jsonl", cwd=tmp_path)
    assert done.returncode == 2
    done = run_oda("record", "y.jsonl", "--to", "http://h", cwd=tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "y.jsonl").exists()
