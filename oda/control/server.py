"""The agent's side of the local socket.

Datapoints are published in the order of arrival. The answers are cumulative, so one line can
acknowledge thousands. The agent stops reading while too many datapoints are not yet accepted, while
a command runs, or while the caller does not read its answers. So one connection holds at most 2,000
datapoints, one line, the system's buffers, and the answers to one command.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.internet.task import LoopingCall
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.control.wire import (
    MAX_LINE_BYTES,
    Command,
    ControlError,
    Publish,
    decode_request,
    encode,
)
from oda.errors import OdaError
from oda.log import Logger
from oda.model import Event
from oda.troubles import TroubleKind, Troubles

_log = Logger()

#: How many datapoints of one connection may wait for acceptance before reading pauses, ...
_HIGH_WATER = 2000
#: ... and at how many it resumes.
_LOW_WATER = 500

#: Seconds between two checks of the socket: a cleaner of temporary directories may remove it.
LOOK_EVERY_S = 5.0

PublishEvent = Callable[[Event], Deferred[None]]
Handler = Callable[[Mapping[str, Any]], Any]


@implementer(IHalfCloseableProtocol)
class ControlProtocol(LineOnlyReceiver):
    """One connection. A writer that has finished closes its side and still gets the remaining
    answers."""

    transport: Any
    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE_BYTES

    def __init__(
        self,
        publish: PublishEvent,
        commands: Mapping[str, Handler],
        flush: Callable[[], None] = lambda: None,
    ) -> None:
        self._publish = publish
        self._flush = flush
        self._commands = commands
        self._received = 0
        self._accepted = 0
        self._told = 0
        self._waiting: deque[list[bool]] = deque()  # one [accepted?] per datapoint, in order
        self._lines: deque[bytes] = deque()  # read, but not yet handled
        self._is_handling = False
        self._answers_wait = False
        self._paused = False
        self._is_running_command = False
        self._complete = False
        self._over = False

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)

    def lineReceived(self, line: bytes) -> None:
        if self._over:
            return
        self._lines.append(line)
        self._go_on()

    def pauseProducing(self) -> None:
        """From the transport: the caller does not read its answers. Stop reading and handling."""
        self._answers_wait = True
        self._pause_or_resume()

    def resumeProducing(self) -> None:
        """From the transport: the answers are being read."""
        self._answers_wait = False
        self._go_on()

    def stopProducing(self) -> None:
        """From the transport: the connection is lost."""
        self._over = True

    def _has_to_wait(self) -> bool:
        limit = _LOW_WATER if self._paused else _HIGH_WATER - 1
        return self._answers_wait or self._is_running_command or len(self._waiting) > limit

    def _go_on(self) -> None:
        """Handle the lines that were read, as far as allowed, and resume reading if possible."""
        if self._is_handling:
            return
        self._is_handling = True
        has_taken = False
        try:
            while self._lines and not self._over and not self._has_to_wait():
                self._handle(self._lines.popleft())
                has_taken = True
        finally:
            self._is_handling = False
        if has_taken and self._complete and self._waiting:
            self._flush()
        self._pause_or_resume()
        self._end_if_answered()

    def _pause_or_resume(self) -> None:
        if self._over or self._complete:
            return
        if self._paused is not (must_wait := bool(self._lines) or self._has_to_wait()):
            self._paused = must_wait
            if must_wait:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def _handle(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            request = decode_request(line)
        except ControlError as error:
            self._refuse(str(error))
            return
        if isinstance(request, Publish):
            self._take(request.publish)
        else:
            self._run(request)

    def lineLengthExceeded(self, line: bytes) -> None:
        self._refuse(f"a line is longer than {MAX_LINE_BYTES} bytes")

    def readConnectionLost(self) -> None:
        self._complete = True
        if self._waiting:
            self._flush()  # the writer has finished and waits for its answers
        self._go_on()

    def writeConnectionLost(self) -> None:
        self._over = True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over = True

    def _end_if_answered(self) -> None:
        is_answered = not self._waiting and not self._lines and not self._is_running_command
        if self._complete and is_answered and not self._over:
            self._end()

    def _end(self) -> None:
        self._over = True
        self._lines.clear()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _take(self, event: Event) -> None:
        self._received += 1
        entry = [False]
        self._waiting.append(entry)
        published = self._publish(event)
        published.addCallbacks(
            self._was_accepted,
            self._was_refused,
            callbackArgs=(entry,),
            errbackArgs=(self._received,),
        )

    def _was_accepted(self, _: None, entry: list[bool]) -> None:
        entry[0] = True
        while self._waiting and self._waiting[0][0]:
            self._waiting.popleft()
            self._accepted += 1
        if self._over:
            return
        if not self._waiting or self._accepted - self._told >= _LOW_WATER:
            self._told = self._accepted
            self.transport.write(encode({"ok": self._accepted}))
        self._go_on()

    def _was_refused(self, failure: Failure, number: int) -> None:
        if not failure.check(OdaError):
            _log.failure("a defect while publishing a datapoint from the socket", failure)
        self._refuse(failure.getErrorMessage(), number)

    def _refuse(self, text: str, number: int | None = None) -> None:
        if self._over:
            return
        if self._accepted > self._told:
            self.transport.write(encode({"ok": self._accepted}))
        answer: dict[str, Any] = {"error": text}
        if number is not None:
            answer["entry"] = number
        self.transport.write(encode(answer))
        self._end()

    def _run(self, command: Command) -> None:
        handler = self._commands.get(command.command)
        if handler is None:
            self._refuse(f"unknown command {command.command!r}")
            return
        self._is_running_command = True
        done = maybeDeferred(handler, command.arguments)
        done.addCallbacks(self._answer, self._command_failed)

    def _answer(self, result: Any) -> None:
        self._is_running_command = False
        if not self._over:
            self.transport.write(encode({"result": result}))
        self._go_on()

    def _command_failed(self, failure: Failure) -> None:
        self._is_running_command = False
        if not failure.check(OdaError):
            _log.failure("a defect while running a command from the socket", failure)
        self._refuse(failure.getErrorMessage())


class ControlServer(Service):
    """Listens at the path that ``prepare`` returns; only the agent's user may open it. ``prepare``
    raises ``ControlError`` if there is no safe place for the socket.

    ``commands`` are the handlers by name: given the arguments, they return a value (for JSON) or a
    Deferred. ``flush`` is called when a writer has finished and waits for acceptance. A socket that
    can't be made is logged; the agent runs without it.
    """

    name = "control"

    def __init__(
        self,
        prepare: Callable[[], Path],
        publish: PublishEvent,
        commands: Mapping[str, Handler],
        reactor: Any,
        flush: Callable[[], None] = lambda: None,
        troubles: Troubles | None = None,
    ) -> None:
        self._troubles = troubles or Troubles(reactor.seconds)
        self._prepare = prepare
        self._publish = publish
        self._flush = flush
        self._commands = commands
        self._reactor = reactor
        self._port: Any = None
        self._path = Path()
        self._warned = ""
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    def startService(self) -> None:
        """Start to listen."""
        super().startService()
        self._looking.start(LOOK_EVERY_S, now=True)

    def _look(self) -> Deferred[None] | None:
        """Listen again if nothing does: the socket could not be made, or was removed. Fires after
        the attempt."""
        if self._port is None:
            self._listen()
            return None
        if self._path.is_socket():
            return None
        _log.warn("the local socket {path} is gone; making it again", path=str(self._path))
        # Wait for the end of the old port: it removes whatever is at its path.
        return self._stop_listening().addBoth(lambda _: self._listen() if self.running else None)

    def _stop_listening(self) -> Deferred[None]:
        port, self._port = self._port, None
        # Twisted removes the file, but leaves its socket open if there is no file.
        with suppress(OSError):
            self._path.touch()
        return maybeDeferred(port.stopListening)

    def _listen(self) -> None:
        factory = ServerFactory()
        factory.noisy = False
        factory.protocol = lambda: ControlProtocol(self._publish, self._commands, self._flush)
        where = ""
        try:
            self._path = self._prepare()
            where = f" at {self._path}"
            _remove_leftover(self._path)
            self._port = self._reactor.listenUNIX(str(self._path), factory, mode=0o600)
            self._warned = ""
            self._troubles.end(TroubleKind.CONTROL_SOCKET)
        except CannotListenError as error:
            self._warn(where, error.socketError)
        except (ControlError, OSError) as error:
            self._warn(where, error)

    def _warn(self, where: str, reason: object) -> None:
        self._troubles.report(TroubleKind.CONTROL_SOCKET, f"no local socket{where}: {reason}")
        if str(reason) == self._warned:
            return
        self._warned = str(reason)
        _log.warn(
            "no local socket{where}: {reason}; 'oda send' and 'oda status' can't reach this agent",
            where=where,
            reason=str(reason),
        )

    def stopService(self) -> Any:
        """Stop listening; fires with None when the socket is gone."""
        super().stopService()
        if self._looking.running:
            self._looking.stop()
        return self._stop_listening() if self._port is not None else None


def _remove_leftover(path: Path) -> None:
    """Remove the socket of an agent that was killed; keep one at which a process listens.

    Only the kernel knows whether a process listens. Twisted's lock file names a process by its id,
    which another process may have by now: in a container the next agent has the same one.
    """
    if not path.is_socket():
        return
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.setblocking(False)  # a full backlog means that a process listens
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except (BlockingIOError, FileNotFoundError):
            pass
