"""Datastreams that are read by running a script.

No shell is involved. A run has a time limit and an output limit; at either the whole process group
is killed, so that nothing the script started stays behind. A command that is asked for while it
runs is not started again: the second caller gets the result of the first run. The number of
processes at one time is limited.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.datastreams.script_command import find_command
from oda.datastreams.script_output import parse_output
from oda.errors import ReadingFailed
from oda.interfaces import IDatastreamGetter
from oda.model import HOST, Reading
from oda.settings import ScriptSettings

#: Variables that no script gets to see.
SECRET_VARIABLES = frozenset({"ODA_API_KEY"})
MAX_PROCESSES = 8
#: Seconds that output may still arrive after the script itself has ended: something it left
#: running in the background may hold the pipe open for ever.
DRAIN_S = 0.5
_ERROR_BYTES = 4096
_SHOWN_CHARACTERS = 200

log = Logger()


def kill_group(pid: int) -> None:
    """Kill the process and, where it leads a group, everything in the group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            log.debug("process {pid} has ended already", pid=pid)


class ScriptRunner:
    """Runs commands; see the module for how.

    ``environment`` is the agent's own: secrets are taken out of it. ``kill`` is given a process id.
    ``set_session`` is the program that makes a process the leader of its own group (setsid of
    util-linux or busybox), None where there is none: then only the script itself can be killed.
    """

    def __init__(
        self,
        reactor: Any,
        working_directory: Path,
        environment: Mapping[str, str],
        max_processes: int = MAX_PROCESSES,
        kill: Callable[[int], None] = kill_group,
        set_session: str | None = None,
    ) -> None:
        self.scripts_directory: Path | None = None
        self.timeout_s = 30.0
        self.max_output_bytes = 64 * 1024
        self._reactor = reactor
        self._working_directory = working_directory
        self._environment = {
            name: value for name, value in environment.items() if name not in SECRET_VARIABLES
        }
        self._slots = DeferredSemaphore(max_processes)
        self._kill = kill
        self._set_session = set_session
        self._runs: dict[str, _Run] = {}

    def run(self, command: str) -> Deferred[bytes]:
        """The standard output of the command.

        The Deferred fails with ``ReadingFailed``: the program was not found, took too long, wrote
        too much, or ended with another status than 0. Cancelling it kills the script, unless
        somebody else waits for it too.
        """
        run = self._runs.get(command)
        if run is None:
            run = self._runs[command] = _Run(lambda: self._runs.pop(command, None))
            answer = run.join()
            self._slots.run(self._spawn, command, run).addErrback(self._broke, run)
            return answer
        return run.join()

    def stop(self) -> None:
        """Kill every script that is running; whoever waits for it gets ``ReadingFailed``."""
        for run in list(self._runs.values()):
            run.give_up("the agent is stopping")

    def _spawn(self, command: str, run: _Run) -> Deferred[None] | None:
        """Fires when the process has ended and its place is free for another."""
        if run.is_over:
            return None  # nobody waits any more
        try:
            arguments = find_command(
                command, self._working_directory, self.scripts_directory, self._environment
            )
            protocol = _ScriptProcess(
                self._reactor, run, self.timeout_s, self.max_output_bytes, self._kill
            )
            if self._set_session:
                arguments = (self._set_session, *arguments)
            self._reactor.spawnProcess(
                protocol,
                arguments[0],
                arguments,
                env=self._environment,
                path=str(self._working_directory),
            )
        except (ValueError, OSError) as error:
            run.give_up(str(error))
            return None
        return protocol.ended

    def _broke(self, failure: Failure, run: _Run) -> None:
        # Nobody else looks at this Deferred, and whoever waits for the run must get an answer.
        log.failure("running a script failed", failure)
        run.give_up(str(failure.value))


