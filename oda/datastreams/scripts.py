"""Datastreams that are read by running a script.

No shell is involved. A run has a time limit and an output limit. At either limit the agent ends the
whole process group (SIGTERM) and kills it ``GRACE_S`` later, so that nothing that the script
started stays behind. A process that can't be killed (it became another user, or hangs in the
kernel) is left behind: its reading has already failed, its place is free, and its command is not
started again while it lives.

A command that is already running is not started again: the second caller gets the result of the
first run. After a run was abandoned, the next one waits until its process has ended, so no command
ever runs twice at the same time. The number of concurrent processes is limited. The time limit
starts with the run; waiting for a turn has a limit of its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.boundary import reason_of
from oda.datastreams.script_command import find_command
from oda.datastreams.script_output import parse_output
from oda.errors import ReadingFailed
from oda.interfaces import ICounters, IDatastreamGetter, ILimitsItself, IScriptRunner
from oda.log import Logger
from oda.model import HOST, Reading, ScriptOutput
from oda.settings import ScriptSettings
from oda.troubles import TroubleKind, Troubles

#: Variables hidden from scripts: the agent's secret, and systemd's variables for the agent's own
#: process. A script that talks to systemd would do so in the agent's name.
HIDDEN_VARIABLES = frozenset({"ODA_API_KEY", "NOTIFY_SOCKET", "JOURNAL_STREAM"})
HIDDEN_PREFIXES = ("WATCHDOG_", "LISTEN_")
MAX_PROCESSES = 8
#: Seconds from SIGTERM to SIGKILL, and again until a process counts as unkillable.
GRACE_S = 2.0
#: How long a run may wait for its turn, in seconds.
MAX_WAIT_S = 600.0
#: How long output may arrive after the script itself has ended, in seconds: a process that it left
#: in the background may hold the pipe open for ever.
DRAIN_S = 0.5
_ERROR_BYTES = 4096
_SHOWN_CHARACTERS = 200

_STILL_THERE = "the process of an earlier run is still there and can't be killed"

#: Sends a signal to the process group that a process leads, else only to the process.
Kill = Callable[[int, int], None]

log = Logger()


def signal_group(pid: int, number: int) -> None:
    """Send a signal to the group that the process leads; if it leads none, to the process. Ignores
    a process that may not be signalled: it now belongs to another user."""
    try:
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            os.kill(pid, number)
    except (ProcessLookupError, PermissionError) as error:
        log.debug("process {pid} can't be signalled: {reason}", pid=pid, reason=str(error))


def hand_on(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of the agent's environment that scripts get."""
    return {
        name: value
        for name, value in environment.items()
        if name not in HIDDEN_VARIABLES and not name.startswith(HIDDEN_PREFIXES)
    }


#: The subject of a trouble that all scripts have together.
_ALL = "all scripts"


