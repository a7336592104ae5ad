"""REBOOT_EQUIPMENT and scripts that restart something: one partial answer at once, one final answer
after the restart, whenever the process ends."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from oda.interfaces import IOperation, IResumableOperation
from oda.operations.restart import (
    Surroundings,
    reboot_equipment,
    restarting_script,
)
from oda.settings import OperationsSettings, ScriptEffect, ScriptOperationSettings

from .fake_outbox import FakeOutbox
from .fake_scripts import FakeRunner
from .fakes import Bench, FakeStateManager, FakeWallClock, request
from .test_one_answer import parts_of

REBOOT = OperationsSettings(
    reboot_command="/sbin/reboot-it", restart_command="restart-it", restart_timeout_s=100.0
)


class Process:
    """One process of an agent that can restart itself and its device."""

    def __init__(
        self,
        boot_id: str = "boot-1",
        settings: OperationsSettings = REBOOT,
        outbox: FakeOutbox | None = None,
        script: ScriptOperationSettings | None = None,
        read_after: tuple[str, ...] = (),
        is_right: bool = True,
    ) -> None:
        self.runner = FakeRunner()
        self.state = FakeStateManager()
        clock = Clock()
        around = Surroundings(
            runner=self.runner,
            state=self.state,
            wall_clock=FakeWallClock(),
            clock=clock,
            host_id=lambda: "dev-1",
            boot_id=lambda: boot_id,
            script_timeout_s=settings.script_timeout_s,
            restart_timeout_s=settings.restart_timeout_s,
            read_after=read_after,
            is_right=lambda: is_right,
        )
        self.operation = (
            reboot_equipment(settings, around)
            if script is None
            else restarting_script(script, around)
        )
        self.bench = Bench(self.operation, outbox=outbox)
        self.clock = clock
        self.parts = parts_of(self.bench)

    def ask(self, **members: Any) -> list[dict[str, Any]]:
        """The response, if there is one at once."""
        answers = self.bench.send(request(**{"name": self.operation.name, **members}))
        return [self.response(payload) for payload in answers if payload is not None]

    def response(self, payload: bytes) -> dict[str, Any]:
        response: dict[str, Any] = self.bench.decoded(payload)["operation"]["response"]
        return response

    def partials(self) -> list[dict[str, Any]]:
        return [self.response(payload) for payload, _ in self.bench.partials]

    def finals(self) -> list[dict[str, Any]]:
        return [self.response(payload) for payload in self.bench.outbox.payloads]

    def start(self) -> None:
        self.parts.started()
        self.bench.outbox.commit_all()
        self.parts.identified("dev-1")
        self.bench.outbox.commit_all()
        self.clock.advance(0)

    def killed(self, **more: Any) -> Process:
        """The next process, after this one was killed."""
        after = Process(outbox=self.bench.outbox.crash(), **more)
        after.start()
        return after


def test_the_way_of_a_reboot() -> None:
    """The step is told and the state committed before the command runs; the final answer comes
    from the next process."""
    process = Process()
    assert verifyObject(IOperation, process.operation)
    assert verifyObject(IResumableOperation, process.operation)
    process.bench.commits = False
    process.ask(parameters={"type": "HARDWARE"})
    process.bench.outbox.commit()
    assert len(process.partials()) == 1
    assert process.runner.scripts == []
    process.bench.outbox.commit()
    (script,) = process.runner.scripts
    assert (script.command, script.survives) == ("/sbin/reboot-it", True)
    assert script.variables["ODA_PARAM_TYPE"] == "HARDWARE"
    script.end()
    process.bench.dispatcher.stop()
    assert process.finals() == []
    assert not script.was_cancelled
    assert process.clock.getDelayedCalls() == []
    after = process.killed(boot_id="boot-2")
    (final,) = after.finals()
    assert final["resultCode"] == "SUCCESSFUL"
    assert final["resultDescription"] == "the device has restarted"
    assert [step["name"] for step in final["steps"]] == ["REBOOT_EQUIPMENT"] * 2
    assert final["steps"][0] == process.partials()[0]["steps"][0]
    assert after.killed(boot_id="boot-3").finals() == after.finals()


def test_no_step_is_sent_with_1970() -> None:
    """A device may restart without the time of day: its steps have no time then."""
    process = Process(is_right=False)
    process.ask(parameters={"type": "HARDWARE"})
    process.runner.scripts[0].end()
    process.bench.dispatcher.stop()
    (final,) = process.killed(boot_id="boot-2").finals()
    assert final["resultCode"] == "SUCCESSFUL"
    steps = [*process.partials()[0]["steps"], final["steps"][0]]
    assert [step for step in steps if "timestamp" in step] == []


def test_a_device_that_did_not_restart_is_told() -> None:
    """The agent was restarted and the device was not: the boot id is the same."""
    process = Process()
    process.ask()
    (final,) = process.killed().finals()
    assert final["resultCode"] == "ERROR_PROCESSING"
    assert "the boot id is the same" in final["resultDescription"]
    assert [step["result"] for step in final["steps"]] == ["SUCCESSFUL", "ERROR"]


def test_a_restart_of_the_agent_needs_no_new_boot() -> None:
    """With type SOFTWARE, in either dialect and in capital letters too."""
    for parameters in (
        {"type": "SOFTWARE"},
        [{"name": "TYPE", "type": "string", "value": {"string": "software"}}],
    ):
        process = Process()
        process.ask(parameters=parameters)
        assert process.runner.scripts[0].command == "restart-it"
        (final,) = process.killed().finals()
        assert final["resultDescription"] == "the agent has restarted"
        assert final["resultCode"] == "SUCCESSFUL"


def test_where_nobody_knows_the_boot_the_restart_counts() -> None:
    """A machine without a boot id can't tell."""
    process = Process(boot_id="")
    process.ask()
    (final,) = process.killed(boot_id="").finals()
    assert final["resultCode"] == "SUCCESSFUL"


