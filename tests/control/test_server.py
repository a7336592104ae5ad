"""The local socket: cumulative answers, refusals that name the entry, pressure on the writer."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure

from oda.control.location import directories, last_place, socket_name
from oda.control.server import LOOK_EVERY_S, ControlProtocol, ControlServer
from oda.control.wire import Publish, encode
from oda.errors import EventRejected
from oda.model import Event


class Publisher:
    """Records what is published; each Deferred is fired by the test, or at once."""

    def __init__(self, at_once: bool = False) -> None:
        self.events: list[Event] = []
        self.waiting: list[Deferred[None]] = []
        self.at_once = at_once

    def publish(self, event: Event) -> Deferred[None]:
        self.events.append(event)
        if event.value == "bad":
            return fail(EventRejected(event.datastream_id, "it is bad"))
        if self.at_once:
            return succeed(None)
        self.waiting.append(Deferred())
        return self.waiting[-1]


def connect(publisher: Publisher, **commands: Any) -> tuple[ControlProtocol, StringTransport]:
    protocol = ControlProtocol(publisher.publish, commands)
    transport = StringTransport()
    protocol.makeConnection(transport)
    return protocol, transport


def line(value: object) -> bytes:
    return encode(Publish(Event("t", value)))


def answers(transport: StringTransport) -> list[Any]:
    return [json.loads(text) for text in transport.value().splitlines()]


def test_a_writer_that_has_said_everything_does_not_wait_for_the_end_of_the_window() -> None:
    """What is gathered is flushed when the writer only waits for its answers, and not before: a
    steady stream goes on to share messages and commits."""
    publisher = Publisher()
    flushed: list[int] = []
    protocol = ControlProtocol(publisher.publish, {}, lambda: flushed.append(len(publisher.events)))
    transport = StringTransport()
    protocol.makeConnection(transport)
    protocol.dataReceived(line(1) + line(2))
    assert flushed == []
    protocol.readConnectionLost()
    assert flushed == [2]
    for waiting in publisher.waiting:
        waiting.callback(None)
    assert answers(transport)[-1] == {"ok": 2}


def test_only_a_gapless_run_from_the_first_is_acknowledged() -> None:
    """``ok n`` means the first n: one accepted out of turn has to wait for those before it."""
    publisher = Publisher()
    protocol, transport = connect(publisher)
    protocol.dataReceived(line(1) + line(2) + line(3))
    publisher.waiting[1].callback(None)
    publisher.waiting[2].callback(None)
    assert answers(transport) == []
    publisher.waiting[0].callback(None)
    assert answers(transport) == [{"ok": 3}]
    assert [event.value for event in publisher.events] == [1, 2, 3]


def test_a_refused_datapoint_is_named_and_ends_the_reading() -> None:
    """What was accepted before is said first; what follows is not taken."""
    publisher = Publisher(at_once=True)
    protocol, transport = connect(publisher)
    protocol.dataReceived(line(1) + line("bad") + line(3))
    assert answers(transport) == [
        {"ok": 1},
        {"error": "datastream 't': it is bad", "entry": 2},
    ]
    assert [event.value for event in publisher.events] == [1, "bad"]
    assert transport.disconnecting


def test_a_writer_that_has_finished_still_gets_its_answers() -> None:
    """Closing one's own side is not leaving: the connection ends after the last answer."""
    publisher = Publisher()
    protocol, transport = connect(publisher)
    protocol.dataReceived(line(1))
    protocol.readConnectionLost()
    assert not transport.disconnecting
    publisher.waiting[0].callback(None)
    assert answers(transport) == [{"ok": 1}]
    assert transport.disconnecting


