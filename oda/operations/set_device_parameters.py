"""SET_DEVICE_PARAMETERS: writes datastreams (OpenGate protocol, "Operations")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from oda.deferreds import result_now
from oda.interfaces import IOperation, IStateManager
from oda.model import DatastreamValue, OperationRequest, OperationResult, Step, ValueStatus
from oda.operations.parameters import read_variables, refuse_unknown
from oda.operations.response import ERROR, single_step, variable_entry


@implementer(IOperation)
class SetDeviceParameters:
    """Writes ``variableList`` in order and answers with one entry for each variable; a failed write
    fails only its own entry. The whole list is checked before anything is written."""

    name = "SET_DEVICE_PARAMETERS"
    reads_only = False

    def __init__(self, state: IStateManager) -> None:
        self._state = state

    def execute(
        self, request: OperationRequest, progress: Callable[[Sequence[Step]], None]
    ) -> Deferred[OperationResult] | OperationResult:
        """Fires when everything is written. Raises ``InvalidParameter`` for a wrong
        ``variableList`` and for any other parameter."""
        refuse_unknown(request.parameters, ("variableList",))
        variables = read_variables(request.parameters)
        writing = self._state.set(request.device_id, variables)
        outcomes = result_now(writing, list)
        return writing.addCallback(_result) if outcomes is None else _result(outcomes)


def _result(outcomes: Sequence[DatastreamValue]) -> OperationResult:
    entries = [_entry(outcome) for outcome in outcomes]
    return single_step(SetDeviceParameters.name, entries, description=None)


def _entry(outcome: DatastreamValue) -> dict[str, Any]:
    if outcome.status is ValueStatus.OK:
        return variable_entry(outcome.datastream_id)
    if outcome.status is ValueStatus.NOT_FOUND:
        return variable_entry(outcome.datastream_id, ERROR, "Not found")
    reason = outcome.error or "the datastream could not be written"
    return variable_entry(outcome.datastream_id, ERROR, f"Error processing: {reason}")
