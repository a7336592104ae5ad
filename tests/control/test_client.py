"""What a command learns of the agent at the other end of the local socket."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from oda.commands.check import _ask_agent
from oda.control.client import ControlClient, NoAgent, _user_of_peer
from oda.control.location import socket_name, trusted_users
from oda.control.wire import ControlError, encode
from oda.diagnosis.findings import Findings, Result
from oda.private_files import reader


@contextmanager
def _listening(path: Path, answer: bytes) -> Iterator[None]:
    """Somebody at the socket who says this to whoever comes first, and hangs up."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(10)


def test_nobody_listens(tmp_path: Path) -> None:
    """No socket, or one that was left behind: no agent is running."""
    with pytest.raises(NoAgent):
        ControlClient(tmp_path / "none")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left"))
    with pytest.raises(NoAgent):
        ControlClient(tmp_path / "left")


def test_a_socket_that_cannot_be_reached(tmp_path: Path) -> None:
    """Any other failure does not say that no agent is running."""
    with pytest.raises(ControlError) as caught:
        ControlClient(tmp_path / ("x" * 200))
    assert not isinstance(caught.value, NoAgent)


def test_whom_a_command_believes(tmp_path: Path) -> None:
    """Its own user's agent, or root's; root believes those whom its configuration names, too."""
    owner = tmp_path.stat().st_uid
    assert trusted_users(7, [tmp_path, tmp_path / "none"]) == {0, 7}
    assert trusted_users(0, [tmp_path, tmp_path / "none"]) == {0, owner}


def test_root_believes_the_user_for_whom_it_has_written_the_configuration() -> None:
    """``oda init --user oda`` writes for the group ``oda``, and the agent runs wherever its
    supervisor lets it: nothing else tells whose agent it is. A group is nobody's if no user has its
    name, and a directory that the group can't read was not written for it."""
    account = next(one for one in pwd.getpwall() if one.pw_uid and _is_own_group(one))

    def directory(owner: int = 0, group: int = account.pw_gid, mode: int = 0o750) -> os.stat_result:
        return os.stat_result((stat.S_IFDIR | mode, 0, 0, 2, owner, group, 0, 0, 0, 0))

    assert reader(directory()) == account.pw_uid
    names = {one.pw_name for one in pwd.getpwall()}
    shared = next(one.gr_gid for one in grp.getgrall() if one.gr_name not in names)
    for other in (
        directory(owner=account.pw_uid),
        directory(mode=0o700),
        directory(group=shared),
        directory(group=0),  # root's own
        directory(group=2**31 - 7),
    ):
        with pytest.raises(KeyError):
            reader(other)


def _is_own_group(account: pwd.struct_passwd) -> bool:
    try:
        return grp.getgrgid(account.pw_gid).gr_name == account.pw_name
    except KeyError:
        return False


def test_the_user_at_the_other_end(tmp_path: Path) -> None:
    """The system says whose process listens."""
    with _listening(tmp_path / "own", b""), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(tmp_path / "own"))
        assert _user_of_peer(connection) == os.geteuid()
        connection.sendall(b"x")
        assert connection.recv(1) == b"", "the other end has hung up by itself"


@pytest.mark.parametrize(
    "answer",
    [b"", b"garbage\n", b'{"error":"not today"}\n'],
    ids=["nothing", "garbage", "refusal"],
)
def test_the_check_takes_a_strange_agent_for_an_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """Whoever listens may hold the device's connection: oda check must not open another one, and
    says what is wrong."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    findings = Findings()
    with _listening(tmp_path / socket_name(tmp_path), answer):
        assert _ask_agent(tmp_path, findings) is True
    (finding,) = findings.all
    assert finding.result is Result.FAILED


@pytest.mark.parametrize("learnt_s", [30.0, 180.0])
def test_the_check_tells_what_the_agent_has_learnt_about_silence(
    learnt_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting that would spare the next start from learning again is named."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    status = {"ready": True, "reasons": [], "connection": {"keep_alive_s": learnt_s}}
    findings = Findings()
    with _listening(tmp_path / socket_name(tmp_path), encode({"result": status})):
        assert _ask_agent(tmp_path, findings, 180.0) is True
    agent, *more = findings.all
    assert agent.result is Result.OK
    if learnt_s == 180.0:
        assert more == []
    else:
        (warning,) = more
        assert warning.result is Result.WARNING
        assert "keepAliveInterval=30" in warning.advice


def test_the_check_without_an_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody listens the check may open the WebSocket."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    findings = Findings()
    assert _ask_agent(tmp_path, findings) is False
    (finding,) = findings.all
    assert finding.result is Result.OK