@pytest.mark.parametrize("commits", [0, 1, 2, 3])
def test_a_kill_at_any_step_leaves_one_final_answer(commits: int) -> None:
    """Interrupted before the state is on disk, resumed from then on."""
    process = Process()
    process.bench.commits = False
    process.ask()
    for _ in range(commits):
        process.bench.outbox.commit()
    after = process.killed(boot_id="boot-2")
    if commits == 0:
        assert after.finals() == []  # not even the request is on record: it is asked for again
        return
    (final,) = after.finals()
    expected = "SUCCESSFUL" if commits > 1 else "ERROR_PROCESSING"
    assert final["resultCode"] == expected
    assert (process.runner.scripts != []) == (commits > 1)
    assert after.killed(boot_id="boot-3").finals() == [final]


def test_a_command_that_fails_is_the_answer() -> None:
    """With what it said, once it is clear that the failure is not the restart itself."""
    for fail in (
        lambda script: script.end("exit status 1: Access denied"),
        lambda script: script.fail("script 'x' was not found"),
    ):
        process = Process()
        process.ask()
        fail(process.runner.scripts[0])
        process.clock.advance(4.9)
        assert process.finals() == []
        process.clock.advance(0.1)
        (final,) = process.finals()
        assert final["resultCode"] == "ERROR_PROCESSING"
        assert final["resultDescription"] in (
            "exit status 1: Access denied",
            "script 'x' was not found",
        )
        process.bench.outbox.commit_all()
        assert process.killed(boot_id="boot-2").finals() == [final]


def test_a_script_that_does_not_want_to_restart() -> None:
    """Its result is the final answer, whatever its status."""
    line = b'{"resultCode":"NOT_SUPPORTED","resultDescription":"a valve is open"}'
    for failure in ("", "exit status 3"):
        process = Process()
        process.ask()
        process.runner.scripts[0].write(line)
        process.runner.scripts[0].end(failure)
        process.clock.advance(5)
        (final,) = process.finals()
        assert final["resultDescription"] == "a valve is open"
        assert final["resultCode"] == ("ERROR_PROCESSING" if failure else "NOT_SUPPORTED")


def test_a_command_that_is_killed_by_the_restart_has_not_failed() -> None:
    """The system ends all processes of the agent at one time: the command may be noticed first."""
    process = Process()
    process.ask()
    process.runner.scripts[0].fail("killed by signal 15")
    process.clock.advance(1)
    process.bench.dispatcher.stop()
    assert process.clock.getDelayedCalls() == []
    (final,) = process.killed(boot_id="boot-2").finals()
    assert final["resultCode"] == "SUCCESSFUL"


