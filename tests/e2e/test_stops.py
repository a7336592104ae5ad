"""SIGTERM and Ctrl-C end a whole process in time, whatever its disk does.

tests/simulation/test_stopping.py walks through all states of disk, network and operations; these
are the ones in which the process itself, its threads and its file system have a part.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from oda.platform.testing import RunningPlatform
from tests.chaos.disk import small_disk
from tests.e2e.processes import AgentProcess, run_oda, write, write_configuration

#: Ten seconds, and some for a machine that is busy.
LIMIT_S = 13.0
READINGS = "device.upTime=0;1\n"
#: Root obeys the mode of a directory, too.
OBEDIENT = (
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
    "--",
)


def nobody_listens() -> int:
    """A port at which the platform is not."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def configure(directory: Path, outbox: Path, port: int) -> Path:
    """An agent with a reading each second, whose platform is at ``port``."""
    directory.mkdir(exist_ok=True)
    write(
        directory,
        "connector.websocket",
        f"host=127.0.0.1\nport={port}\npath=/x\noutboxPath={outbox}\n",
    )
    write(directory, "datastreams.deviceinfo", "deviceId=dev-1\napiKey=key\n")
    write(directory, "subsystem.poller", READINGS)
    return directory


def end(agent: AgentProcess, number: signal.Signals) -> tuple[int, float]:
    """Send the signal; the exit status, and the seconds that it took."""
    began_s = time.monotonic()
    agent.signal(number)
    status = agent.wait()
    return status, time.monotonic() - began_s


@pytest.fixture
def closed_directory(tmp_path: Path) -> Iterator[Path]:
    """A directory in which nobody may make a file."""
    path = tmp_path / "closed"
    path.mkdir(mode=0o555)
    yield path
    path.chmod(0o755)


@contextmanager
def obedient(configuration: Path) -> Iterator[AgentProcess]:
    """An agent whose user is bound by the modes of files."""
    before = OBEDIENT if os.geteuid() == 0 else ()
    if before and shutil.which(before[0]) is None:
        pytest.skip("root may write everywhere, and there is no setpriv")
    with AgentProcess(configuration, before=before) as agent:
        yield agent


