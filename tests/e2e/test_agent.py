"""The agent as a user runs it: ``twistd -n oda-websocket`` against the stand-in platform."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

from oda.platform.faults import Fault, Incident, PongMode, Refusal
from oda.platform.testing import RunningPlatform
from tests.e2e.processes import (
    BIN,
    KEY,
    AgentProcess,
    environment,
    run_oda,
    write,
    write_configuration,
)

POLLER = "device.upTime=0;1\ndevice.cpu.total=0;0\n"
TRACE = re.compile(r"Traceback|Unhandled")


def test_twistd_knows_both_plugins(tmp_path: Path) -> None:
    """``pip install`` makes twistd list oda-websocket and oda-platform."""
    shown = subprocess.run(
        [BIN / "twistd", "--help"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "oda-websocket" in shown
    assert "oda-platform" in shown


def test_real_readings_arrive_and_operations_are_answered(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    """The main job: connect, publish this machine's readings, answer an operation, end cleanly."""
    conf = write_configuration(tmp_path / "conf", platform, poller=POLLER)
    with AgentProcess(conf) as agent:
        platform.wait_for_device("dev-1")
        platform.wait_for_datapoints("dev-1", "device.upTime", 2)
        values = {point.datastream: point.value for point in platform.latest("dev-1")}
        assert values["device.cpu.total"] >= 1
        assert values["device.upTime"] > 0
        answer = platform.send_operation(
            "dev-1", "GET_DEVICE_PARAMETERS", {"variableList": ["device.ram.total", "nope"]}
        )
        found, missing = answer["steps"][0]["response"]
        assert found["variableValue"] > 0
        assert missing["resultCode"] == "NON_EXISTENT"
        # What GET has read is published as telemetry, too.
        platform.wait_for_datapoints("dev-1", "device.ram.total", 1)
        agent.stop()
    log = agent.text()
    assert not TRACE.search(log), log
    assert KEY not in log