def test_a_restart_that_does_not_come_is_the_answer() -> None:
    """Within the time after the command; the operation's own limit is longer than both."""
    process = Process()
    process.ask()
    process.clock.advance(59)
    process.runner.scripts[0].end()
    process.clock.advance(99)
    assert process.finals() == []
    process.clock.advance(1)
    (final,) = process.finals()
    assert "has not restarted within 100 s" in final["resultDescription"]
    assert process.operation.time_limit_s == 60 + 100 + 10


def test_nothing_restarts_while_nothing_can_be_recorded() -> None:
    """The platform would never hear of it."""
    process = Process()
    process.bench.journal.save = (  # type: ignore[method-assign]
        lambda record, saved: _refused()
    )
    (final,) = process.ask()
    assert final["resultDescription"].startswith("nothing was restarted: ")
    assert process.runner.scripts == []


def _refused() -> Any:
    from twisted.internet.defer import fail

    from oda.errors import OutboxError

    return fail(OutboxError("the journal can't be written now"))


@pytest.mark.parametrize(
    ("settings", "kind", "key"),
    [
        (OperationsSettings(restart_command="x"), "HARDWARE", "rebootCommand"),
        (OperationsSettings(reboot_command="x"), "SOFTWARE", "restartCommand"),
    ],
)
def test_what_is_not_configured_is_refused_with_its_key(
    settings: OperationsSettings, kind: str, key: str
) -> None:
    """Each type needs its own command."""
    process = Process(settings=settings)
    (final,) = process.ask(parameters={"type": kind})
    assert final["resultCode"] == "NOT_SUPPORTED"
    assert final["resultDescription"] == (
        f"Operation not supported by the device: {key} in es.amplia.oda.operations.scripts.cfg"
        " would allow it"
    )
    assert process.partials() == []


@pytest.mark.parametrize("parameters", [{"type": "x"}, {"type": 1}, {"when": "now"}])
def test_wrong_parameters_restart_nothing(parameters: Any) -> None:
    """The answer names the parameter."""
    process = Process()
    (final,) = process.ask(parameters=parameters)
    assert final["resultCode"] == "ERROR_IN_PARAM"
    assert process.runner.scripts == []


def test_another_device_is_never_restarted_in_place_of_this_one() -> None:
    """A request for a device behind the agent is refused."""
    process = Process()
    (final,) = process.ask(deviceId="child")
    assert final["resultCode"] == "NOT_SUPPORTED"
    assert process.runner.scripts == []


def test_readings_follow_the_final_answer() -> None:
    """Those that the configuration names, of the device; not after a failure."""
    process = Process()
    process.ask()
    after = process.killed(boot_id="boot-2", read_after=("temperature", "missing"))
    assert after.state.gets == [("", ["temperature", "missing"])]
    process = Process()
    process.ask()
    assert process.killed(read_after=("temperature",)).state.gets == []


@pytest.mark.parametrize(
    ("effect", "boot_id", "code"),
    [
        (ScriptEffect.REBOOTS, "boot-2", "SUCCESSFUL"),
        (ScriptEffect.REBOOTS, "boot-1", "ERROR_PROCESSING"),
        (ScriptEffect.RESTARTS, "boot-1", "SUCCESSFUL"),
    ],
)
def test_a_script_that_says_that_it_restarts(effect: ScriptEffect, boot_id: str, code: str) -> None:
    """It goes the same way, with parameters of its own."""
    script = ScriptOperationSettings(name="FACTORY_RESET", command="reset.sh", effect=effect)
    process = Process(script=script)
    process.ask(parameters={"keep": ["logs"]})
    assert process.runner.scripts[0].variables["ODA_PARAM_KEEP"] == '["logs"]'
    (final,) = process.killed(boot_id=boot_id, script=script).finals()
    assert (final["name"], final["resultCode"]) == ("FACTORY_RESET", code)
    refused = Process(script=script).ask(deviceId="child")
    assert refused[0]["resultCode"] == "NOT_SUPPORTED"
