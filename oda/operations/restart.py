"""Operations that restart the device or the agent: REBOOT_EQUIPMENT, and scripts that say so.

A partial answer and the state are committed, then the command runs. It ends the process, sooner or
later. The next process gives the final answer: for a restart of the device it compares the boot id
of the kernel, which each boot draws anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from oda.errors import (
    InvalidParameter,
    OperationFailed,
    OperationNotSupported,
    OutboxError,
    ReadingFailed,
)
from oda.interfaces import (
    IOperation,
    IProgress,
    IResumableOperation,
    IScriptRunner,
    IStateManager,
    IWallClock,
)
from oda.model import (
    HOST,
    OperationRequest,
    OperationResult,
    ResultCode,
    Step,
    StepResult,
)
from oda.operations.catalogue import refusal
from oda.operations.script_operation import check_device
from oda.operations.script_report import ScriptReport, script_input, script_variables
from oda.settings import OperationsSettings, ScriptEffect, ScriptOperationSettings

REBOOT = "REBOOT_EQUIPMENT"
#: The values of the parameter ``type`` of REBOOT_EQUIPMENT, and the key that each needs.
REBOOT_TYPES = {"HARDWARE": "rebootCommand", "SOFTWARE": "restartCommand"}

#: Seconds from the failure of a command to the answer that says so.
_SETTLE_S = 5.0
#: Seconds between the limits of the script and the restart, and the operation's own.
_MARGIN_S = 10.0

_ANNOUNCED = {
    ScriptEffect.REBOOTS: "the device restarts",
    ScriptEffect.RESTARTS: "the agent restarts",
}
_DONE = {
    ScriptEffect.REBOOTS: "the device has restarted",
    ScriptEffect.RESTARTS: "the agent has restarted",
}

_log = Logger()


class Restart(NamedTuple):
    """What to run, and what it restarts."""

    command: str
    effect: ScriptEffect


class Surroundings(NamedTuple):
    """What operations that restart something need. ``boot_id`` tells this boot from others, "" if
    that is unknown; ``read_after`` are datastreams of the device to read after the final answer.
    ``is_right()`` says whether the time of day can be believed: a device may restart in 1970, and
    no step is sent with that time."""

    runner: IScriptRunner
    state: IStateManager
    wall_clock: IWallClock
    clock: IReactorTime
    host_id: Callable[[], str]
    boot_id: Callable[[], str]
    script_timeout_s: float
    restart_timeout_s: float
    read_after: Sequence[str]
    is_right: Callable[[], bool] = lambda: True

    def now_ms(self) -> int | None:
        """The time of day, None where it can't be believed."""
        return self.wall_clock.now_ms() if self.is_right() else None


