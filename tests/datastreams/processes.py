"""Processes in memory: a reactor that records what it would spawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure


class FakeProcess:
    """The transport of one process; the test makes it write and end."""

    def __init__(self, pid: int, arguments: Sequence[str], env: Mapping[str, str]) -> None:
        self.pid: int | None = pid
        self.arguments = tuple(arguments)
        self.environment = dict(env)
        self.protocol: Any = None
        self.stdin_closed = False
        self.stdin = b""
        self.pipes_closed = False

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        assert descriptor == 0
        assert not self.stdin_closed
        self.stdin += data

    def closeStdin(self) -> None:
        self.stdin_closed = True

    def loseConnection(self) -> None:
        self.pipes_closed = True

    def write(self, output: bytes = b"", errors: bytes = b"") -> None:
        if output:
            self.protocol.childDataReceived(1, output)
        if errors:
            self.protocol.childDataReceived(2, errors)

    def exit(self, status: int = 0, killer: int | None = None) -> None:
        """The process has ended, its pipes may still be open."""
        self.pid = None
        self.reason = Failure(
            ProcessTerminated(None if killer else status, killer)
            if status or killer
            else ProcessDone(0)
        )
        self.protocol.processExited(self.reason)

    def end(self, status: int = 0, killer: int | None = None) -> None:
        """The process has ended and its pipes are closed."""
        if self.pid is not None:
            self.exit(status, killer)
        self.protocol.processEnded(self.reason)


class ProcessReactor(Clock):
    """A clock that also spawns processes in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []
        self.refusal: Exception | None = None

    def spawnProcess(
        self,
        protocol: Any,
        executable: str,
        args: Sequence[str],
        env: Mapping[str, str],
        path: str,
    ) -> FakeProcess:
        assert executable == args[0]
        if self.refusal is not None:
            raise self.refusal
        process = FakeProcess(1000 + len(self.processes), args, env)
        process.protocol = protocol
        self.processes.append(process)
        protocol.makeConnection(process)
        return process
