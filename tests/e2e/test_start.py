"""Starts that fail: the command says so and ends, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from oda.platform.testing import RunningPlatform
from tests.e2e.processes import BIN, AgentProcess, environment, write_configuration


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


def test_a_daemon_starts_over_a_pid_file_that_means_nobody(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    """The file of a process that was killed is no reason not to start."""
    configuration = write_configuration(tmp_path / "conf", platform)
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / "agent.pid").write_text(str(gone.pid))
    started = start(tmp_path, configuration, "agent")
    assert started.returncode == 0, started.stderr
    pid = int((tmp_path / "agent.pid").read_text())
    try:
        platform.wait_for_device("dev-1")
    finally:
        os.kill(pid, signal.SIGTERM)
    deadline_s = time.monotonic() + 20
    while (tmp_path / "agent.pid").exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