@implementer(IOperation, IResumableOperation)
class RestartOperation:
    """Runs what ``choose(request)`` gives. It may raise ``OperationError``."""

    reads_only = False

    def __init__(
        self, name: str, around: Surroundings, choose: Callable[[OperationRequest], Restart]
    ) -> None:
        self.name = name
        self.time_limit_s = around.script_timeout_s + around.restart_timeout_s + _MARGIN_S
        self._around = around
        self._choose = choose

    async def execute(self, request: OperationRequest, progress: IProgress) -> OperationResult:
        """The restart ends the process. Returns only if the script says itself that it restarts
        nothing, and raises ``OperationError`` if it fails."""
        around = self._around
        restart = self._choose(request)
        host_id = around.host_id()
        variables, written = script_variables(request, host_id), script_input(request, host_id)
        began_ms = around.now_ms()
        progress([self._began(restart.effect, began_ms)])
        try:
            await progress.save(
                {
                    "effect": restart.effect.value,
                    "boot_id": around.boot_id(),
                    "began_ms": began_ms,
                }
            )
        except OutboxError as error:
            raise OperationFailed(f"nothing was restarted: {error}") from error
        report = ScriptReport()

        def wrote(written: bytes) -> None:
            report.feed(written)

        try:
            # The end of the agent cancels every operation, and the command may be what ends it.
            output = await around.runner.run_once(
                restart.command, variables, written, wrote, survives=True
            )
        except ReadingFailed as error:
            failure = str(error)
        else:
            result = report.result(output.failure)
            failure = output.failure and (result.description or output.failure)
            if not failure and result.result_code is not ResultCode.SUCCESSFUL:
                return result  # it says itself that it restarts nothing
        if failure:
            # A restart ends the command together with the agent, and perhaps a moment before.
            await self._end_of_the_process(_SETTLE_S, failure)
        what = "the device" if restart.effect is ScriptEffect.REBOOTS else "the agent"
        limit_s = around.restart_timeout_s
        await self._end_of_the_process(
            limit_s, f"the command has ended, but {what} has not restarted within {limit_s:g} s"
        )
        raise AssertionError("the wait ends with an error only")

    def resume(self, request: OperationRequest, state: Any, progress: IProgress) -> OperationResult:
        """The final answer; the readings follow it."""
        around = self._around
        effect = ScriptEffect(state["effect"])
        began = self._began(effect, state["began_ms"])
        now_ms = around.now_ms()
        boot_id = around.boot_id()
        if effect is ScriptEffect.REBOOTS and boot_id and boot_id == state["boot_id"]:
            reason = "only the agent has restarted, not the device: the boot id is the same"
            failed = Step(self.name, StepResult.ERROR, reason, None, now_ms)
            return OperationResult(ResultCode.ERROR_PROCESSING, reason, (began, failed))
        if around.read_after:
            around.clock.callLater(0, self._read)
        done = Step(self.name, StepResult.SUCCESSFUL, _DONE[effect], None, now_ms)
        return OperationResult(ResultCode.SUCCESSFUL, _DONE[effect], (began, done))

    def _read(self) -> None:
        """Read and publish, as GET_DEVICE_PARAMETERS does; what can't be read is logged."""

        def log(values: Sequence[Any]) -> None:
            for value in values:
                if value.error is not None:
                    _log.warn(
                        "after {name}: {datastream} can't be read: {reason}",
                        name=self.name,
                        datastream=value.datastream_id,
                        reason=value.error,
                    )

        self._around.state.get(HOST, tuple(self._around.read_after)).addCallback(log)

    def _began(self, effect: ScriptEffect, at_ms: int | None) -> Step:
        return Step(self.name, StepResult.SUCCESSFUL, _ANNOUNCED[effect], None, at_ms)

    def _end_of_the_process(self, limit_s: float, reason: str) -> Deferred[None]:
        """Fails with ``reason`` if this process still runs after ``limit_s``."""
        timer = self._around.clock.callLater(
            limit_s, lambda: waiting.errback(OperationFailed(reason))
        )
        waiting: Deferred[None] = Deferred(lambda _: timer.cancel())
        return waiting

    def __repr__(self) -> str:
        return f"RestartOperation({self.name!r})"


def reboot_equipment(settings: OperationsSettings, around: Surroundings) -> RestartOperation:
    """REBOOT_EQUIPMENT: ``type`` HARDWARE, or none, restarts the device, SOFTWARE the agent."""
    commands = {"HARDWARE": settings.reboot_command, "SOFTWARE": settings.restart_command}
    effects = {"HARDWARE": ScriptEffect.REBOOTS, "SOFTWARE": ScriptEffect.RESTARTS}

    def choose(request: OperationRequest) -> Restart:
        check_device(request, serves_devices=False)
        kind = _type_of(request)
        command = commands[kind]
        if command is None:
            raise OperationNotSupported(refusal(REBOOT_TYPES[kind]))
        return Restart(command, effects[kind])

    return RestartOperation(REBOOT, around, choose)


def restarting_script(settings: ScriptOperationSettings, around: Surroundings) -> RestartOperation:
    """The operation of a line with the option REBOOTS or RESTARTS."""

    def choose(request: OperationRequest) -> Restart:
        check_device(request, settings.serves_devices)
        return Restart(settings.command, settings.effect)

    return RestartOperation(settings.name, around, choose)


def _type_of(request: OperationRequest) -> str:
    """The parameter ``type``, which the older dialect writes in capital letters."""
    found = "HARDWARE"
    for name, value in request.parameters.items():
        if name.lower() != "type":
            raise InvalidParameter(name, "unknown; the only parameter is type")
        if not isinstance(value, str) or value.upper() not in REBOOT_TYPES:
            raise InvalidParameter(name, "must be HARDWARE or SOFTWARE")
        found = value.upper()
    return found
