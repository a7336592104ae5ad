"""``oda send`` as a process, at a socket where the test answers for the agent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from oda.control.location import socket_name
from oda.control.wire import MAX_LINE_BYTES, encode

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "from oda.cli import main; main()"


class Agent:
    """Accepts every datapoint that comes over one connection; ``got`` is set by the first. With a
    ``reason`` it accepts none, and gives that to whoever asks; with "" it does not answer."""

    def __init__(self, directory: Path) -> None:
        self.reason: dict[str, Any] | None = None
        self.asked: list[Any] = []
        self.conf = directory / "conf"
        self.conf.mkdir()
        self.published: list[Any] = []
        self.got = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self.runtime = directory / "run"
        self.runtime.mkdir(0o700)
        self._listener.bind(str(self.runtime / socket_name(self.conf)))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        # Whoever is killed, or never comes, ends this as well.
        with suppress(OSError):
            self._answer()

    def _answer(self) -> None:
        connection, _ = self._listener.accept()
        if self.reason is not None:
            self._explain(connection)
            return
        with connection, connection.makefile("rb") as lines:
            for line in lines:
                self.published.append(msgspec.json.decode(line)["publish"])
                connection.sendall(encode({"ok": len(self.published)}))
                self.got.set()

    def _explain(self, publishing: socket.socket) -> None:
        asking, _ = self._listener.accept()
        with publishing, asking, asking.makefile("rb") as lines:
            self.asked.append(msgspec.json.decode(lines.readline()))
            if self.reason:
                asking.sendall(encode({"result": self.reason}))
            self.got.wait(60)
            publishing.sendall(encode({"ok": 1}))

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def agent() -> Iterator[Agent]:
    with tempfile.TemporaryDirectory(prefix="oda-") as directory:
        running = Agent(Path(directory))
        yield running
        running.close()


def start(
    agent: Agent, *arguments: str | bytes, shell: str | None = None, **more: Any
) -> subprocess.Popen[bytes]:
    """``shell`` is a script that starts it, given it as its arguments."""
    before = [] if shell is None else ["/bin/sh", "-c", shell, "sh"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.Popen(
        [*before, sys.executable, "-c", PROGRAM, "send", "--conf", str(agent.conf), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "RUNTIME_DIRECTORY": str(agent.runtime)},
        **pipes,
    )


def finish(process: subprocess.Popen[bytes], stdin: bytes | None = None) -> tuple[int, str]:
    """Its status and the one line it wrote to standard error."""
    _, errors = process.communicate(stdin, 60)
    text = (errors or b"").decode()
    assert "Traceback" not in text, text
    assert text.count("\n") <= 1, text
    return process.returncode, text


def test_a_byte_order_mark_is_no_part_of_the_first_name(agent: Agent) -> None:
    """It is skipped in front of the first line only."""
    status, _ = finish(start(agent, "-"), b"\xef\xbb\xbfroom=1\nb=2\n")
    assert status == 0
    assert [(e["datastream_id"], e["value"]) for e in agent.published] == [("room", 1), ("b", 2)]


@pytest.mark.parametrize(
    "line", [b'{"datastream":"a","value":"\\ud800"}', b"t=caf\xe9", b"nothing", b"t={"]
)
def test_a_bad_line_ends_it_with_the_lines_number(agent: Agent, line: bytes) -> None:
    """The lines before it are accepted, and it waits for no more input."""
    process = start(agent, "-")
    assert process.stdin is not None
    process.stdin.write(b"a=1\n\n" + line + b"\nb=2\n")
    process.stdin.flush()  # and stays open
    assert process.wait(60) == 1
    assert process.stderr is not None
    text = process.stderr.read().decode()
    assert text.startswith("Error: line 3: ")
    assert text.count("\n") == 1
    assert [e["datastream_id"] for e in agent.published] == ["a"]


def test_ctrl_c_ends_it(agent: Agent) -> None:
    """While it waits for input that does not come."""
    process = start(agent, "-")
    assert process.stdin is not None
    process.stdin.write(b"a=1\n")
    process.stdin.flush()
    assert agent.got.wait(60)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 1


def test_an_argument_that_is_no_utf_8_is_one_line(agent: Agent) -> None:
    """It is named, and nothing is sent."""
    status, text = finish(start(agent, b"name=caf\xe9"))
    assert (status, agent.published) == (1, [])
    assert "'name=caf\\udce9' is not Unicode text" in text


def test_the_locale_does_not_matter(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument is UTF-8, as standard input is, also where the locale knows ASCII only."""
    for name, value in {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    assert finish(start(agent, "caf\u00e9=\u2603".encode())) == (0, "")
    assert [(e["datastream_id"], e["value"]) for e in agent.published] == [("caf\u00e9", "\u2603")]


@pytest.mark.parametrize("gone", ["closed pipe", "full"])
def test_who_reads_its_output_is_gone(agent: Agent, gone: str) -> None:
    """Every datapoint is accepted all the same, and it does not say anything else."""
    if gone == "full":
        with Path("/dev/full").open("wb") as output:
            process = start(agent, "-", stdout=output)
    else:
        reader, writer = os.pipe()
        os.close(reader)
        process = start(agent, "-", stdout=writer)
        os.close(writer)
    status, text = finish(process, b"a=1\n" * 50)
    assert status == 1
    assert len(agent.published) == 50
    assert "has accepted all (50 datapoints)" in text


@pytest.mark.parametrize(
    "stdin", [b"t=" + b"9" * (MAX_LINE_BYTES + 10), b't="' + b"x" * MAX_LINE_BYTES]
)
def test_a_line_that_is_too_long_is_told_by_its_number(agent: Agent, stdin: bytes) -> None:
    """Whether the line or only what is made of it is too long for the agent."""
    status, text = finish(start(agent, "-"), b"a=1\n" + stdin + b"\nb=2\n")
    assert (status, text) == (1, f"Error: line 2: it is longer than {MAX_LINE_BYTES} bytes\n")
    assert [e["datastream_id"] for e in agent.published] == ["a"]


CLOSED = 'exec "$@" '


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", "<&- >&- 2>&-", "2>&-"])
def test_closed_streams_are_nobodys_fault(agent: Agent, closed: str) -> None:
    """Whoever starts it without standard streams (cron, an init program) learns by the status that
    the datapoints were accepted; what is to be sent does not go into the wrong file."""
    process = start(agent, "a=1", "b=2", shell=CLOSED + closed)
    assert finish(process) == (0, "")
    assert [e["datastream_id"] for e in agent.published] == ["a", "b"]


def test_closed_standard_input_and_output_are_one_line(agent: Agent) -> None:
    """A command that needs a stream that is closed says so; what was accepted is."""
    status, text = finish(start(agent, "-", shell=CLOSED + "<&-"))
    assert (status, text) == (1, "Error: standard input can't be read: Bad file descriptor\n")
    status, text = finish(start(agent, "--help", shell=CLOSED + ">&-"))
    assert (status, text) == (1, "Error: [Errno 9] Bad file descriptor\n")


def test_accepted_with_closed_standard_output(agent: Agent) -> None:
    """It goes on without printing, and says so at the end."""
    status, text = finish(start(agent, "-", shell=CLOSED + ">&-"), b"a=1\n" * 50)
    assert status == 1
    assert len(agent.published) == 50
    assert "has accepted all (50 datapoints)" in text


def test_one_form_of_the_type_only(agent: Agent) -> None:
    """``--json`` and another ``--type`` contradict each other: neither wins."""
    process = start(agent, "--json", "--type", "text", "t=5")
    _, errors = process.communicate(None, 60)
    assert process.returncode == 2
    assert b"--json contradicts --type text" in errors
    assert agent.published == []


@pytest.mark.parametrize("arguments", [["--help"], ["a=1", "b=2"]])
def test_a_full_disk_is_one_line(agent: Agent, arguments: list[str]) -> None:
    """Whatever a command prints: what can't be written is no traceback."""
    with Path("/dev/full").open("wb") as output:
        status, text = finish(start(agent, *arguments, stdout=output))
    if arguments == ["--help"]:
        assert (status, text) == (1, "Error: [Errno 28] No space left on device\n")
    else:
        assert (status, text) == (0, "")


def test_what_can_not_be_accepted_is_told_in_time(agent: Agent) -> None:
    """The agent's disk fails, and it is not connected: nobody waits for ever for that."""
    agent.reason = {"text": "the disk is full; and there is no connection", "hopeless": True}
    began_s = time.monotonic()
    status, text = finish(start(agent, "t@child=1"))
    assert time.monotonic() - began_s < 8.0  # five, and the start of a process on a busy machine
    assert status == 1
    assert "not accepted: the disk is full; and there is no connection. The agent" in text
    (asked,) = agent.asked
    assert asked["command"] == "explain-waiting"
    assert asked["arguments"] == {"datastream": "t", "device": "child"}


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ({"text": "the device's id is not known yet", "hopeless": False}, "id is not known yet"),
        ({}, "the agent does not answer"),
    ],
)
def test_a_wait_is_explained_and_goes_on(agent: Agent, reason: dict[str, Any], words: str) -> None:
    """By the agent's own reason, or by its silence; what is accepted after all is a success."""
    agent.reason = reason
    process = start(agent, "t=1")
    assert process.stderr is not None
    assert words in process.stderr.readline().decode()
    agent.got.set()
    assert finish(process) == (0, "")


def test_a_stream_is_told_as_well(agent: Agent) -> None:
    """The lines that are accepted no longer are the ones that wait."""
    agent.reason = {"text": "the disk is full; and there is no connection", "hopeless": True}
    status, text = finish(start(agent, "-"), b"t=1\nt=2\n")
    assert status == 1
    assert "not accepted: the disk is full" in text