@implementer(IScriptRunner)
class ScriptRunner:
    """Runs commands; see the module for how.

    ``environment`` is the agent's own: what a script must not see is removed when the script is
    started. ``kill`` gets a process id and a signal. ``set_session`` is the program that makes a
    process the leader of its own group (setsid of util-linux or busybox); with None only the script
    itself can be killed. Counts ``scripts_unkillable``.
    """

    def __init__(
        self,
        reactor: Any,
        working_directory: Path,
        environment: Mapping[str, str],
        max_processes: int = MAX_PROCESSES,
        kill: Kill = signal_group,
        set_session: str | None = None,
        counters: ICounters | None = None,
        troubles: Troubles | None = None,
        everything: str = _ALL,
    ) -> None:
        self._everything = everything
        self.scripts_directory: Path | None = None
        self.timeout_s = 30.0
        self.max_output_bytes = 64 * 1024
        self._reactor = reactor
        self._working_directory = working_directory
        self._environment = environment
        self._max_processes = max_processes
        self._kill = kill
        self._set_session = set_session
        self._counters = counters
        self._troubles = troubles or Troubles(reactor.seconds)
        #: Those that are not over, by command; one of ``run_once`` is its own key.
        self._runs: dict[object, _Run] = {}
        self._queue: list[_Run] = []
        self._processes: set[_ScriptProcess] = set()
        #: The commands of these processes, at most one process each.
        self._started: set[str] = set()
        self._unkillable: set[str] = set()
        self._is_behind = False
        self._stopped: Deferred[None] | None = None

    def run(self, command: str) -> Deferred[ScriptOutput]:
        """What the command wrote, whatever its exit status.

        The Deferred fails with ``ReadingFailed`` if the program was not found, took too long, wrote
        too much, was killed by a signal, or waited too long for its turn. Cancelling it ends the
        script, unless another caller waits for it too.
        """
        run = self._runs.get(command)
        if run is not None:
            return run.join()
        run = self._runs[command] = _Run(command, self._runs)
        return self._begin(run)

    def run_once(
        self,
        command: str,
        variables: Mapping[str, str],
        written: bytes,
        on_output: Callable[[bytes], None],
        survives: bool = False,
    ) -> Deferred[ScriptOutput]:
        """See ``IScriptRunner.run_once``."""
        run = _Run(command, self._runs)
        run.key = run
        run.variables, run.written, run.on_output = variables, written, on_output
        run.survives = survives
        self._runs[run.key] = run
        return self._begin(run)

    def _begin(self, run: _Run) -> Deferred[ScriptOutput]:
        command, answer = run.command, run.join()
        if command in self._unkillable:
            run.give_up(_STILL_THERE)
        elif self._stopped is not None:
            run.give_up("the agent is stopping")
        elif len(self._processes) < self._max_processes and command not in self._started:
            self._spawn(run)
        else:
            self._wait(run)
        return answer

    def stop(self) -> Deferred[None]:
        """End every script; whoever waits for one gets ``ReadingFailed``. Fires when all have
        ended, at the latest when those that did not are killed. One that survives the agent goes
        on: it may be what stops the agent."""
        self._stopped = Deferred()
        for run in list(self._runs.values()):
            if not (run.survives and run.is_started):
                run.give_up("the agent is stopping")
        self._queue.clear()
        self._tell_if_stopped()
        return self._stopped

    def kill_rest(self) -> None:
        """Kill the scripts that still run after ``stop``: their time is up."""
        for process in self._processes:
            if not process.run.survives and process.kill():
                log.warn(
                    "killed the script {command} (process {pid}), which had not ended in time",
                    command=process.run.command,
                    pid=process.pid,
                )

    def _tell_if_stopped(self) -> None:
        if self._stopped is None or self._stopped.called:
            return
        if all(process.run.survives for process in self._processes):
            self._stopped.callback(None)

    # -- waiting for a turn --------------------------------------------------------------------

    def _wait(self, run: _Run) -> None:
        self._queue.append(run)
        run.timer = self._reactor.callLater(MAX_WAIT_S, self._waited_too_long, run)

    def _waited_too_long(self, run: _Run) -> None:
        run.timer = None
        self._say_behind()
        run.give_up(
            f"the script was not started: it waited {MAX_WAIT_S:g} s for one of"
            f" {self._max_processes} places"
        )

    def _say_behind(self) -> None:
        if not self._is_behind:
            self._is_behind = True
            self._troubles.report(TroubleKind.SCRIPT, "they can't keep up", self._everything)
            log.warn(
                "the scripts can't keep up: {waiting} wait for one of {places} places, and have"
                " waited longer than a script may run. Run fewer, quicker, or less often",
                waiting=len(self._queue),
                places=self._max_processes,
            )

    def _fill(self) -> None:
        """Start waiting runs in order, as far as there are places."""
        waiting, self._queue = self._queue, []
        for place, run in enumerate(waiting):
            if len(self._processes) >= self._max_processes:
                self._queue.extend(waiting[place:])
                break
            if run.is_over:
                continue  # all its callers are gone
            if run.command in self._unkillable:
                run.give_up(_STILL_THERE)
                continue
            if run.command in self._started:
                self._queue.append(run)  # it waits for its own earlier process, not for a place
                continue
            if run.timer is not None:
                has_waited_s = MAX_WAIT_S - (run.timer.getTime() - self._reactor.seconds())
                if has_waited_s > max(self.timeout_s, 2 * GRACE_S):
                    self._say_behind()
                run.timer.cancel()
                run.timer = None
            self._spawn(run)
        if self._is_behind and not self._queue:
            self._is_behind = False
            self._troubles.end(TroubleKind.SCRIPT, self._everything)
            log.info("the scripts keep up again")

    # -- running ---------------------------------------------------------------------------------

    def _spawn(self, run: _Run) -> None:
        process = _ScriptProcess(
            self._reactor, run, self.timeout_s, self.max_output_bytes, self._kill, self._left
        )
        self._processes.add(process)
        self._started.add(run.command)
        try:
            environment = hand_on(self._environment)
            arguments = find_command(
                run.command, self._working_directory, self.scripts_directory, environment
            )
            if self._set_session:
                arguments = (self._set_session, *arguments)
            run.is_started = True
            self._reactor.spawnProcess(
                process,
                arguments[0],
                arguments,
                env={**environment, **run.variables},
                path=str(self._working_directory),
            )
        except Exception as error:  # noqa: BLE001 - the callers of the run must get an answer
            if not isinstance(error, ValueError | OSError):
                log.failure("running a script failed")
            self._processes.discard(process)
            self._started.discard(run.command)
            run.give_up(reason_of(error))
            self._fill()

    def _left(self, process: _ScriptProcess, has_ended: bool) -> None:
        """The process has ended, or can't be ended; its place is free for another."""
        command = process.run.command
        if not has_ended:
            self._unkillable.add(command)
            if self._counters is not None:
                self._counters.increment("scripts_unkillable")
            self._troubles.report(
                TroubleKind.SCRIPT,
                f"it can't be killed (process {process.pid}), and is not started again while that"
                " process lives",
                command,
            )
            log.error(
                "the script {command} can't be killed (process {pid}); the agent does not start it"
                " again while that process lives",
                command=command,
                pid=process.pid,
            )
        elif process not in self._processes:
            self._unkillable.discard(command)
            self._troubles.end(TroubleKind.SCRIPT, command)
            log.info("the script {command}, which could not be killed, has ended", command=command)
        if process in self._processes:
            self._processes.discard(process)
            self._started.discard(command)
        self._fill()
        self._tell_if_stopped()