class _Run:
    """One run of a command, and everybody who waits for its result."""

    def __init__(self, forget: Callable[[], object]) -> None:
        self.is_over = False
        self.on_give_up: Callable[[], None] | None = None
        self._forget = forget
        self._waiting: list[Deferred[bytes]] = []

    def join(self) -> Deferred[bytes]:
        waiting: Deferred[bytes] = Deferred(self._leave)
        self._waiting.append(waiting)
        return waiting

    def _leave(self, waiting: Deferred[bytes]) -> None:
        self._waiting = [other for other in self._waiting if other is not waiting]
        if not self._waiting:
            self.give_up("cancelled")

    def succeed(self, output: bytes) -> None:
        for waiting in self._end():
            if not waiting.called:  # one waiter may have cancelled another
                waiting.callback(output)

    def give_up(self, reason: str) -> None:
        """End with ``ReadingFailed``; a process that still runs is killed."""
        if self.on_give_up is not None and not self.is_over:
            self.on_give_up()
        for waiting in self._end():
            if not waiting.called:
                waiting.errback(ReadingFailed(reason))

    def _end(self) -> Sequence[Deferred[bytes]]:
        if not self.is_over:
            self.is_over = True
            self._forget()
        waiting, self._waiting = self._waiting, []
        return waiting


class _ScriptProcess(ProcessProtocol):
    """The process of one run: gathers its output and enforces the limits."""

    transport: Any

    def __init__(
        self,
        reactor: Any,
        run: _Run,
        timeout_s: float,
        max_output_bytes: int,
        kill: Callable[[int], None],
    ) -> None:
        self.ended: Deferred[None] = Deferred()
        self._reactor = reactor
        self._run = run
        self._timeout_s = timeout_s
        self._max_output_bytes = max_output_bytes
        self._kill = kill
        self._output = bytearray()
        self._errors = bytearray()
        self._timer: IDelayedCall | None = None
        self._drain: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._run.on_give_up = self._kill_all
        self._timer = self._reactor.callLater(self._timeout_s, self._time_out)
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        if len(self._output) + len(data) > self._max_output_bytes:
            self._run.give_up(f"the script wrote more than {self._max_output_bytes} bytes")
            return
        self._output += data

    def errReceived(self, data: bytes) -> None:
        self._errors += data
        del self._errors[:-_ERROR_BYTES]

    def processExited(self, reason: Failure) -> None:
        self._drain = self._reactor.callLater(DRAIN_S, self.transport.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        for timer in (self._timer, self._drain):
            if timer is not None and timer.active():
                timer.cancel()
        how: Any = reason.value
        status, killer = how.exitCode, how.signal
        if status == 0:
            self._run.succeed(bytes(self._output))
        else:
            ending = f"exit status {status}" if killer is None else f"killed by signal {killer}"
            last_line = self._last_error_line()
            self._run.give_up(f"{ending}: {last_line}" if last_line else ending)
        self.ended.callback(None)

    def _last_error_line(self) -> str:
        lines = self._errors.decode("utf-8", "replace").strip().splitlines()
        line = lines[-1].strip() if lines else ""
        return line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS] + "…"

    def _time_out(self) -> None:
        self._run.give_up(f"the script did not end within {self._timeout_s:g} s")

    def _kill_all(self) -> None:
        # Once its exit was noticed there is no id: that number may belong to somebody else.
        if self.transport.pid is not None:
            self._kill(self.transport.pid)
        self.transport.loseConnection()


@implementer(IDatastreamGetter)
class ScriptGetter:
    """Reads a datastream of the host by running a script."""

    def __init__(self, settings: ScriptSettings, runner: ScriptRunner) -> None:
        self.datastream_id = settings.datastream_id
        self.settings = settings
        self._runner = runner

    def devices(self) -> tuple[str, ...]:
        """The host only."""
        return (HOST,)

    def get(self, device_id: str) -> Deferred[Reading]:
        """See ``IDatastreamGetter.get``; fails with ``ReadingFailed`` only."""
        return self._runner.run(self.settings.command).addCallback(self._read)

    def _read(self, output: bytes) -> Reading:
        try:
            return Reading(parse_output(output, self.settings.value_type))
        except ValueError as error:
            raise ReadingFailed(str(error)) from None

    def __repr__(self) -> str:
        return f"ScriptGetter({self.datastream_id!r})"
