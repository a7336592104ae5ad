"""The client side of the local socket, for command-line tools: plain blocking sockets."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from oda.control.location import squatter, trusted_users
from oda.control.wire import MAX_LINE_BYTES, ControlError, decode_answer, encode


class NoAgent(ControlError):  # noqa: N818 - named like those of oda.errors
    """Nothing listens there: no agent is running. Any other ``ControlError`` leaves that open."""


class NotAllowed(ControlError):  # noqa: N818 - named like those of oda.errors
    """The socket belongs to another user: an agent that this user may not use, or no agent."""


class TooLong(ControlError):  # noqa: N818 - named like those of oda.errors
    """A message that the agent would refuse; no part of it was sent."""


class ControlClient:
    """A connection to the running agent. Raises ``NoAgent`` when there is none, ``NotAllowed`` when
    it belongs to none of the ``trusted`` users (by default this one and root), and ``ControlError``
    when it can't be reached."""

    def __init__(
        self, path: Path, timeout_s: float | None = None, trusted: Collection[int] | None = None
    ) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except PermissionError:
            raise NotAllowed(f"not allowed to use {path}: run as the agent's user") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise NoAgent(
                f"no agent is running with this configuration (nothing answers at {path})"
            ) from None
        except OSError as error:
            raise ControlError(f"{path} can't be reached: {error.strerror or error}") from None
        listener = _user_of_peer(self._socket)
        if listener not in (trusted_users(os.geteuid(), ()) if trusted is None else trusted):
            self._socket.close()
            raise NotAllowed(
                f"{path} is not used: the user {listener} listens there, not this user's agent"
            )
        self._reader = self._socket.makefile("rb")

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.abort()  # a thread that is still reading would keep the reader open
        self._reader.close()
        self._socket.close()

    def be_patient(self) -> None:
        """Wait without a limit from here on: the agent was reached."""
        self._socket.settimeout(None)

    def abort(self) -> None:
        """End the connection: a thread that reads the answers finds their end."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def send(self, message: object) -> None:
        """Write one message; blocks while the agent is not reading. Raises ``TooLong``, and
        ``ControlError`` when the agent is gone."""
        line = encode(message)
        if len(line) > MAX_LINE_BYTES:
            raise TooLong(f"it is longer than {MAX_LINE_BYTES} bytes")
        try:
            self._socket.sendall(line)
        except OSError as error:
            raise ControlError(f"the agent is gone: {error.strerror}") from None

    def finish(self) -> None:
        """Announce the end of the messages; answers can still be read."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the agent is gone: the next read reports it

    def answers(self) -> Iterator[dict[str, Any]]:
        """The agent's answers until it closes. Raises ``ControlError`` for an unreadable one."""
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


def find_agent(
    expected: Collection[Path],
    others: Iterable[Path],
    trusted: Collection[int],
    timeout_s: float | None = None,
) -> ControlClient:
    """A connection to the agent at one of these paths: at an ``expected`` one, else at another.

    Raises ``NotAllowed`` for another user's socket at an expected path. Ignores such sockets at the
    other paths, where anybody can make one. Raises ``NoAgent`` when there is no agent.
    """
    refusal: ControlError | None = None
    ignored = ""
    for path in dict.fromkeys([*expected, *others]):
        try:
            reason = squatter(path, trusted)
            if not reason:
                return ControlClient(path, timeout_s, trusted)
            if path not in expected:
                ignored = f"; {path} is not used: {reason}"
            else:
                refusal = refusal or NotAllowed(f"{path} is not used: {reason}")
        except PermissionError:
            if path in expected:
                refusal = refusal or NotAllowed(
                    f"not allowed to use {path}: run as the agent's user"
                )
            else:
                ignored = f"; not allowed to look at {path}: is that the agent's user?"
        except NoAgent:
            pass  # left behind by an agent that was killed
        except ControlError as error:
            refusal = refusal or error
        except OSError:
            pass  # there is no socket
    if refusal is not None:
        raise refusal
    raise NoAgent(
        "no agent is running with this configuration (nothing answers at"
        f" {next(iter(expected))}{ignored})"
    )


def _user_of_peer(connection: socket.socket) -> int:
    """The user id of the process at the other end (Linux: unix(7), SO_PEERCRED)."""
    layout = struct.Struct("3i")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size)
    user: int = layout.unpack(credentials)[1]
    return user
