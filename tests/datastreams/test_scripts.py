"""Script datastreams, on processes in memory. Real ones run in ``test_real_scripts``."""

from __future__ import annotations

from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent, globalLogPublisher
from zope.interface.verify import verifyObject

from oda.datastreams.scripts import (
    GRACE_S,
    MAX_WAIT_S,
    ScriptGetter,
    ScriptRunner,
    signal_group,
)
from oda.errors import ReadingFailed
from oda.interfaces import IDatastreamGetter, IScriptRunner
from oda.model import Reading, ScriptOutput
from oda.monitor.counters import Counters
from oda.settings import ScriptSettings, ValueType
from tests.datastreams.processes import ProcessReactor


class Bench:
    """A runner with two scripts to run, and what became of them."""

    def __init__(self, directory: Path, max_processes: int = 8, session: str | None = None) -> None:
        for name in ("a.sh", "b.sh"):
            (directory / name).write_text("#!/bin/sh\n")
            (directory / name).chmod(0o755)
        self.directory = directory
        self.reactor = ProcessReactor()
        self.killed: list[tuple[int, int]] = []
        self.environment = {
            "PATH": "/bin",
            "HOME": "/root",
            "ODA_API_KEY": "canary",
            "NOTIFY_SOCKET": "/run/systemd/notify",
            "WATCHDOG_USEC": "1",
            "WATCHDOG_PID": "1",
            "LISTEN_FDS": "1",
            "JOURNAL_STREAM": "8:1",
        }
        self.refusal: Exception | None = None
        self.counters = Counters()

        def kill(pid: int, number: int) -> None:
            self.killed.append((pid, number))
            if self.refusal is not None:
                raise self.refusal

        self.runner = ScriptRunner(
            self.reactor, directory, self.environment, max_processes, kill, session, self.counters
        )
        self.runner.scripts_directory = directory

    def run(self, command: str) -> list[Any]:
        """What comes of it: the bytes written by a script that ends with 0, a ``ScriptOutput`` with
        the failure, or a Failure."""
        outcome: list[Any] = []

        def keep(result: Any) -> None:
            is_sound = isinstance(result, ScriptOutput) and not result.failure
            outcome.append(result.written if is_sound else result)

        self.runner.run(command).addBoth(keep)
        return outcome

    def reason(self, outcome: list[Any]) -> str:
        """The text of the failure that ended a run."""
        assert len(outcome) == 1
        if isinstance(outcome[0], ScriptOutput):
            return outcome[0].failure
        assert isinstance(outcome[0].value, ReadingFailed)
        return str(outcome[0].value)

    def assert_clean(self) -> None:
        assert self.reactor.getDelayedCalls() == []


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_output_of_a_script(bench: Bench) -> None:
    """Started without a shell and with its input closed, it gives all it wrote once it ended."""
    outcome = bench.run("a.sh 'x y' $HOME")
    (process,) = bench.reactor.processes
    assert process.arguments == (str(bench.directory / "a.sh"), "x y", "$HOME")
    assert process.stdin_closed
    process.write(b"one ")
    process.write(b"two\n", b"a warning\n")
    assert outcome == []
    process.end()
    assert outcome == [b"one two\n"]
    bench.assert_clean()


def test_no_secret_in_the_environment(bench: Bench) -> None:
    """A script gets the agent's environment without the API key, and without what systemd tells
    the agent's own process."""
    bench.run("a.sh")
    assert bench.reactor.processes[0].environment == {"PATH": "/bin", "HOME": "/root"}


def test_the_environment_of_the_moment(bench: Bench) -> None:
    """A script gets what the agent's environment holds when the script is started: the agent keeps
    no copy."""
    bench.environment.update(TZ="UTC", LISTEN_PID="1")
    bench.run("a.sh")
    wanted = {"PATH": "/bin", "HOME": "/root", "TZ": "UTC"}
    assert bench.reactor.processes[0].environment == wanted


def test_a_process_group_of_its_own(tmp_path: Path) -> None:
    """Where setsid exists, it makes the script the leader of a group."""
    bench = Bench(tmp_path, session="/usr/bin/setsid")
    bench.run("a.sh")
    assert bench.reactor.processes[0].arguments == ("/usr/bin/setsid", str(tmp_path / "a.sh"))


