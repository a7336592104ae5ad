"""The other end of the local socket, for command-line tools: plain blocking sockets."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from oda.control.wire import ControlError, decode_answer, encode


class NoAgent(ControlError):  # noqa: N818 - named like those of oda.errors
    """Nobody listens there: no agent is running. Any other ``ControlError`` doesn't say so."""


class ControlClient:
    """A connection to the running agent. Raises ``NoAgent`` when there is none, and
    ``ControlError`` when it can't be reached."""

    def __init__(self, path: Path, timeout_s: float | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except PermissionError:
            raise ControlError(f"not allowed to use {path}: run as the agent's user") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise NoAgent(
                f"no agent is running with this configuration (nothing answers at {path})"
            ) from None
        except OSError as error:
            raise ControlError(f"{path} can't be reached: {error.strerror or error}") from None
        if not may_be_trusted(_user_of_peer(self._socket), os.geteuid()):
            self._socket.close()
            raise ControlError(f"whoever listens at {path} is another user, not this one's agent")
        self._reader = self._socket.makefile("rb")

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.abort()  # a thread that still reads would keep the reader from being closed
        self._reader.close()
        self._socket.close()

    def abort(self) -> None:
        """Talk no more: whoever reads the answers, in whatever thread, finds their end."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def send(self, message: object) -> None:
        """Write one message; blocks while the agent reads nothing. Raises ``ControlError``."""
        try:
            self._socket.sendall(encode(message))
        except OSError as error:
            raise ControlError(f"the agent is gone: {error.strerror}") from None

    def finish(self) -> None:
        """Say that nothing more will be written; answers can still be read."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it is gone already: reading will tell

    def answers(self) -> Iterator[dict[str, Any]]:
        """The agent's answers until it closes. Raises ``ControlError`` for one it can't read."""
        while line := self._reader.readline():
            yield decode_answer(line)

    def call(self, command: str, **arguments: Any) -> Any:
        """Run a command and return its result. Raises ``ControlError`` with the agent's reason."""
        self.send({"command": command, "arguments": arguments})
        for answer in self.answers():
            if "error" in answer:
                raise ControlError(str(answer["error"]))
            return answer.get("result")
        raise ControlError("the agent closed the connection without an answer")


def may_be_trusted(listener: int, own: int) -> bool:
    """Whether what the user ``listener`` says at the socket may be believed by the user ``own``.

    The directory for temporary files is everybody's: another user could listen there first, and
    say that datapoints are accepted. Only root uses the sockets of others.
    """
    return own == 0 or listener in (0, own)


def _user_of_peer(connection: socket.socket) -> int:
    """The user id of the process at the other end (Linux: unix(7), SO_PEERCRED)."""
    layout = struct.Struct("3i")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size)
    user: int = layout.unpack(credentials)[1]
    return user