def test_a_fast_writer_is_made_to_wait() -> None:
    """With 2,000 datapoints not accepted yet nothing more is read, until most of them are."""
    publisher = Publisher()
    protocol, transport = connect(publisher)
    protocol.dataReceived(b"".join(line(number) for number in range(2000)))
    assert transport.producerState == "paused"
    for waiting in publisher.waiting[:1499]:
        waiting.callback(None)
    assert transport.producerState == "paused"
    publisher.waiting[1499].callback(None)
    assert transport.producerState == "producing"
    for waiting in publisher.waiting[1500:]:
        waiting.callback(None)
    assert answers(transport)[-1] == {"ok": 2000}


def test_a_line_that_is_no_message_is_refused() -> None:
    """Garbage gets an answer, not silence."""
    protocol, transport = connect(Publisher())
    protocol.dataReceived(b"hello\n")
    (answer,) = answers(transport)
    assert "not understood" in answer["error"]
    assert transport.disconnecting


def test_commands_are_answered_and_unknown_ones_refused() -> None:
    """Handlers get the arguments; their errors reach the caller as text."""
    protocol, transport = connect(Publisher(), double=lambda arguments: arguments["n"] * 2)
    protocol.dataReceived(encode({"command": "double", "arguments": {"n": 21}}))
    assert answers(transport) == [{"result": 42}]
    transport.clear()
    protocol.dataReceived(encode({"command": "triple"}))
    assert answers(transport) == [{"error": "unknown command 'triple'"}]


def test_the_socket_is_private_and_goes_with_the_service(tmp_path: Path) -> None:
    """Only the agent's user may open it (mode 0600)."""
    reactor = MemoryReactorClock()
    server = ControlServer(lambda: tmp_path / "s", Publisher().publish, {}, reactor)
    server.startService()
    ((path, _factory, _backlog, mode, want_pid),) = reactor.unixServers
    assert (path, mode, want_pid) == (str(tmp_path / "s"), 0o600, False)
    server.stopService()


@pytest.fixture
def reactor() -> Iterator[SelectReactor]:
    """A reactor that makes real sockets and is never run."""
    made = SelectReactor()
    yield made
    made.runUntilCurrent()
    for reader in made.removeAll() + list(made._internalReaders):
        reader.connectionLost(Failure(ConnectionDone()))


def listens(path: Path) -> bool:
    with closing(socket.socket(socket.AF_UNIX)) as client:
        return client.connect_ex(str(path)) == 0


def test_the_socket_of_a_killed_agent_is_no_hindrance(
    tmp_path: Path, reactor: SelectReactor
) -> None:
    """A socket at which nobody listens is replaced, whatever process has the killed agent's id
    now: in a container the next agent itself has it."""
    path = tmp_path / "s"
    with closing(socket.socket(socket.AF_UNIX)) as killed:
        killed.bind(str(path))
    (tmp_path / "s.lock").symlink_to(str(os.getpid()))
    server = ControlServer(lambda: path, Publisher().publish, {}, reactor)
    server.startService()
    assert listens(path)
    server.stopService()
    reactor.runUntilCurrent()
    assert not path.exists()


def test_the_last_place_of_the_socket(tmp_path: Path) -> None:
    """One of the user's own among the temporary files: the others may be on the disk that fails."""
    assert last_place(7, tmp_path) == tmp_path / "oda-7"
    assert last_place(7).parent == Path(tempfile.gettempdir())


def test_a_socket_that_was_cleaned_away_is_there_again(
    tmp_path: Path, reactor: SelectReactor
) -> None:
    """It stays when the old port has ended, which removes the file at its path; and stopping after
    it was cleaned away ends the port as well."""
    path = tmp_path / "s"
    server = ControlServer(lambda: path, Publisher().publish, {}, reactor)
    server.startService()
    path.unlink()
    done: list[Any] = []
    with capturedLogs() as logs:
        looked = server._look()
        assert looked is not None
        looked.addCallback(done.append)
        while not done:
            reactor.runUntilCurrent()
        assert listens(path)
        path.unlink()
        stopped = server.stopService()
        stopped.addCallback(done.append)
        while len(done) < 2:
            reactor.runUntilCurrent()
    assert not path.exists()
    assert [one for one in logs if "log_failure" in one] == []


