"""Starts that fail: the command says so and ends, and nothing is left behind."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from oda.platform.testing import RunningPlatform
from tests.e2e.processes import (
    BIN,
    AgentProcess,
    environment,
    write,
    write_configuration,
)


def start(
    directory: Path, configuration: Path, name: str, *options: str
) -> subprocess.CompletedProcess[str]:
    """``twistd`` with a PID file and a log of that name; returns when the command has ended."""
    return subprocess.run(
        [
            str(BIN / "twistd"),
            f"--pidfile={name}.pid",
            f"--logfile={name}.log",
            *options,
            "oda-websocket",
            "--conf",
            str(configuration),
        ],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        check=False,
    )


@pytest.mark.parametrize("is_daemon", [False, True], ids=["foreground", "daemon"])
def test_a_second_agent_ends_with_status_1_and_leaves_no_pid_file(
    platform: RunningPlatform, tmp_path: Path, is_daemon: bool
) -> None:
    """Two agents of one outbox would send everything twice. The second is told so, also where
    twistd has gone into the background; the first goes on."""
    configuration = write_configuration(tmp_path / "conf", platform)
    with AgentProcess(configuration) as agent:
        agent.wait_for_log("connected to")
        second = start(tmp_path, configuration, "second", *([] if is_daemon else ["-n"]))
        assert second.returncode == 1
        assert "in use by another agent" in (tmp_path / "second.log").read_text()
        assert not (tmp_path / "second.pid").exists()
        agent.stop()


def stop_daemon(directory: Path) -> None:
    """SIGTERM to the daemon of ``agent.pid``; returns when it has removed that file."""
    os.kill(int((directory / "agent.pid").read_text()), signal.SIGTERM)
    deadline_s = time.monotonic() + 20
    while (directory / "agent.pid").exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


@pytest.mark.parametrize("means", ["a process that is gone", "another process", "nothing"])
def test_a_daemon_starts_over_a_pid_file_that_means_nobody(
    platform: RunningPlatform, tmp_path: Path, means: str
) -> None:
    """The file of a process that was killed is no reason not to start: neither if its number is
    another program's by now, nor if a loss of power left it empty."""
    configuration = write_configuration(tmp_path / "conf", platform)
    gone = subprocess.Popen(["true"])
    gone.wait()
    contents = {
        "a process that is gone": str(gone.pid),
        "another process": str(os.getpid()),
        "nothing": "",
    }
    (tmp_path / "agent.pid").write_text(contents[means])
    started = start(tmp_path, configuration, "agent")
    assert started.returncode == 0, started.stderr
    try:
        platform.wait_for_device("dev-1")
    finally:
        stop_daemon(tmp_path)


@pytest.mark.parametrize("is_daemon", [False, True], ids=["foreground", "daemon"])
@pytest.mark.parametrize("fault", ["configuration", "store"])
def test_what_can_not_start_leaves_no_pid_file(
    platform: RunningPlatform, tmp_path: Path, fault: str, is_daemon: bool
) -> None:
    """A configuration with a fault, and a place for the outbox that another program has locked:
    status 1, a reason, and nothing left behind."""
    configuration = write_configuration(tmp_path / "conf", platform)
    outbox = tmp_path / "outbox.sqlite"
    with outbox.open("w") as file:
        if fault == "store":
            write(configuration, "connector.websocket", f"host=h\npath=/x\noutboxPath={outbox}\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            write(configuration, "connector.websocket", "port=none\n")
        started = start(tmp_path, configuration, "agent", *([] if is_daemon else ["-n"]))
    assert started.returncode == 1
    log = tmp_path / "agent.log"
    told = started.stderr + (log.read_text() if log.exists() else "")
    assert ("in use by another" if fault == "store" else "port") in told
    assert not (tmp_path / "agent.pid").exists()
