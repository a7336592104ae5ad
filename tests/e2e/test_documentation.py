"""The tours of README.md and docs/quick-start.md, and the programs of docs/examples, as whole
processes: what a reader types is typed here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from oda.platform.testing import RunningPlatform
from tests.docs.pages import ROOT, Page
from tests.docs.shell import commands, is_shell
from tests.e2e.processes import BIN, environment, run_oda

DEVICE = "my-device"


def shell_environment() -> dict[str, str]:
    """With the virtual environment active."""
    return environment(PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}")


class Reader:
    """Somebody who does what a page says, in ``directory``, beside a platform that runs already."""

    def __init__(self, platform: RunningPlatform, directory: Path) -> None:
        self.platform = platform
        self.directory = directory
        self.answers: list[object] = []
        self._ports = {
            "9955": str(urlsplit(platform.device_url).port),
            "9956": str(urlsplit(platform.url).port),
        }
        shutil.copytree(ROOT / "conf", directory / "conf")
        for file in (directory / "conf").iterdir():
            file.write_text(self.adapt(file.read_text()))

    def adapt(self, text: str) -> str:
        """``text`` with the ports and the key of the platform that runs."""
        for documented, actual in self._ports.items():
            text = text.replace(documented, actual)
        return text.replace("demo-key", "e2e-key")

    def read(self, page: Page, section: str = "") -> Iterator[subprocess.Popen[bytes]]:
        """Run the commands behind the heading ``section``; gives the agent once it is started."""
        start = page.text[: page.text.index(section)].count("\n")
        for block in page.blocks:
            if block.line <= start or not is_shell(block):
                continue
            programs = {Path(command.program).name for command in commands(block)}
            if "oda-platform" in block.text or programs & {"python3", "pip"}:
                continue  # it runs and is installed already
            if "oda-websocket" in block.text:
                yield self.start(block.text)
                self.platform.wait_for_device(DEVICE, 30)
            else:
                self.run(block.text)

    @contextmanager
    def started(self, text: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command in the background, ended afterwards."""
        process = self.start(text)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def start(self, text: str) -> subprocess.Popen[bytes]:
        """A command in the background; its output goes to ``agent.log``."""
        script = re.sub(r"((?:\w+=\S+ )*)twistd", r"export \1; exec twistd", text, count=1)
        with (self.directory / "agent.log").open("wb") as log:
            return subprocess.Popen(
                ["bash", "-c", self.adapt(script)],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=shell_environment(),
            )

    def run(self, text: str) -> None:
        """A block, to its end; what ``curl`` shows is kept in ``answers``."""
        awaited = re.search(r"/datastreams/([\w.]+)/datapoints", text)
        if awaited:
            self.platform.wait_for_datapoints(DEVICE, awaited[1], 1, timeout_s=30)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.adapt(text)],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
            env=shell_environment(),
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        if "curl" in text:
            decoder, rest = json.JSONDecoder(), done.stdout.strip()
            while rest:
                answer, end = decoder.raw_decode(rest)
                assert "error" not in answer, answer
                self.answers.append(answer)
                rest = rest[end:].strip()


@pytest.mark.parametrize(
    ("name", "section"),
    [("README.md", "## A minute's tour"), ("docs/quick-start.md", "## A platform")],
)
def test_a_tour(platform: RunningPlatform, tmp_path: Path, name: str, section: str) -> None:
    """Every command of the page works; operations are answered, what is sent arrives."""
    reader = Reader(platform, tmp_path)
    agents: list[subprocess.Popen[bytes]] = []
    try:
        for agent in reader.read(Page(ROOT / name), section):
            agents.append(agent)
        platform.wait_for_datapoints(DEVICE, "room.temperature", 1)
        (agent,) = agents
        assert agent.poll() is None
    finally:
        for agent in agents:
            agent.kill()
            agent.wait()
    operations = [one for one in reader.answers if isinstance(one, dict) and "state" in one]
    assert [one["answer"]["resultCode"] for one in operations] == ["SUCCESSFUL"]
    log = (tmp_path / "agent.log").read_text()
    assert "Traceback" not in log
    assert f"sessions/{DEVICE} in " in log


def test_the_program_with_an_agent_in_it(platform: RunningPlatform, tmp_path: Path) -> None:
    """``twistd -n -y greenhouse.py``: its datapoints arrive, its operation is answered."""
    reader = Reader(platform, tmp_path)
    shutil.copy(ROOT / "docs/examples/greenhouse.py", tmp_path)
    command = f"ODA_DEVICE_ID={DEVICE} twistd -n --pidfile= -y greenhouse.py"
    with reader.started(command) as process:
        platform.wait_for_device(DEVICE, 30)
        platform.wait_for_datapoints(DEVICE, "greenhouse.temperature", 1)
        done = run_oda("status", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert run_oda("send", "room.door=open", cwd=tmp_path).returncode == 0
        platform.wait_for_datapoints(DEVICE, "room.door", 1)
        answer = platform.send_operation(DEVICE, "WATER", {"litres": 3})
        assert (answer["resultCode"], answer["resultDescription"]) == ("SUCCESSFUL", "3 l given")
        answer = platform.send_operation(DEVICE, "WATER", {"litres": "some"})
        assert answer["resultDescription"] == "litres: must be a whole number"
        process.terminate()
        process.wait(30)
    assert "Traceback" not in (tmp_path / "agent.log").read_text()