@pytest.mark.parametrize(
    ("ending", "errors", "reason"),
    [
        ({"status": 3}, b"", "exit status 3"),
        ({"status": 3}, b"first\nsensor not found\n\n", "exit status 3: sensor not found"),
        ({"status": 0, "killer": 11}, b"", "killed by signal 11"),
        ({"status": 1}, b"\xff!", "exit status 1: \ufffd!"),
        ({"status": 1}, b"start" + b"x" * 9000, "exit status 1: " + "x" * 200 + "…"),
    ],
)
def test_a_script_that_fails(
    bench: Bench, ending: dict[str, int], errors: bytes, reason: str
) -> None:
    """The reason is the exit status and the last line of the error output, cut to size; of much
    error output only the end is kept."""
    outcome = bench.run("a.sh")
    bench.reactor.processes[0].write(b"half a value", errors)
    bench.reactor.processes[0].end(**ending)
    assert bench.reason(outcome) == reason
    bench.assert_clean()


def test_the_time_limit(bench: Bench) -> None:
    """At the limit the group is told to end and the reason is out, before the end is seen."""
    bench.runner.timeout_s = 5
    outcome = bench.run("a.sh")
    bench.reactor.advance(4.9)
    assert bench.killed == []
    bench.reactor.advance(0.1)
    assert bench.killed == [(1000, SIGTERM)]
    assert bench.reason(outcome) == "the script did not end within 5 s"
    bench.reactor.processes[0].end(killer=9)
    bench.assert_clean()


def test_the_output_limit(bench: Bench) -> None:
    """A script that writes more is killed at once; what it had written is not used."""
    bench.runner.max_output_bytes = 10
    outcome = bench.run("a.sh")
    bench.reactor.processes[0].write(b"1234567890")
    assert bench.killed == []
    bench.reactor.processes[0].write(b"1")
    assert bench.killed == [(1000, SIGTERM)]
    assert bench.reason(outcome) == "the script wrote more than 10 bytes"
    bench.reactor.processes[0].write(b"more")
    bench.reactor.processes[0].end(killer=9)
    bench.assert_clean()


def test_something_left_in_the_background(bench: Bench) -> None:
    """When the script has ended but its pipe stays open, the pipe is closed soon after, nobody is
    killed, and the output counts."""
    outcome = bench.run("a.sh")
    process = bench.reactor.processes[0]
    process.write(b"17")
    process.exit()
    bench.reactor.advance(0.4)
    assert not process.pipes_closed
    bench.reactor.advance(0.2)
    assert process.pipes_closed
    process.end()
    assert outcome == [b"17"]
    assert bench.killed == []
    bench.assert_clean()


def test_nobody_is_killed_after_the_exit(bench: Bench) -> None:
    """Once the process is gone its id may be another's: the limits don't kill it any more."""
    bench.runner.timeout_s = 0.1
    outcome = bench.run("a.sh")
    bench.reactor.processes[0].exit()
    bench.reactor.advance(0.2)
    assert bench.killed == []
    assert bench.reason(outcome) == "the script did not end within 0.1 s"


def test_the_same_script_runs_once_at_a_time(bench: Bench) -> None:
    """A second reading joins the first run; the next reading after it starts another."""
    first, second = bench.run("a.sh"), bench.run("a.sh")
    other = bench.run("a.sh --other")
    assert len(bench.reactor.processes) == 2
    bench.reactor.processes[0].write(b"1")
    bench.reactor.processes[0].end()
    assert (first, second, other) == ([b"1"], [b"1"], [])
    bench.run("a.sh")
    assert len(bench.reactor.processes) == 3


def test_cancelling(bench: Bench) -> None:
    """The script is killed when the last who waits has cancelled, not before."""
    outcomes: list[Any] = []
    one, two = bench.runner.run("a.sh"), bench.runner.run("a.sh")
    for waiting in (one, two):
        waiting.addBoth(outcomes.append)
    one.cancel()
    assert bench.killed == []
    two.cancel()
    assert bench.killed == [(1000, SIGTERM)]
    assert [type(failure.value) for failure in outcomes] == [CancelledError, CancelledError]
    bench.reactor.processes[0].end(killer=9)
    bench.assert_clean()


