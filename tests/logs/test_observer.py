"""From events to the stream."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import ILogObserver
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from oda.logs.destination import RotatedFile, default_format, open_destination
from oda.logs.lines import LogFormat
from oda.logs.observer import AgentLog
from oda.logs.service import LogService
from oda.settings import LogLevel, MonitorSettings
from tests.logs.events import event, failure

KEY = "canary-key-0123456789"


class World:
    """A log that writes JSON into memory."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.stream: Any = io.StringIO()
        self.log = AgentLog(self.stream, LogFormat.JSON, self.clock.seconds)

    @property
    def messages(self) -> list[str]:
        return [json.loads(line)["message"] for line in self.stream.getvalue().splitlines()]


def test_it_is_an_observer() -> None:
    """twistd takes it as it is."""
    assert verifyObject(ILogObserver, World().log)


def test_levels_follow_the_settings() -> None:
    """Also when they change while the agent runs."""
    world = World()
    world.log(event("1", "debug"))
    world.log.configure(MonitorSettings(log_level=LogLevel.DEBUG), [])
    world.log(event("2", "debug"))
    assert world.messages == ["2"]


def test_repetitions_are_counted() -> None:
    """Five lines, then one with the number of the others when the minute is over."""
    world = World()
    for number in range(62):
        world.log(event("lost {n}", n=number))
    world.clock.advance(60.0)
    world.log(event("else"))
    assert world.messages == [
        *(f"lost {number}" for number in range(5)),
        "lost 61 (repeated 57 times)",
        "else",
    ]


def test_debug_is_not_limited() -> None:
    """Who asks for everything gets everything."""
    world = World()
    world.log.configure(MonitorSettings(log_level=LogLevel.DEBUG), [])
    for _ in range(20):
        world.log(event("x", "debug"))
    assert len(world.messages) == 20


def test_secrets_are_masked_everywhere() -> None:
    """In the message, in fields, and in tracebacks."""
    world = World()
    world.log.configure(MonitorSettings(), [KEY])
    world.log(event("key {key}", key=KEY))
    world.log(event("broken", "critical", log_failure=failure(ValueError(KEY))))
    assert len(world.messages) == 2
    assert KEY not in world.stream.getvalue()


class FullDisk:
    """Takes what ``is_full`` allows."""

    def __init__(self) -> None:
        self.is_full = True
        self.text = ""

    def write(self, text: str) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.text += text

    def flush(self) -> None:
        pass


