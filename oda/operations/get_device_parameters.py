"""GET_DEVICE_PARAMETERS: reads the named datastreams (OpenGate protocol, "Operations")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from oda.interfaces import IOperation, IStateManager
from oda.model import HOST, DatastreamValue, OperationRequest, OperationResult, Step, ValueStatus
from oda.operations.parameters import read_variable_names
from oda.operations.response import (
    ERROR,
    NON_EXISTENT,
    is_not_finite,
    single_step,
    variable_entry,
)


@implementer(IOperation)
class GetDeviceParameters:
    """Answers with one entry per datastream of ``variableList``, or one per matching device when
    the request's device id is a pattern. An unreadable datastream fails its entry only."""

    name = "GET_DEVICE_PARAMETERS"
    reads_only = True

    def __init__(self, state: IStateManager) -> None:
        self._state = state

    def execute(
        self, request: OperationRequest, progress: Callable[[Sequence[Step]], None]
    ) -> Deferred[OperationResult]:
        """Fires when everything is read. Raises ``InvalidParameter`` for a wrong
        ``variableList``."""
        names = read_variable_names(request.parameters)
        return self._state.get(request.device_id, names).addCallback(_result, request)


def _result(values: Sequence[DatastreamValue], request: OperationRequest) -> OperationResult:
    return single_step(GetDeviceParameters.name, [_entry(value, request) for value in values])


def _entry(value: DatastreamValue, request: OperationRequest) -> dict[str, Any]:
    name = value.datastream_id
    if value.status is ValueStatus.NOT_FOUND:
        return variable_entry(name, NON_EXISTENT, "No datastream found")
    if value.status is ValueStatus.ERROR:
        return variable_entry(name, ERROR, value.error or "The datastream could not be read")
    if value.value is None:
        device_id = HOST if request.device_id == HOST else value.device_id
        # The wording of the recorded answer, so that whoever matches it finds it here too.
        return variable_entry(
            name,
            ERROR,
            f"One of these is null : deviceId '{device_id}', datastreamId '{name}' "
            "or value 'null'.",
        )
    if is_not_finite(value.value):
        return variable_entry(name, ERROR, f"The value is {value.value}, which can't be sent")
    return variable_entry(name, value=value.value)