class _Run:
    """One run of a command, with all callers that wait for its result. ``runs`` are the unfinished
    runs, by command."""

    def __init__(self, command: str, runs: dict[object, _Run]) -> None:
        self.command = command
        self.key: object = command
        self.variables: Mapping[str, str] = {}
        self.written = b""
        self.on_output: Callable[[bytes], None] | None = None
        self.survives = False
        self.is_started = False
        self.is_over = False
        self.on_give_up: Callable[[], None] | None = None
        #: Active while the run waits for its turn.
        self.timer: IDelayedCall | None = None
        self._runs = runs
        self._waiting: list[Deferred[ScriptOutput]] = []

    def join(self) -> Deferred[ScriptOutput]:
        waiting: Deferred[ScriptOutput] = Deferred(self._leave)
        self._waiting.append(waiting)
        return waiting

    def _leave(self, waiting: Deferred[ScriptOutput]) -> None:
        self._waiting = [other for other in self._waiting if other is not waiting]
        if not self._waiting and not (self.survives and self.is_started):
            self.give_up("cancelled")

    def succeed(self, output: ScriptOutput) -> None:
        for waiting in self._end():
            if not waiting.called:  # one caller may have cancelled another
                waiting.callback(output)

    def give_up(self, reason: str) -> None:
        """End with ``ReadingFailed``; also ends a process that is still running."""
        if self.on_give_up is not None and not self.is_over:
            self.on_give_up()
        for waiting in self._end():
            if not waiting.called:
                waiting.errback(ReadingFailed(reason))

    def _end(self) -> Sequence[Deferred[ScriptOutput]]:
        if not self.is_over:
            self.is_over = True
            self._runs.pop(self.key, None)
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None
        waiting, self._waiting = self._waiting, []
        return waiting


