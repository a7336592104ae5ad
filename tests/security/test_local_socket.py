"""What another user of the machine can do at the local socket, and in its place."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent

from oda.cli import main
from oda.commands.text import escaped, json_text
from oda.control.client import ControlClient, NoAgent, NotAllowed, find_agent
from oda.control.location import known_sockets, prepare, socket_name, squatter
from oda.control.server import ControlProtocol, ControlServer
from oda.control.wire import ControlError, Publish, encode
from oda.model import Event
from tests.config.directories import MINIMAL
from tests.config.directories import write as write_configuration

OWN = os.geteuid()
#: A user who is neither this one nor root.
OTHER = 54_321


@contextmanager
def listening(path: Path, answer: bytes = b"") -> Iterator[list[bytes]]:
    """Somebody listens at ``path``, answers each connection's first line and keeps what it read."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                    with connection:
                        if said := connection.recv(65_536):
                            heard.append(said)
                            connection.sendall(answer)
                except OSError:
                    return  # the end, of the listener or of a caller that hung up

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield heard
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def private(directory: Path) -> Path:
    directory.mkdir(mode=0o700)
    return directory


def test_a_squatter_at_the_expected_place_gets_no_datapoint(tmp_path: Path) -> None:
    """A socket that belongs to a third user is refused with one line before anything is said."""
    path = private(tmp_path / "run") / "s"
    with listening(path) as heard:
        with pytest.raises(NotAllowed) as caught:
            find_agent([path], [], {OTHER})
        assert heard == []
    assert str(caught.value) == f"{path} is not used: it belongs to the user {OWN}"


def test_a_listener_of_another_user_is_refused(tmp_path: Path) -> None:
    """The user who listens counts (SO_PEERCRED), also where the file is one's own."""
    refused = pytest.raises(NotAllowed, match=f"the user {OWN} listens there")
    with listening(tmp_path / "s"), refused:
        ControlClient(tmp_path / "s", trusted={OTHER})


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o720, 0o702])
def test_a_directory_that_others_can_write_is_no_place_for_the_socket(
    tmp_path: Path, mode: int
) -> None:
    """Neither agent nor command uses it: whoever can write there can put another socket there."""
    place = private(tmp_path / "run")
    place.chmod(mode)
    with pytest.raises(ControlError, match="other users can write"):
        prepare([place], OWN)
    with listening(place / "s"), pytest.raises(NotAllowed, match="other users can write"):
        find_agent([place / "s"], [], {OWN})


def test_a_directory_of_another_user_is_no_place_for_the_socket(tmp_path: Path) -> None:
    """The agent listens in its own directory only, and makes it for its user alone (0700)."""
    theirs = private(tmp_path / "theirs")
    with pytest.raises(ControlError, match=f"belongs to the user {OWN}"):
        prepare([theirs], OTHER)
    place = tmp_path / "oda-run"
    assert prepare([tmp_path / "none" / "x", place], OWN) == place
    assert place.stat().st_mode & 0o777 == 0o700


def test_what_is_no_socket_is_not_connected_to(tmp_path: Path) -> None:
    """Nor is a link to a socket elsewhere."""
    place = private(tmp_path / "run")
    with listening(tmp_path / "elsewhere"):
        (place / "s").symlink_to(tmp_path / "elsewhere")
        assert squatter(place / "s", {OWN}) == "it is not a socket"


def test_a_squatter_elsewhere_hides_no_agent(tmp_path: Path) -> None:
    """Anybody can make a socket of the agent's name; beyond the expected places it is passed over,
    so that it neither gets datapoints nor keeps commands from working."""
    away = private(tmp_path / "away")
    away.chmod(0o777)
    ours = private(tmp_path / "ours")
    with listening(away / "s") as heard, listening(ours / "s"):
        with find_agent([tmp_path / "none"], [away / "s", ours / "s"], {OWN}) as client:
            client.send({"command": "x"})
            assert list(client.answers()) == []
        with pytest.raises(NoAgent, match="is not used: other users can write"):
            find_agent([tmp_path / "none"], [away / "s"], {OWN})
        assert heard == []


def test_the_kernel_knows_where_the_socket_is(tmp_path: Path) -> None:
    """A command finds its agent whatever the working directory and environment of each are."""
    path = private(tmp_path / "a b") / socket_name(tmp_path)
    with listening(path):
        assert list(known_sockets(path.name)) == [path]