def test_a_waiter_that_cancels_another(bench: Bench) -> None:
    """What one waiter does with the result can't spoil the other's."""
    one, two = bench.runner.run("a.sh"), bench.runner.run("a.sh")
    outcomes: list[Any] = []
    one.addCallback(lambda _: two.cancel())
    two.addErrback(lambda failure: outcomes.append(type(failure.value)))
    bench.reactor.processes[0].end()
    assert outcomes == [CancelledError]


def test_the_number_of_processes_is_limited(tmp_path: Path) -> None:
    """A run over the limit waits for its turn; one cancelled meanwhile is never started."""
    bench = Bench(tmp_path, max_processes=1)
    bench.run("a.sh")
    second = bench.runner.run("a.sh 2")
    third = bench.run("a.sh 3")
    second.addErrback(lambda _: None)
    assert len(bench.reactor.processes) == 1
    second.cancel()
    bench.reactor.processes[0].end()
    assert [process.arguments[1:] for process in bench.reactor.processes] == [(), ("3",)]
    bench.reactor.processes[1].write(b"3")
    bench.reactor.processes[1].end()
    assert third == [b"3"]


def test_a_killed_process_keeps_its_place(tmp_path: Path) -> None:
    """A process that doesn't die counts until it does: the limit is one of processes."""
    bench = Bench(tmp_path, max_processes=1)
    bench.runner.timeout_s = 1
    bench.run("a.sh")
    bench.reactor.advance(1)
    bench.run("b.sh")
    assert len(bench.reactor.processes) == 1
    bench.reactor.processes[0].end(killer=9)
    assert len(bench.reactor.processes) == 2


def test_what_can_not_be_started(bench: Bench) -> None:
    """A missing file or a refusal of the system is the reason, and the place is free again."""
    assert "'missing.sh' was not found" in bench.reason(bench.run("missing.sh"))
    bench.reactor.refusal = OSError(12, "Cannot allocate memory")
    assert "Cannot allocate memory" in bench.reason(bench.run("a.sh"))
    bench.reactor.refusal = None
    bench.run("a.sh")
    assert len(bench.reactor.processes) == 1


def test_what_does_not_end_is_killed(bench: Bench) -> None:
    """After the grace the group is killed, and only then."""
    bench.runner.timeout_s = 5
    bench.run("a.sh")
    bench.reactor.advance(5)
    bench.reactor.advance(GRACE_S - 0.1)
    assert bench.killed == [(1000, SIGTERM)]
    bench.reactor.advance(0.1)
    assert bench.killed == [(1000, SIGTERM), (1000, SIGKILL)]
    bench.reactor.processes[0].end(killer=9)
    bench.assert_clean()


def test_what_a_script_started_is_killed_when_the_script_has_ended(bench: Bench) -> None:
    """A script that ends in time may leave others of its group that don't."""
    bench.runner.timeout_s = 5
    bench.run("a.sh")
    bench.reactor.advance(5)
    bench.reactor.processes[0].end(killer=15)
    assert bench.killed == [(1000, SIGTERM), (1000, SIGKILL)]
    bench.assert_clean()


@pytest.mark.parametrize("refusal", [None, PermissionError(1, "Operation not permitted")])
def test_a_script_that_can_not_be_killed(tmp_path: Path, refusal: Exception | None) -> None:
    """One that became another user, or hangs in the kernel: its reading fails in time, its place is
    free after the graces, it is counted, and not started a second time while it lives."""
    bench = Bench(tmp_path, max_processes=1)
    bench.refusal = refusal
    bench.runner.timeout_s = 5
    outcome, waiting = bench.run("a.sh"), bench.run("b.sh")
    bench.reactor.advance(5)
    assert bench.reason(outcome) == "the script did not end within 5 s"
    assert len(bench.reactor.processes) == 1
    bench.reactor.pump([GRACE_S, GRACE_S])
    assert bench.counters.count("scripts_unkillable") == 1
    bench.reactor.processes[1].write(b"7")
    bench.reactor.processes[1].end()
    assert waiting == [b"7"]
    assert "can't be killed" in bench.reason(bench.run("a.sh"))
    assert len(bench.reactor.processes) == 2
    bench.reactor.processes[0].end(killer=9)
    bench.run("a.sh")
    assert len(bench.reactor.processes) == 3


