"""Runs a configured command and waits for its end. No shell is involved.

What is filled into the command's words stays one word each, whatever it holds.
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from oda.errors import OperationFailed

#: Seconds from SIGTERM to SIGKILL.
GRACE_S = 10.0
MAX_OUTPUT_BYTES = 64 * 1024
_SHOWN = 300

#: dpkg-query has braces of its own: ``${Version}``.
_BRACES = re.compile(r"(?<!\$)\{(\w+)\}")


class Ended(NamedTuple):
    """How a command ended: its status (negative: a signal), and what it wrote."""

    status: int
    output: str
    errors: str

    def last_words(self) -> str:
        """The last line that it wrote, for a reason."""
        lines = [line.strip() for line in (self.errors or self.output).splitlines() if line.strip()]
        return lines[-1][:_SHOWN] if lines else ""


def fill_in(command: str, values: Mapping[str, str]) -> list[str]:
    """The command's words with the values in the place of their names in braces."""
    return [
        _BRACES.sub(lambda found: values.get(found[1], found[0]), word)
        for word in shlex.split(command)
    ]


class CommandRunner:
    """``environment()`` is that of a command which begins now."""

    def __init__(self, reactor: Any, environment: Callable[[], Mapping[str, str]]) -> None:
        self._reactor = reactor
        self._environment = environment

    def run(self, words: list[str], timeout_s: float) -> Deferred[Ended]:
        """Fires when it has ended, with whatever status; fails with ``OperationFailed`` when it
        could not be started, or not be waited for. Cancelling it ends the command."""
        process = _Process(self._reactor, words[0], timeout_s)
        environment = {"DEBIAN_FRONTEND": "noninteractive", **self._environment()}
        try:
            self._reactor.spawnProcess(process, words[0], words, environment, "/")
        except OSError as error:
            process.failed(f"{words[0]} can't be run: {error}")
        return process.ended


class _Process(ProcessProtocol):
    def __init__(self, reactor: Any, program: str, timeout_s: float) -> None:
        self._reactor = reactor
        self._program = program
        self._written: dict[int, bytes] = {1: b"", 2: b""}
        self._reason = ""
        self._kill: IDelayedCall | None = None
        self._limit: IDelayedCall | None = reactor.callLater(
            timeout_s, self._end, f"{program} took longer than packageTimeout ({timeout_s:g} s)"
        )
        self.ended: Deferred[Ended] = Deferred(lambda _: self._end("the update was cancelled"))

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.closeStdin()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        # The last of it: that is where a reason stands.
        self._written[childFD] = (self._written.get(childFD, b"") + data)[-MAX_OUTPUT_BYTES:]

    def processEnded(self, reason: Failure) -> None:
        self._stop_timers()
        if self.ended.called:
            return
        if self._reason:
            self.ended.errback(OperationFailed(self._reason))
            return
        error: Any = reason.value
        status = error.exitCode if error.signal is None else -error.signal
        texts = [self._written[number].decode("utf-8", "replace") for number in (1, 2)]
        self.ended.callback(Ended(status or 0, *texts))

    def failed(self, reason: str) -> None:
        """It was not started."""
        self._stop_timers()
        self.ended.errback(OperationFailed(reason))

    def _end(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._signal(signal.SIGTERM)
        if self._kill is None:
            self._kill = self._reactor.callLater(GRACE_S, self._signal, signal.SIGKILL)

    def _signal(self, number: int) -> None:
        transport: Any = self.transport
        if transport is not None:
            with suppress(ProcessExitedAlready):
                transport.signalProcess(number)

    def _stop_timers(self) -> None:
        for timer in (self._limit, self._kill):
            if timer is not None and timer.active():
                timer.cancel()
