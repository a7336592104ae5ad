"""An operation that a script carries out, as the configuration says."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger
from zope.interface import implementer

from oda.errors import OperationError, OperationFailed, OperationNotSupported, ReadingFailed
from oda.interfaces import IOperation, IProgress, IScriptRunner
from oda.model import HOST, OperationRequest, OperationResult
from oda.operations.catalogue import FILE
from oda.operations.script_report import ScriptReport, script_input, script_variables
from oda.settings import ScriptOperationSettings

#: So many partial answers one run sends; each repeats all steps so far, and the final one has them.
MAX_PARTIAL_ANSWERS = 100

_log = Logger()


def check_device(request: OperationRequest, serves_devices: bool) -> None:
    """Raise ``OperationNotSupported`` for another device than the agent's own: a script that does
    not know of it would act on this one."""
    if request.device_id != HOST and not serves_devices:
        raise OperationNotSupported(
            "this operation acts on the device of the agent only; a script for others needs the"
            f" option DEVICES in its line of {FILE}"
        )


class ScriptProgress:
    """Reads what a script writes, and sends its steps as partial answers while it runs."""

    def __init__(self, name: str, progress: IProgress) -> None:
        self.report = ScriptReport()
        self._name = name
        self._progress = progress
        self._partial_answers = 0

    def wrote(self, written: bytes) -> None:
        """Called with each piece; never raises."""
        if not self.report.feed(written) or self._partial_answers >= MAX_PARTIAL_ANSWERS:
            return
        self._partial_answers += 1
        try:
            self._progress(tuple(self.report.steps))
        except OperationError as error:
            _log.warn("a partial answer to {name}: {reason}", name=self._name, reason=str(error))
        except Exception:  # noqa: BLE001 - a fault of ours must not end the reading of the script
            _log.failure("a partial answer to {name} failed", name=self._name)

    def result(self, failure: str) -> OperationResult:
        """See ``ScriptReport.result``. Lines that are meant as JSON and are none are logged."""
        result = self.report.result(failure)
        for fault in self.report.faults[:3]:
            _log.warn(
                "the script of {name} wrote no step and no result: {detail}",
                name=self._name,
                detail=fault,
            )
        return result


@implementer(IOperation)
class ScriptOperation:
    """Runs the script of one line. What it does is not known: it is put on record before."""

    reads_only = False

    def __init__(
        self, settings: ScriptOperationSettings, runner: IScriptRunner, host_id: Callable[[], str]
    ) -> None:
        self.name = settings.name
        self.settings = settings
        self._runner = runner
        self._host_id = host_id

    async def execute(self, request: OperationRequest, progress: IProgress) -> OperationResult:
        """Ends with the script. Raises ``OperationError``."""
        check_device(request, self.settings.serves_devices)
        host_id = self._host_id()
        told = ScriptProgress(self.name, progress)
        try:
            output = await self._runner.run_once(
                self.settings.command,
                script_variables(request, host_id),
                script_input(request, host_id),
                told.wrote,
            )
        except ReadingFailed as error:
            raise OperationFailed(str(error)) from error
        return told.result(output.failure)

    def __repr__(self) -> str:
        return f"ScriptOperation({self.name!r})"