def test_trouble_with_the_disk_is_visible(closed_directory: Path, tmp_path: Path) -> None:
    """``oda status`` and ``oda outbox`` name it, although there is no file, and the local socket
    found no place beside it; ``oda send`` does not wait for it."""
    conf = configure(tmp_path / "conf", closed_directory / "outbox.sqlite", nobody_listens())
    with obedient(conf) as agent:
        agent.wait_for_log("the outbox can't be written to")
        shown = run_oda("status", "--conf", str(conf), cwd=tmp_path)
        assert (shown.returncode, shown.stderr) == (1, "")
        assert "disk: the outbox can't be written to" in shown.stdout
        for command in ("status", "list", "export", "verify"):
            told = run_oda("outbox", command, "--conf", str(conf), cwd=tmp_path)
            assert (told.returncode, told.stdout) == (1, "")
            assert "there is no such file (the outbox can't be written to" in told.stderr
            assert re.search(r"keeps in memory: [1-9]\d* waiting, 0 in flight, 0", told.stderr)
        began_s = time.monotonic()
        sent = run_oda("send", "--conf", str(conf), "t=1", cwd=tmp_path)
        assert time.monotonic() - began_s < 8.0  # five, and the start of a process
        assert sent.returncode == 1
        assert "not accepted: the outbox can't be written to" in sent.stderr
        agent.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_outbox_that_can_not_be_made(
    closed_directory: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """The platform is away, and something waits that is nowhere but in memory: the log says how
    much is lost, and why."""
    outbox = closed_directory / "outbox.sqlite"
    conf = configure(tmp_path / "conf", outbox, nobody_listens())
    with obedient(conf) as agent:
        agent.wait_for_log("the outbox can't be written to")
        agent.wait_for_log("no connection")
        time.sleep(2.0)
        _, took_s = end(agent, number)
        text = agent.text()
    assert took_s < LIMIT_S, text
    assert "Server Shut Down" in text
    assert "), which could not be written: " in text
    assert "Traceback" not in text


def test_a_file_system_that_fills(tmp_path: Path) -> None:
    """The same on a disk that is full by the time of the stop: the loss is told, unless SQLite has
    found a page in its own file."""
    with small_disk(tmp_path / "disk") as disk:
        conf = configure(tmp_path / "conf", disk.path / "outbox.sqlite", nobody_listens())
        with AgentProcess(conf) as agent:
            agent.wait_for_log("no connection")
            time.sleep(2.0)
            disk.fill(agent)
            agent.wait_for_log("the outbox can't be written to")
            disk.fill(agent)  # the room that closing the write-ahead log gave back
            time.sleep(1.5)
            _, took_s = end(agent, signal.SIGTERM)
            text = agent.text()
        assert took_s < LIMIT_S, text
        assert "Server Shut Down" in text
        is_lost = ", which could not be written: d" in text  # full, or I/O error
        assert is_lost or "the outbox is written to" in text, text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_disk_that_hangs(
    platform: RunningPlatform, tmp_path: Path, number: signal.Signals
) -> None:
    """On a quick disk the reactor waits for commits itself, so it does not even learn of the
    signal. The process ends all the same, with status 1; it says where it stood and leaves no PID
    file. The next agent starts as ever."""
    hangs = tmp_path / "hangs"
    conf = write_configuration(tmp_path / "conf", platform, poller=READINGS)
    pid_file = tmp_path / "agent.pid"
    with AgentProcess(conf, twistd=(f"--pidfile={pid_file}",), hang_while=hangs) as agent:
        platform.wait_for_datapoints("dev-1", "device.upTime", 2)
        assert pid_file.exists()
        hangs.touch()
        time.sleep(2.5)  # a reading comes, and its commit hangs
        status, took_s = end(agent, number)
        text = agent.text()
    assert took_s < LIMIT_S, text
    assert status == 1, text
    assert "has not ended within 10 s of the signal" in text
    assert "sqlite_store.py" in text
    assert not pid_file.exists()
    hangs.unlink()
    agent.log.unlink()
    with AgentProcess(conf) as agent:
        agent.wait_for_log("connected to")
        agent.stop()


def test_a_script_does_not_outlive_a_hurried_stop(tmp_path: Path) -> None:
    """The agent ends at once on a second SIGTERM, and a script that heeds no SIGTERM with it: else
    one would stay behind for ever with each restart."""
    conf = configure(tmp_path / "conf", tmp_path / "outbox.sqlite", nobody_listens())
    script, number = tmp_path / "stubborn.sh", tmp_path / "number"
    script.write_text(f"#!/bin/sh\ntrap '' TERM\necho $$ > {number}\nwhile :; do sleep 1; done\n")
    script.chmod(0o755)
    write(
        conf,
        "datastreams.deviceinfo",
        f"deviceId=dev-1\napiKey=key\npath={tmp_path}\nstubborn=stubborn.sh\n",
    )
    write(conf, "subsystem.poller", READINGS + "stubborn=0;60\n")
    with AgentProcess(conf) as agent:
        _wait_until(lambda: number.exists() and bool(number.read_text().strip()))
        line = Path("/proc", number.read_text().strip(), "cmdline")
        assert b"stubborn" in line.read_bytes()
        agent.signal(signal.SIGTERM)
        agent.wait_for_log("Received SIGTERM")
        time.sleep(0.5)
        end(agent, signal.SIGTERM)
        text = agent.text()
    assert "killed the script stubborn.sh" in text
    _wait_until(lambda: not line.exists() or not line.read_bytes())  # gone, or waits for init


def _wait_until(is_true: Callable[[], bool], timeout_s: float = 15.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
