"""GET_DEVICE_PARAMETERS: reads the named datastreams (OpenGate protocol, "Operations")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from oda.deferreds import result_now
from oda.interfaces import IOperation, IStateManager
from oda.model import HOST, DatastreamValue, OperationRequest, OperationResult, Step, ValueStatus
from oda.operations.parameters import read_variable_names
from oda.operations.response import (
    ERROR,
    NON_EXISTENT,
    CheckValue,
    single_step,
    unsendable,
    variable_entry,
)


@implementer(IOperation)
class GetDeviceParameters:
    """Answers with one entry per datastream of ``variableList``, or one per matching device when
    the request's device id is a pattern. A datastream that can't be read, or whose value can't be
    sent, fails only its own entry."""

    name = "GET_DEVICE_PARAMETERS"
    reads_only = True

    def __init__(self, state: IStateManager, check_value: CheckValue) -> None:
        self._state = state
        self._check_value = check_value

    def execute(
        self, request: OperationRequest, progress: Callable[[Sequence[Step]], None]
    ) -> Deferred[OperationResult] | OperationResult:
        """Fires when all datastreams are read. Raises ``InvalidParameter`` for a wrong
        ``variableList``."""
        names = read_variable_names(request.parameters)
        reading = self._state.get(request.device_id, names)
        values = result_now(reading, list)
        if values is None:
            return reading.addCallback(self._result, request)
        return self._result(values, request)

    def _result(
        self, values: Sequence[DatastreamValue], request: OperationRequest
    ) -> OperationResult:
        entries = [_entry(value, request, self._check_value) for value in values]
        return single_step(self.name, entries)


def _entry(
    value: DatastreamValue, request: OperationRequest, check_value: CheckValue
) -> dict[str, Any]:
    name = value.datastream_id
    if value.status is ValueStatus.NOT_FOUND:
        return variable_entry(name, NON_EXISTENT, "No datastream found")
    if value.status is ValueStatus.ERROR:
        return variable_entry(name, ERROR, value.error or "The datastream could not be read")
    if value.value is None:
        device_id = HOST if request.device_id == HOST else _sendable(value.device_id)
        # The wording of the recorded answer, so that existing software can match it.
        return variable_entry(
            name,
            ERROR,
            f"One of these is null : deviceId '{device_id}', datastreamId '{name}' "
            "or value 'null'.",
        )
    problem = unsendable(check_value, value.value)
    if problem is not None:
        return variable_entry(name, ERROR, problem)
    return variable_entry(name, value=value.value)


def _sendable(device_id: str) -> str:
    """An id that every format can carry: a lister of devices may know ids that are not Unicode."""
    return device_id.encode("utf-8", "replace").decode("utf-8")