class _ScriptProcess(ProcessProtocol):
    """The process of one run: collects its output and enforces the limits. Calls
    ``left(self, has_ended)`` when it has ended, and earlier if it can't be killed."""

    transport: Any

    def __init__(
        self,
        reactor: Any,
        run: _Run,
        timeout_s: float,
        max_output_bytes: int,
        kill: Kill,
        left: Callable[[_ScriptProcess, bool], None],
    ) -> None:
        self.run = run
        self.pid: int | None = None
        self._reactor = reactor
        self._timeout_s = timeout_s
        self._max_output_bytes = max_output_bytes
        self._kill = kill
        self._left = left
        self._output = bytearray()
        self._errors = bytearray()
        #: First the limit, then the time between the steps of ending the process.
        self._timer: IDelayedCall | None = None
        self._drain: IDelayedCall | None = None
        self._is_ending = False

    def connectionMade(self) -> None:
        self.pid = self.transport.pid
        self.run.on_give_up = self._end_all
        self._timer = self._reactor.callLater(self._timeout_s, self._time_out)
        if self.run.written:
            self.transport.writeToChild(0, self.run.written)
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        if len(self._output) + len(data) > self._max_output_bytes:
            self.run.give_up(f"the script wrote more than {self._max_output_bytes} bytes")
            return
        self._output += data
        if self.run.on_output is not None and not self.run.is_over:
            self.run.on_output(data)

    def errReceived(self, data: bytes) -> None:
        self._errors += data
        del self._errors[:-_ERROR_BYTES]

    def processExited(self, reason: Failure) -> None:
        if self._is_ending:
            self._stop_timer()
            # At once: while the group has members, no other group can get its number.
            self._signal(signal.SIGKILL)
        self._drain = self._reactor.callLater(DRAIN_S, self.transport.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        self._stop_timer()
        if self._drain is not None and self._drain.active():
            self._drain.cancel()
        how: Any = reason.value
        status, killer = how.exitCode, how.signal
        ending = f"exit status {status}" if killer is None else f"killed by signal {killer}"
        last_line = self._last_error_line()
        failure = f"{ending}: {last_line}" if last_line else ending
        if killer is not None:
            self.run.give_up(failure)
        else:
            self.run.succeed(ScriptOutput(bytes(self._output), failure if status else ""))
        self._left(self, True)

    def _last_error_line(self) -> str:
        lines = self._errors.decode("utf-8", "replace").strip().splitlines()
        line = lines[-1].strip() if lines else ""
        return line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS] + "…"

    def _time_out(self) -> None:
        self._timer = None
        self.run.give_up(f"the script did not end within {self._timeout_s:g} s")

    def _end_all(self) -> None:
        self._stop_timer()
        # After its exit was noticed there is no id: another process may get that number.
        if self.transport.pid is not None:
            self._is_ending = True
            self._signal(signal.SIGTERM)
            self._timer = self._reactor.callLater(GRACE_S, self._end_by_force)
        self.transport.loseConnection()

    def kill(self) -> bool:
        """Kill the group now; False if the process has ended."""
        if self.transport.pid is None:
            return False
        self._stop_timer()
        self._is_ending = True
        self._end_by_force()
        return True

    def _end_by_force(self) -> None:
        self._signal(signal.SIGKILL)
        self._timer = self._reactor.callLater(GRACE_S, self._left, self, False)

    def _signal(self, number: int) -> None:
        if self.pid is not None:
            try:
                self._kill(self.pid, number)
            except OSError as error:  # the run must be abandoned in any case
                log.warn("process {pid} can't be killed: {reason}", pid=self.pid, reason=str(error))

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


@implementer(IDatastreamGetter, ILimitsItself)
class ScriptGetter:
    """Reads a datastream of the host by running a script; the runner enforces the limits."""

    def __init__(self, settings: ScriptSettings, runner: ScriptRunner) -> None:
        self.datastream_id = settings.datastream_id
        self.settings = settings
        self._runner = runner
        self._has_told_failure = False

    def devices(self) -> tuple[str, ...]:
        """The host only."""
        return (HOST,)

    def get(self, device_id: str) -> Deferred[Reading]:
        """See ``IDatastreamGetter.get``; fails with ``ReadingFailed`` only."""
        return self._runner.run(self.settings.command).addCallback(self._read)

    def _read(self, output: ScriptOutput) -> Reading:
        """A value counts whatever the status is, as in the reference agent: scripts there end with
        the status of whatever ran last. Without a value the status is the reason."""
        try:
            value = parse_output(output.written, self.settings.value_type)
        except ValueError as error:
            raise ReadingFailed(output.failure or str(error)) from None
        if output.failure and not self._has_told_failure:
            log.info(
                "the script {command} wrote a value, which is used, and ended with {failure}",
                command=self.settings.command,
                failure=output.failure,
            )
        self._has_told_failure = bool(output.failure)
        return Reading(value)

    def __repr__(self) -> str:
        return f"ScriptGetter({self.datastream_id!r})"