def test_a_command_never_runs_twice_at_the_same_time(tmp_path: Path) -> None:
    """One that was given up and takes its time to end (it traps SIGTERM) is not started again
    beside itself: the next run waits for the end, and others don't wait for it."""
    bench = Bench(tmp_path, max_processes=2)
    bench.runner.timeout_s = 5
    bench.run("a.sh")
    bench.reactor.advance(5)
    again, other = bench.run("a.sh"), bench.run("b.sh")
    assert [process.arguments[0][-4:] for process in bench.reactor.processes] == ["a.sh", "b.sh"]
    bench.reactor.processes[1].write(b"7")
    bench.reactor.processes[1].end()
    assert (again, other) == ([], [b"7"])
    assert len(bench.reactor.processes) == 2
    bench.reactor.processes[0].end(killer=9)
    assert len(bench.reactor.processes) == 3
    bench.reactor.processes[2].write(b"8")
    bench.reactor.processes[2].end()
    assert again == [b"8"]
    bench.assert_clean()


def test_what_waits_for_an_earlier_run_that_cannot_be_killed_fails(tmp_path: Path) -> None:
    """It learns so as soon as that is known, and there is one such process of a command at most."""
    bench = Bench(tmp_path)
    bench.runner.timeout_s = 5
    bench.run("a.sh")
    bench.reactor.advance(5)
    again = bench.run("a.sh")
    bench.reactor.pump([GRACE_S, GRACE_S])
    assert "can't be killed" in bench.reason(again)
    assert len(bench.reactor.processes) == 1
    assert bench.counters.count("scripts_unkillable") == 1
    bench.assert_clean()


def test_the_time_limit_begins_with_the_run(tmp_path: Path) -> None:
    """Waiting for a free place costs no time of the run: every script of a long row is read, and
    that they can't keep up is said once."""
    bench = Bench(tmp_path, max_processes=1)
    bench.runner.timeout_s = 10
    outcomes = [bench.run(f"a.sh {n}") for n in range(6)]
    lines: list[str] = []

    def observe(event: Any) -> None:
        if event["log_level"] is LogLevel.warn:
            lines.append(str(formatEvent(event)))

    globalLogPublisher.addObserver(observe)
    try:
        for process in range(6):
            bench.reactor.advance(9)
            bench.reactor.processes[process].write(b"1")
            bench.reactor.processes[process].end()
    finally:
        globalLogPublisher.removeObserver(observe)
    assert outcomes == [[b"1"]] * 6
    assert len(lines) == 1
    assert lines[0].startswith("the scripts can't keep up: ")
    bench.assert_clean()


def test_what_waits_too_long_is_said_as_such(tmp_path: Path) -> None:
    """It fails with the reason that it was never started."""
    bench = Bench(tmp_path, max_processes=1)
    bench.runner.timeout_s = 2 * MAX_WAIT_S
    bench.run("a.sh")
    waiting = bench.run("b.sh")
    bench.reactor.advance(MAX_WAIT_S)
    assert bench.reason(waiting) == (
        f"the script was not started: it waited {MAX_WAIT_S:g} s for one of 1 places"
    )
    bench.reactor.processes[0].end()
    assert len(bench.reactor.processes) == 1


def test_the_end_of_the_agent_waits_for_scripts_to_end(bench: Bench) -> None:
    """They are told to end, killed after the grace, and nobody waits for what can't be killed."""
    bench.run("a.sh")
    bench.run("b.sh")
    stopped: list[None] = []
    bench.runner.stop().addCallback(stopped.append)
    bench.reactor.processes[0].end(killer=15)
    assert stopped == []
    bench.reactor.pump([GRACE_S, GRACE_S])
    assert stopped == [None]
    assert bench.reason(bench.run("a.sh")) == "the agent is stopping"


