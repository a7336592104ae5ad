"""An agent inside another program: the commands reach it, and its log follows the settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from oda.config.loader import DIRECTORIES
from oda.local_control import usual_directory

ROOT = Path(__file__).resolve().parent.parent

#: A program with an agent in it, whose settings are made in code. Nobody listens at its host.
PROGRAM = """
import sys
from pathlib import Path
from twisted.internet import reactor
from twisted.logger import globalLogBeginner, textFileLogObserver
from oda.agent import Agent
from oda.settings import *

globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
agent = Agent(
    AgentSettings(
        connector=ConnectorSettings(host="127.0.0.1", port=9),
        device_info=DeviceInfoSettings(device_id="dev-1", api_key=Secret("k")),
        outbox=OutboxSettings(path=Path("outbox.sqlite")),
        monitor=MonitorSettings(log_level=LogLevel.ERROR),
    ),
    control=Path("conf"),
)
agent.startService()
reactor.callLater(0, print, "started", flush=True)
reactor.run()
"""


class Embedded:
    """The program, and the commands given to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "conf").mkdir()
        self._environ = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(directory)}
        self._environ.pop("RUNTIME_DIRECTORY", None)
        (directory / "oda").mkdir(mode=0o700)
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=directory,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "started\n"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from oda.cli import main; main()", *arguments],
            cwd=self.directory,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def stop(self) -> str:
        """End the program; what it has logged."""
        self.process.terminate()
        _, errors = self.process.communicate(timeout=60)
        return errors


@pytest.fixture
def embedded() -> Iterator[Embedded]:
    """Its path is short, as a socket's has to be."""
    with TemporaryDirectory(prefix="oda-") as directory:
        running = Embedded(Path(directory))
        yield running
        running.process.kill()
        running.process.communicate()


def test_the_commands_reach_an_embedded_agent(embedded: Embedded) -> None:
    """``oda send`` is accepted, and ``oda status`` tells how the agent is, as for its own process;
    with ``logLevel`` ERROR its log holds no line about the platform that is away."""
    done = embedded.run("send", "--conf", "conf", "greenhouse.temperature=21.5")
    assert (done.returncode, done.stderr) == (0, "")
    done = embedded.run("status", "--conf", "conf", "--json")
    assert done.returncode == 1, done.stderr  # it runs, and is not connected
    status = json.loads(done.stdout)
    assert (status["device"], status["ready"]) == ("dev-1", False)
    assert status["datapoints"]["accepted"] == 1
    assert "no connection" not in embedded.stop()


def test_the_directory_of_the_commands_is_the_usual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``control=True`` it is the one that ``oda status`` finds without --conf, also where
    there is none yet."""
    monkeypatch.chdir(tmp_path)
    assert usual_directory() in DIRECTORIES
    (tmp_path / "conf").mkdir()
    assert usual_directory() == Path("conf")


def test_an_embedded_agent_loads_only_what_it_uses(tmp_path: Path) -> None:
    """Not how files are configured, how commands reach an agent, or how updates are installed: the
    memory of every program with an agent in it."""
    program = """
import sys
from oda.agent import Agent
from oda.settings import *

Agent(
    AgentSettings(
        connector=ConnectorSettings(host="127.0.0.1", port=9),
        device_info=DeviceInfoSettings(device_id="dev-1", api_key=Secret("k")),
        outbox=OutboxSettings(kind=OutboxKind.MEMORY),
    )
).startService()
print(*sorted(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "oda.agent" in loaded
    unused = {"oda.config", "oda.control", "oda.local_control", "oda.upkeep", "oda.platform"}
    unused |= {"oda.update.commands", "oda.update.configuration", "oda.update.packages"}
    unused |= {"oda.commands", "oda.outbox.inspection", "oda.outbox.maintenance", "automat"}
    unused |= {"oda.operations.script_operation", "oda.telemetry.inmemory", "twisted.web"}
    assert loaded & unused == set()


def test_an_agent_at_rest_takes_little_memory(tmp_path: Path) -> None:
    """A program may hold a thousand: at most 70 kB of Python's memory each, however
    large the environment is: no agent has a copy of that, or tables of its own."""
    program = """
import gc, tracemalloc
from oda.agent import Agent
from oda.settings import *

def start():
    agent = Agent(
        AgentSettings(
            connector=ConnectorSettings(host="127.0.0.1", port=9),
            device_info=DeviceInfoSettings(device_id="dev-1", api_key=Secret("k")),
            outbox=OutboxSettings(kind=OutboxKind.MEMORY),
        )
    )
    agent.startService()
    return agent

start()
tracemalloc.start()
agents = [start() for _ in range(20)]
gc.collect()
print(tracemalloc.get_traced_memory()[0] / len(agents))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LARGE": "x" * 65_536},
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout.splitlines()[-1]) < 70_000
