"""The examples of docs/readings.md and docs/readings-python.md work as they are written there."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.testing import MemoryReactorClock, StringTransport
from zope.interface.verify import verifyObject

from oda.config.loader import load
from oda.errors import EventRejected, ReadingFailed
from oda.interfaces import IDatastreamGetter, IDatastreamSource, IPlugin
from oda.model import Event, Reading
from oda.settings import ValueType

ROOT = Path(__file__).resolve().parents[2]
READINGS = ROOT / "docs/examples/readings"
PAGES = (ROOT / "docs/readings.md", ROOT / "docs/readings-python.md")


def plugin(name: str) -> Any:
    """The module of an example plugin, loaded from its file."""
    file = READINGS / f"oda/plugins/{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_the_files() -> None:
    """Every example on the page is a file of the examples, word for word."""
    page = "\n".join(file.read_text() for file in PAGES)
    shown = [file for file in READINGS.rglob("*") if file.suffix in {".sh", ".py", ".cfg"}]
    assert len(shown) == 6
    for file in shown:
        text = file.read_text()
        if file.suffix == ".py":
            text = text[text.index("@implementer") :] if "@implementer" in text else text
            text = text.partition("\n\n\n")[0]
        assert text.strip() in page, file


@pytest.mark.e2e
def test_the_script() -> None:
    """The shell script writes one number and ends with status 0."""
    script = READINGS / "scripts/load_average.sh"
    done = subprocess.run([script], capture_output=True, check=True, timeout=20)
    assert float(done.stdout) >= 0
    assert done.stderr == b""


def test_the_configuration(tmp_path: Path) -> None:
    """The files of the example load, and say what the page says."""
    shutil.copytree(READINGS / "conf", tmp_path / "conf")
    (tmp_path / "conf/es.amplia.oda.connector.websocket.cfg").write_text("host=h\npath=/p\n")
    settings = load(tmp_path / "conf", {}).settings
    (script,) = settings.device_info.scripts
    assert (script.datastream_id, script.command) == ("device.load", "load_average.sh")
    assert script.value_type is ValueType.DOUBLE
    schedules = [(s.datastream_id, s.device_pattern) for s in settings.poller.schedules]
    assert schedules == [("device.load", ""), ("log.size", ""), ("log.size", "backup")]
    created = plugin("file_size").file_size.create(settings.plugins[0].options, None)
    assert sorted(created[0].devices()) == ["", "backup"]
    created = plugin("line_listener").line_listener.create(settings.plugins[1].options, None)
    assert len(created) == 1


@pytest.mark.e2e
def test_the_plugins_are_found(tmp_path: Path) -> None:
    """With the directory on the path, the agent finds both plugins by their names."""
    shutil.copytree(READINGS, tmp_path / "readings")
    program = (
        "import json; from oda.extensions import installed_plugins; "
        "print(json.dumps(sorted(installed_plugins().by_name)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path / 'readings'}"},
        cwd=tmp_path,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert {"file-size", "line-listener"} <= set(json.loads(done.stdout))


def test_the_reading_in_python(tmp_path: Path) -> None:
    """It reads each device's file, and a missing file is a reason."""
    example = plugin("file_size").file_size
    assert verifyObject(IPlugin, example)
    (tmp_path / "log").write_text("12345")
    options = {
        "datastream": "log.size",
        "host": str(tmp_path / "log"),
        "backup": str(tmp_path / "gone"),
    }
    (getter,) = example.create(options, None)
    assert verifyObject(IDatastreamGetter, getter)
    assert getter.datastream_id == "log.size"
    assert sorted(getter.devices()) == ["", "backup"]
    assert getter.get("") == Reading(5)
    with pytest.raises(ReadingFailed, match="No such file"):
        getter.get("backup")


class Agent:
    """Takes what a source publishes, and accepts when told."""

    def __init__(self) -> None:
        self.published: list[Event] = []
        self.accepting: list[Deferred[None]] = []
        self.refusal: Exception | None = None

    def publish(self, events: Sequence[Event]) -> Deferred[None]:
        self.published += events
        if self.refusal is not None:
            return fail(self.refusal)
        self.accepting.append(Deferred())
        return self.accepting[-1]


class Program:
    """A program connected to the line listener."""

    def __init__(self) -> None:
        reactor = MemoryReactorClock()
        example = plugin("line_listener").line_listener
        assert verifyObject(IPlugin, example)
        (self.source,) = example.create({"port": "4001"}, reactor)
        assert verifyObject(IDatastreamSource, self.source)
        self.agent = Agent()
        assert self.source.start(self.agent.publish) is None
        ((port, factory, _, interface),) = reactor.tcpServers
        assert (port, interface) == (4001, "127.0.0.1")
        self.protocol = factory.buildProtocol(None)
        self.transport = StringTransport()
        self.protocol.makeConnection(self.transport)

    def send(self, text: bytes) -> None:
        self.protocol.dataReceived(text)

    def answers(self) -> bytes:
        text: bytes = self.transport.value()
        return text


def test_the_source_waits_for_the_agent() -> None:
    """The next line is taken when the one before is accepted, also if both came at once."""
    program = Program()
    program.send(b"room.temperature 21.5\nroom.humidity 40\n")
    assert program.agent.published == [Event("room.temperature", 21.5)]
    assert program.transport.producerState == "paused"
    assert program.answers() == b""
    program.agent.accepting[0].callback(None)
    assert program.answers() == b"ok\n"
    assert program.agent.published[1:] == [Event("room.humidity", 40.0)]
    program.agent.accepting[1].callback(None)
    assert program.answers() == b"ok\nok\n"
    assert program.transport.producerState == "producing"


def test_the_source_answers_bad_lines() -> None:
    """A line of another form, and a value that the agent refuses, have an answer each."""
    program = Program()
    program.agent.refusal = EventRejected("room.temperature", "not finite")
    program.send(b"hello\nroom.temperature nan\n\xff 1\n")
    first, second, third, rest = program.answers().split(b"\n")
    assert first == third == b"error: a line is a datastream and a number"
    assert second == b"error: datastream 'room.temperature': not finite"
    assert rest == b""


def test_the_source_ends() -> None:
    """After its end no connection is left that could publish."""
    program = Program()
    program.source.stop()
    assert program.transport.disconnected