def test_every_fault_is_reported_and_nothing_starts(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    """Faults of all files at once, as file:line: key: problem; the exit status is not 0."""
    conf = write_configuration(tmp_path / "conf", platform, connector={"prot": 1, "secure": "x"})
    write(conf, "subsystem.poller", "device.upTime=soon\n")
    with AgentProcess(conf) as agent:
        assert agent.wait() != 0
    log = agent.text()
    assert "es.amplia.oda.connector.websocket.cfg:4: prot: " in log
    assert "did you mean" in log
    assert "es.amplia.oda.connector.websocket.cfg:5: secure: " in log
    assert "es.amplia.oda.subsystem.poller.cfg:1: device.upTime: " in log
    assert not TRACE.search(log), log


def test_the_platform_is_killed_and_comes_back(
    platform: RunningPlatform, tmp_path: Path, fdatasync_ms: float
) -> None:
    """The agent recovers by itself; what was read meanwhile arrives afterwards."""
    conf = write_configuration(
        tmp_path / "conf", platform, connector={"reconnectMaxDelay": 1}, poller=POLLER
    )
    with AgentProcess(conf, fdatasync_ms=fdatasync_ms) as agent:
        platform.wait_for_datapoints("dev-1", "device.upTime", 1)
        platform.kill()
        platform.start()
        platform.wait_for_device("dev-1", 30)
        platform.wait_for_datapoints("dev-1", "device.upTime", 2, timeout_s=30)
        agent.stop()
    assert not TRACE.search(agent.text()), agent.text()


def test_it_recovers_from_each_misbehaviour(platform: RunningPlatform, tmp_path: Path) -> None:
    """Refusals, garbage, silence, resets and missing pongs: connected again once they end."""
    conf = write_configuration(
        tmp_path / "conf",
        platform,
        connector={"reconnectMaxDelay": 1, "connectionTimeout": 1, "pongTimeout": 1},
    )
    with AgentProcess(conf) as agent:
        platform.wait_for_device("dev-1")
        for refusal in (Refusal.UNAUTHORIZED, Refusal.NOT_FOUND, Refusal.GARBAGE, Refusal.SILENCE):
            before = len(platform.connections("dev-1"))
            platform.set_fault(Fault(refuse=refusal))
            platform.strike(Incident(reset=True))
            platform.wait_until(lambda: not platform.device("dev-1")["connected"])  # type: ignore[index]
            platform.clear_fault()
            platform.wait_for_device("dev-1", 30)
            assert len(platform.connections("dev-1")) > before
        platform.set_fault(Fault(pong=PongMode.DROP))
        platform.strike(Incident(reset=True))
        platform.wait_for_device("dev-1", 30)
        platform.clear_fault()
        answer = platform.send_operation("dev-1", "REFRESH_INFO", timeout_s=30)
        assert answer["resultCode"] == "SUCCESSFUL"
        agent.stop()
    assert not TRACE.search(agent.text()), agent.text()


def test_a_changed_file_is_followed_without_a_new_connection(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    """Hot reload: a poller line takes effect while the connection stays; a faulty file does not."""
    conf = write_configuration(tmp_path / "conf", platform)
    with AgentProcess(conf) as agent:
        platform.wait_for_device("dev-1")
        write(conf, "subsystem.poller", "device.upTime=soon\n")
        agent.signal(signal.SIGHUP)
        agent.wait_for_log("device.upTime: ")
        write(conf, "subsystem.poller", POLLER)
        platform.wait_for_datapoints("dev-1", "device.upTime", 2, timeout_s=30)
        assert len(platform.connections("dev-1")) == 1
        write_configuration(conf, platform, device="dev-2")
        platform.wait_for_device("dev-2", 30)
        agent.stop()
    assert not TRACE.search(agent.text()), agent.text()


def test_oda_send_publishes_through_the_running_agent(
    platform: RunningPlatform, tmp_path: Path, fdatasync_ms: float
) -> None:
    """Arguments and a stream of lines; the acknowledgement is cumulative; errors name the line."""
    conf = write_configuration(tmp_path / "conf", platform)
    with AgentProcess(conf, fdatasync_ms=fdatasync_ms) as agent:
        platform.wait_for_device("dev-1")
        done = run_oda(
            "send", "--conf", "conf", "--at", "1700000000000", "t=21.5", "u@child-1=true",
            cwd=tmp_path,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        (point,) = platform.wait_for_datapoints("dev-1", "t", 1)
        assert (point.value, point.at_ms) == (21.5, 1_700_000_000_000)
        (point,) = platform.wait_for_datapoints("child-1", "u", 1)
        assert point.value is True
        lines = "".join(f"n={number}\n" for number in range(5000))
        done = run_oda("send", "--conf", "conf", "-", cwd=tmp_path, stdin=lines)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "ok 5000"
        done = run_oda("send", "--conf", "conf", "-", cwd=tmp_path, stdin="a=1\noops\n")
        assert done.returncode == 1
        assert done.stdout == "ok 1\n"
        assert "line 2: 'oops'" in done.stderr
        agent.stop()
    done = run_oda("send", "--conf", "conf", "t=1", cwd=tmp_path)
    assert done.returncode == 1
    assert "no agent is running" in done.stderr


def test_the_demo_shows_readings_and_ends_by_itself(tmp_path: Path) -> None:
    """``oda demo`` needs nothing: readings of this machine appear, one line each."""
    done = run_oda("demo", "--every", "0.5", "--for", "3", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "demo-device connected" in done.stdout
    assert len(re.findall(r"device\.upTime +\d+", done.stdout)) >= 2
    assert "oda platform send demo-device GET_DEVICE_PARAMETERS" in done.stdout


def test_the_demo_ends_quietly_when_nobody_reads_it(tmp_path: Path) -> None:
    """``oda demo | head`` has seen enough: no traceback, no demo that runs for ever."""
    demo = subprocess.Popen(
        [BIN / "oda", "demo", "--every", "0.2"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    assert demo.stderr is not None
    assert "platform" in demo.stdout.readline()
    demo.stdout.close()
    assert demo.wait(30) == 0
    assert demo.stderr.read() == ""
    demo.stderr.close()