def test_a_place_whose_path_is_too_long_is_passed_over(tmp_path: Path) -> None:
    """The kernel allows 107 bytes: the socket is in the next place, and the reason is told."""
    name = socket_name(tmp_path)
    deep = tmp_path / ("x" * (107 - len(str(tmp_path)) - len(name) - 1))
    short = Path(tempfile.mkdtemp(prefix="oda-"))
    try:
        with capturedLogs() as logs:
            assert prepare([deep, short], os.geteuid()) == short
        assert "too long" in str(formatEvent(logs[0]))
        assert not deep.exists()
        just = short / ("x" * (107 - len(str(short)) - len(name) - 2))
        assert prepare([just, short], os.geteuid()) == just
        with listening(just / name):
            assert list(known_sockets(name)) == [just / name]
    finally:
        shutil.rmtree(short)


def test_the_agent_says_why_it_has_no_socket(tmp_path: Path) -> None:
    """Where there is no safe place for the socket the agent runs without it, and says so."""

    def refuse() -> Path:
        raise ControlError("nowhere is safe")

    server = ControlServer(refuse, lambda event: succeed(None), {}, Clock())
    with capturedLogs() as logs:
        server.startService()
    server.stopService()
    (line,) = map(formatEvent, logs)
    assert line is not None
    assert line.startswith("no local socket: nowhere is safe; ")


def test_what_a_listener_says_cannot_steer_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control characters in an answer are shown, not obeyed: ESC, C1, DEL, bidirectional marks."""
    hostile = "\x1b]0;owned\x07\x9b31m\x7f\u202e\u2028\rfine"
    shown = r"\x1b]0;owned\x07\x9b31m\x7f\u202e\u2028\rfine"
    assert escaped(hostile + "\nsecond") == shown + "\nsecond"
    assert json_text([hostile]).isascii()
    assert "\x7f" not in json_text([hostile])
    configuration = private(tmp_path / "conf")
    write_configuration(configuration, MINIMAL)
    runtime = private(tmp_path / "run")
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(runtime))
    with listening(runtime / socket_name(configuration), encode({"error": hostile})):
        done = CliRunner().invoke(main, ["send", "--conf", str(configuration), "t=1"])
    assert done.exit_code == 1
    assert shown in done.output
    assert not {"\x1b", "\x07", "\x9b", "\x7f", "\r"} & set(done.output)


class Unread(StringTransport):
    """A connection whose other end reads nothing: after 64 KiB its buffer is full."""

    LIMIT = 65_536

    def write(self, data: bytes) -> None:
        super().write(data)
        if len(self.value()) > self.LIMIT and self.producer is not None:
            self.producer.pauseProducing()


def attack(publish: Any, data: bytes, **commands: Any) -> tuple[ControlProtocol, Unread]:
    protocol = ControlProtocol(publish, commands)
    transport = Unread()
    protocol.makeConnection(transport)
    protocol.dataReceived(data)
    return protocol, transport


def test_answers_that_nobody_reads_are_bounded() -> None:
    """A caller that asks a thousand times and reads nothing gets what fits into the buffer and one
    answer more; the rest is answered, in order, once it reads."""
    asked: list[int] = []
    answer = "x" * 5000

    def handler(arguments: Any) -> str:
        asked.append(arguments["n"])
        return answer

    lines = b"".join(encode({"command": "c", "arguments": {"n": n}}) for n in range(1000))
    protocol, transport = attack(lambda event: succeed(None), lines, c=handler)
    assert len(transport.value()) <= Unread.LIMIT + len(answer) + 100
    assert transport.producerState == "paused"
    for _ in range(1000):
        transport.clear()
        protocol.resumeProducing()
    assert asked == list(range(1000))
    assert transport.producerState == "producing"


def test_commands_are_run_one_at_a_time() -> None:
    """A caller that does not wait for its answers does not pile up work."""
    running: list[Deferred[int]] = []

    def handler(arguments: Any) -> Deferred[int]:
        running.append(Deferred())
        return running[-1]

    protocol, transport = attack(
        lambda event: succeed(None), encode({"command": "c"}) * 1000, c=handler
    )
    assert len(running) == 1
    assert transport.producerState == "paused"
    protocol.readConnectionLost()
    for number in range(1000):
        running[number].callback(number)
    assert transport.value().splitlines()[-1] == b'{"result":999}'
    assert transport.disconnecting


def test_datapoints_that_are_not_accepted_are_bounded() -> None:
    """Not more than 2,000 of one connection wait, also when more came in one piece."""
    waiting: list[Deferred[None]] = []

    def publish(event: Event) -> Deferred[None]:
        waiting.append(Deferred())
        return waiting[-1]

    protocol, transport = attack(publish, encode(Publish(Event("t", 1))) * 5000)
    protocol.readConnectionLost()
    assert len(waiting) == 2000
    for one in waiting:  # grows while it is walked
        one.callback(None)
    assert len(waiting) == 5000
    assert transport.value().splitlines()[-1] == b'{"ok":5000}'
    assert transport.disconnecting