def test_a_full_disk_costs_lines_only() -> None:
    """Nothing is raised, and the number of lines lost is said with the next one."""
    disk = FullDisk()
    log = AgentLog(disk, LogFormat.JOURNAL, Clock().seconds)
    log(event("1"))
    log(event("2"))
    disk.is_full = False
    log(event("3"))
    assert disk.text == "2 log lines could not be written\n<6>[connector.link] 3\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"nodaemon": True, "logfile": None}, "stdout"),
        ({"nodaemon": True, "logfile": "-"}, "stdout"),
        ({"nodaemon": False, "logfile": None}, "twistd.log"),
        ({"nodaemon": True, "logfile": "my.log"}, "my.log"),
        ({"nodaemon": True, "logger": "some.factory"}, None),
        ({"nodaemon": True, "syslog": True}, None),
    ],
)
def test_the_destination_is_what_twistd_was_told(
    options: dict[str, Any],
    expected: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its options keep their meaning."""
    monkeypatch.chdir(tmp_path)
    stdout = object()
    destination = open_destination(options, stdout)
    if expected == "stdout":
        assert destination is stdout
    elif expected is None:
        assert destination is None
    else:
        destination.write("ü\n")
        destination.flush()
        assert (tmp_path / expected).read_text() == "ü\n"


def test_a_log_file_that_can_not_be_opened_names_the_option(tmp_path: Path) -> None:
    """The start ends with one line: twistd's option, the path and the reason."""
    options = {"nodaemon": True, "logfile": str(tmp_path / "absent" / "agent.log")}
    with pytest.raises(OSError, match="--logfile: ") as caught:
        open_destination(options, object())
    assert str(caught.value) == f"--logfile: {options['logfile']}: No such file or directory"


def test_a_file_is_private_to_user_and_group(tmp_path: Path) -> None:
    """A log tells others more than they need."""
    RotatedFile(tmp_path / "agent.log")
    assert (tmp_path / "agent.log").stat().st_mode & 0o007 == 0


def test_the_journal_is_recognised(tmp_path: Path) -> None:
    """``JOURNAL_STREAM`` holds device and inode of the stream that leads to the journal."""
    with (tmp_path / "out").open("w") as stdout, (tmp_path / "other").open("w") as other:
        status = os.fstat(stdout.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert default_format(stdout, stdout, environ) is LogFormat.JOURNAL
        assert default_format(stdout, stdout, {}) is LogFormat.TEXT
        assert default_format(stdout, other, environ) is LogFormat.TEXT
        assert default_format(other, other, environ) is LogFormat.TEXT


class SignalReactor(Clock):
    """Runs at once what comes from a signal."""

    def callFromThread(self, call: Any) -> None:
        call()


def test_sigusr1_opens_the_file_anew(tmp_path: Path) -> None:
    """After a tool has moved the file away, lines go into a new one of the same name."""
    handlers: dict[int, Any] = {}
    destination = RotatedFile(tmp_path / "agent.log")
    clock = SignalReactor()
    log = AgentLog(destination, LogFormat.TEXT, clock.seconds)
    service = LogService(
        log, destination, clock, lambda number, call: handlers.update({number: call})
    )
    service.startService()
    log(event("before"))
    (tmp_path / "agent.log").rename(tmp_path / "agent.log.1")
    handlers[signal.SIGUSR1]()
    log(event("after"))
    assert "before" in (tmp_path / "agent.log.1").read_text()
    assert "after" in (tmp_path / "agent.log").read_text()
    service.stopService()
    assert clock.getDelayedCalls() == []


def test_what_was_held_back_is_written_at_the_end() -> None:
    """And while nothing else is logged, within seconds of the minute's end."""
    world = World()
    clock = SignalReactor()
    service = LogService(world.log, world.stream, clock, lambda *_: None)
    service.startService()
    for _ in range(7):
        world.log(event("x"))
    world.clock.advance(60.0)
    clock.advance(10.0)
    assert world.messages[-1] == "x (repeated 2 times)"
    for _ in range(6):
        world.log(event("y"))
    service.stopService()
    assert world.messages[-1] == "y (repeated once)"


def test_a_directory_that_is_gone_does_not_end_the_log(tmp_path: Path) -> None:
    """Opened anew where that is not possible, the log goes on in the file before, and in a new one
    as soon as it can."""
    directory = tmp_path / "log"
    directory.mkdir()
    destination = RotatedFile(directory / "agent.log")
    destination.write("one\n")
    moved = directory.rename(tmp_path / "moved")
    with pytest.raises(OSError, match="No such file"):
        destination.reopen()
    destination.write("two\n")
    assert (moved / "agent.log").read_text() == "one\ntwo\n"
    directory.mkdir()
    destination.reopen()
    destination.write("three\n")
    assert (directory / "agent.log").read_text() == "three\n"


def test_a_file_that_was_made_shorter_has_no_hole(tmp_path: Path) -> None:
    """What logrotate's copytruncate leaves is written from its beginning."""
    destination = RotatedFile(tmp_path / "agent.log")
    destination.write("one\n" * 100)
    os.truncate(tmp_path / "agent.log", 0)
    destination.write("two\n")
    assert (tmp_path / "agent.log").read_bytes() == b"two\n"


def test_a_locale_without_the_character_does_not_cost_the_line() -> None:
    """What the stream can't write is escaped."""
    raw = io.BytesIO()
    log = AgentLog(io.TextIOWrapper(raw, "ascii"), LogFormat.TEXT, Clock().seconds)
    log(event("caf\u00e9 is open"))
    assert rb"caf\xe9 is open" in raw.getvalue()


class Unprintable(Exception):  # noqa: N818 - what it is matters here
    """An error, and an object, that can't be shown."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def __str__(self) -> str:
        raise self.error

    __repr__ = __str__


@pytest.mark.parametrize("log_format", LogFormat)
@pytest.mark.parametrize("error", [ValueError("no text"), SystemExit("no text")], ids=repr)
def test_what_cannot_be_shown_costs_no_line(log_format: LogFormat, error: BaseException) -> None:
    """A foreign object or error that fails while it is shown, whatever it raises, costs neither its
    line nor its caller; so does a number of thousands of digits."""
    stream = io.StringIO()
    log = AgentLog(stream, log_format, Clock().seconds)
    foreign = Unprintable(error)
    for _ in range(7):
        log(event("{source} could not start", source=foreign))
        log({**event("it failed"), "log_failure": Failure(foreign)})
        log(event("the number {number}", number=10**5000))
    log.flush(everything=True)
    lines = stream.getvalue().splitlines()
    for text in ("could not start", "it failed", "the number"):
        assert len([line for line in lines if text in line]) == 6
    assert len([line for line in lines if "(repeated 2 times)" in line]) == 3