def test_the_socket_of_a_running_agent_stays(tmp_path: Path, reactor: SelectReactor) -> None:
    """A second agent with the same configuration says that its commands can't reach it, and takes
    nothing from the first one, not even where the first one is too busy to accept."""
    path = tmp_path / "s"
    with closing(socket.socket(socket.AF_UNIX)) as running:
        running.bind(str(path))
        running.listen(0)
        with closing(socket.socket(socket.AF_UNIX)) as waiting:
            waiting.connect(str(path))
            inode = path.stat().st_ino
            server = ControlServer(lambda: path, Publisher().publish, {}, reactor)
            with capturedLogs() as logs:
                server.startService()
            server.stopService()
        assert path.stat().st_ino == inode
    (said,) = (formatEvent(one) for one in logs if one.get("log_level") is LogLevel.warn)
    assert said.startswith(f"no local socket at {path}: [Errno 98] Address already in use;")


def test_a_file_that_is_no_socket_stays(tmp_path: Path, reactor: SelectReactor) -> None:
    """Nothing but a socket is taken for the leftover of an agent."""
    path = tmp_path / "s"
    path.write_text("a user's")
    with capturedLogs() as logs:
        ControlServer(lambda: path, Publisher().publish, {}, reactor).startService()
    assert path.read_text() == "a user's"
    assert LogLevel.warn in [one["log_level"] for one in logs]


def test_the_name_depends_on_the_directory_only(tmp_path: Path) -> None:
    """Agent and command find each other by naming the same directory, however it is written."""
    (tmp_path / "conf").mkdir()
    here = socket_name(tmp_path / "conf")
    assert here == socket_name(tmp_path / "conf" / ".." / "conf")
    assert here != socket_name(tmp_path)


def test_where_the_socket_may_be(tmp_path: Path) -> None:
    """The directory that the system made for the service, the user's, one beside the outbox."""
    outbox = tmp_path / "state" / "outbox.sqlite"
    runtime = tmp_path / "run"
    beside = tmp_path / "state" / "oda-run"
    assert directories(outbox, {}, runtime) == [beside]
    runtime.mkdir()
    environ = {"RUNTIME_DIRECTORY": "/run/oda-2:/run/more", "XDG_RUNTIME_DIR": "/run/user/7"}
    assert directories(outbox, environ, runtime) == [
        Path("/run/oda-2"),
        runtime,
        Path("/run/user/7/oda"),
        beside,
    ]
    assert directories(Path("outbox.sqlite"), {}, tmp_path / "none")[0].is_absolute()


def test_a_socket_that_was_cleaned_away_is_made_again(tmp_path: Path) -> None:
    """So is one that could not be made at first: what fails is said once."""
    reactor = MemoryReactorClock()
    missing = tmp_path / "later"
    server = ControlServer(lambda: missing / "s", Publisher().publish, {}, reactor)
    listen = reactor.listenUNIX

    def refuse(*_: Any, **__: Any) -> Any:
        raise CannotListenError(None, 0, FileNotFoundError(2, "No such file or directory"))

    reactor.listenUNIX = refuse
    with capturedLogs() as events:
        server.startService()
        reactor.pump([LOOK_EVERY_S] * 3)
    assert len(events) == 1
    reactor.listenUNIX = listen
    reactor.advance(LOOK_EVERY_S)
    assert len(reactor.unixServers) == 1
    missing.mkdir()
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(missing / "s"))
        reactor.advance(LOOK_EVERY_S)
        assert len(reactor.unixServers) == 1
    (missing / "s").unlink()
    reactor.advance(LOOK_EVERY_S)
    assert len(reactor.unixServers) == 2
    server.stopService()
    assert reactor.getDelayedCalls() == []