def test_no_script_outlives_an_agent_that_has_no_time_left(bench: Bench) -> None:
    """Where the grace is longer than what is left of the stop, those that are still there are
    killed at once. What survives an agent is left alone, and so is what has ended."""
    bench.run("a.sh")
    bench.run("b.sh")
    run_once(bench, survives=True)
    bench.runner.stop()
    bench.reactor.processes[0].end(killer=15)
    bench.killed.clear()
    bench.runner.kill_rest()
    assert bench.killed == [(1001, SIGKILL)]
    for process in bench.reactor.processes[1:]:
        process.end(killer=9)
    bench.assert_clean()


def test_a_process_that_can_not_be_signalled_is_left_alone() -> None:
    """No error of the system comes out: the process is gone, or another user's."""
    signal_group(2**22 + 1, 0)


def test_stopping(bench: Bench) -> None:
    """At the end of the agent nothing stays behind."""
    outcomes = [bench.run("a.sh"), bench.run("b.sh")]
    bench.runner.stop()
    assert bench.killed == [(1000, SIGTERM), (1001, SIGTERM)]
    assert {bench.reason(outcome) for outcome in outcomes} == {"the agent is stopping"}
    for process in bench.reactor.processes:
        process.end(killer=9)
    bench.assert_clean()


# --- for one caller -----------------------------------------------------------------------------


def run_once(bench: Bench, command: str = "a.sh", **more: Any) -> tuple[list[Any], list[bytes]]:
    """What comes of a run for one caller, and the pieces of its output."""
    assert verifyObject(IScriptRunner, bench.runner)
    pieces: list[bytes] = []
    outcome: list[Any] = []
    arguments = {"variables": {}, "written": b"", "on_output": pieces.append, **more}
    bench.runner.run_once(command, **arguments).addBoth(outcome.append)
    return outcome, pieces


def test_a_run_for_one_caller_has_its_own_variables_and_input(bench: Bench) -> None:
    """Besides those of every script; what it writes is heard at once, and given at the end."""
    outcome, pieces = run_once(bench, variables={"ODA_PARAM_X": "1"}, written=b"{}\n")
    (process,) = bench.reactor.processes
    assert process.environment == {"PATH": "/bin", "HOME": "/root", "ODA_PARAM_X": "1"}
    assert (process.stdin, process.stdin_closed) == (b"{}\n", True)
    process.write(b"one")
    assert pieces == [b"one"]
    process.write(b"two")
    process.end(3)
    assert (outcome, pieces) == ([ScriptOutput(b"onetwo", "exit status 3")], [b"one", b"two"])
    bench.assert_clean()


def test_runs_for_one_caller_are_not_shared_and_follow_each_other(bench: Bench) -> None:
    """Each has other parameters; the same command never runs twice at the same time."""
    first, _ = run_once(bench, variables={"N": "1"})
    second, _ = run_once(bench, variables={"N": "2"})
    reading = bench.run("a.sh")
    for number, expected in ((0, "1"), (1, "2"), (2, None)):
        assert len(bench.reactor.processes) == number + 1
        process = bench.reactor.processes[number]
        assert process.environment.get("N") == expected
        process.write(b"%d" % number)
        process.end()
    assert (first, second) == ([ScriptOutput(b"0")], [ScriptOutput(b"1")])
    assert reading == [b"2"]
    bench.assert_clean()


def test_the_limits_of_a_run_for_one_caller(bench: Bench) -> None:
    """They are those of readings; after the limit nothing more of its output is heard."""
    bench.runner.max_output_bytes = 5
    outcome, pieces = run_once(bench)
    (process,) = bench.reactor.processes
    process.write(b"12345")
    process.write(b"6")
    process.write(b"7")
    assert pieces == [b"12345"]
    assert bench.reason(outcome) == "the script wrote more than 5 bytes"
    assert bench.killed == [(1000, SIGTERM)]
    process.end(killer=9)
    slow, _ = run_once(bench)
    bench.reactor.advance(30)
    assert bench.reason(slow) == "the script did not end within 30 s"
    bench.reactor.processes[1].end(killer=15)
    bench.assert_clean()


def test_what_survives_is_ended_neither_with_its_caller_nor_with_the_agent(bench: Bench) -> None:
    """Once it has started: it may be what ends the agent. One that waits never starts."""
    waiting: list[Any] = []
    run = bench.runner.run_once("a.sh", {}, b"", lambda _: None, survives=True)
    run.addBoth(waiting.append)
    later, _ = run_once(bench, survives=True)
    run.cancel()
    (cancelled,) = waiting
    assert cancelled.check(CancelledError)
    stopped: list[Any] = []
    bench.runner.stop().addCallback(stopped.append)
    assert (stopped, bench.killed) == ([None], [])
    assert bench.reason(later) == "the agent is stopping"
    bench.reactor.processes[0].end()
    assert len(bench.reactor.processes) == 1
    bench.assert_clean()


def test_what_survives_has_its_time_limit(bench: Bench) -> None:
    """Nothing runs for ever."""
    outcome, _ = run_once(bench, survives=True)
    bench.reactor.advance(30)
    assert bench.reason(outcome) == "the script did not end within 30 s"
    assert bench.killed == [(1000, SIGTERM)]
    bench.reactor.processes[0].end(killer=15)
    bench.assert_clean()


# --- getters ------------------------------------------------------------------------------------


def getter_of(bench: Bench, value_type: ValueType) -> ScriptGetter:
    settings = ScriptSettings(datastream_id="t", command="a.sh", value_type=value_type)
    return ScriptGetter(settings, bench.runner)


def read(bench: Bench, value_type: ValueType, output: bytes, **ending: int) -> Any:
    return read_by(bench, getter_of(bench, value_type), output, **ending)


def read_by(bench: Bench, getter: ScriptGetter, output: bytes, **ending: int) -> Any:
    assert verifyObject(IDatastreamGetter, getter)
    assert list(getter.devices()) == [""]
    reading: Deferred[Reading] = getter.get("")
    outcome: list[Any] = []
    reading.addBoth(outcome.append)
    bench.reactor.processes[-1].write(output, b"a warning\n")
    bench.reactor.processes[-1].end(**ending)
    return outcome[0]


def test_a_typed_reading(bench: Bench) -> None:
    """The getter gives the value in the type of its line."""
    assert read(bench, ValueType.DOUBLE, b"21.5\n") == Reading(21.5)


def test_an_output_of_another_type(bench: Bench) -> None:
    """ScriptOutput that isn't of the type is a failed reading with the reason."""
    failure = read(bench, ValueType.INTEGER, b"warm\n")
    assert isinstance(failure.value, ReadingFailed)
    assert str(failure.value) == "'warm' is not a valid INTEGER"


def test_a_value_counts_whatever_the_status_is(bench: Bench) -> None:
    """As in the reference agent: the script ends with the status of whatever ran last. The log says
    so once, and again after a run that was in order."""
    getter = getter_of(bench, ValueType.INTEGER)
    with capturedLogs() as logs:
        for status in (3, 3, 0, 1):
            assert read_by(bench, getter, b"5\n", status=status) == Reading(5)
    told = [formatEvent(event) for event in logs if event["log_namespace"].startswith("oda")]
    text = "the script a.sh wrote a value, which is used, and ended with exit status"
    assert told == [f"{text} 3: a warning", f"{text} 1: a warning"]


@pytest.mark.parametrize(
    ("output", "ending", "reason"),
    [
        (b"", {"status": 3}, "exit status 3: a warning"),
        (b"\n \n", {"status": 3}, "exit status 3: a warning"),
        (b"warm\n", {"status": 3}, "exit status 3: a warning"),
        (b"5\n", {"status": 0, "killer": 9}, "killed by signal 9: a warning"),
    ],
)
def test_without_a_value_the_status_is_the_reason(
    bench: Bench, output: bytes, ending: dict[str, int], reason: str
) -> None:
    """A script that wrote nothing of its type failed as its status says; what one wrote that was
    killed may be half a value."""
    failure = read(bench, ValueType.INTEGER, output, **ending)
    assert isinstance(failure.value, ReadingFailed)
    assert str(failure.value) == reason
