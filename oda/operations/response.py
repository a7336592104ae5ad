"""Builds the answers to operations (OpenGate protocol, "Operation response"). Pure.

The documents are plain dicts with the members in the protocol's order. Members that are None are
left out; ``path`` and ``steps`` are always present.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any, Protocol

from oda.errors import EncodeError, OperationFailed
from oda.model import PROTOCOL_VERSION, OperationResult, ResultCode, Step, StepResult

#: The description that the platform expects in a successful answer of a reading operation.
NO_ERROR = "No Error."

#: Raises ``EncodeError`` for a value that no format can carry; the second argument is its place.
CheckValue = Callable[[Any, str], None]

#: ``resultCode`` and ``resultDescription`` of one variable of a step's ``response``.
SUCCESS = "SUCCESS"
ERROR = "ERROR"
NON_EXISTENT = "NON_EXISTENT"


class Echo(Protocol):
    """The parts of a request that its answer repeats: an ``OperationRequest`` or a ``Refusal``."""

    @property
    def id(self) -> str | None: ...
    @property
    def name(self) -> str | None: ...
    @property
    def requested_device_id(self) -> str: ...
    @property
    def path(self) -> tuple[str, ...]: ...


def final_document(echo: Echo, host_id: str, result: OperationResult) -> dict[str, Any]:
    """The final answer. Raises ``OperationFailed`` that names the fault of ``result``."""
    if not isinstance(result, OperationResult):
        raise OperationFailed(
            f"the operation returned {type(result).__name__} instead of OperationResult"
        )
    code, description, steps = result.result_code, result.description, result.steps
    if not isinstance(code, ResultCode):
        raise OperationFailed(f"the operation's result code is {code!r}")
    if description is not None and not isinstance(description, str):
        raise OperationFailed(f"the operation's description is {type(description).__name__}")
    if steps is None:
        steps = _implied_steps(echo.name or "", code, description)
    response = _envelope(echo, host_id)
    response["resultCode"] = code.text
    if description is not None:
        response["resultDescription"] = description
    response["steps"] = step_documents(steps)
    return {"version": PROTOCOL_VERSION, "operation": {"response": response}}


def partial_document(echo: Echo, host_id: str, steps: Sequence[Step]) -> dict[str, Any]:
    """A partial answer: the steps done so far, and no ``resultCode`` yet.

    Raises ``OperationFailed`` that names the fault of ``steps``.
    """
    response = _envelope(echo, host_id)
    response["steps"] = step_documents(steps)
    return {"version": PROTOCOL_VERSION, "operation": {"response": response}}


def step_documents(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """The steps in wire form. Raises ``OperationFailed`` for anything that is not a step."""
    if not isinstance(steps, list | tuple):
        raise OperationFailed(f"the operation's steps are {type(steps).__name__}, not a list")
    return [_step_document(index, step) for index, step in enumerate(steps)]


def failure(
    description: str, code: ResultCode = ResultCode.ERROR_PROCESSING, steps: Sequence[Step] = ()
) -> OperationResult:
    """The result of a failed operation."""
    return OperationResult(code, description, steps)


def single_step(
    name: str, response: Sequence[Any], description: str | None = NO_ERROR
) -> OperationResult:
    """The successful result with one step, named like the operation, as GET, SET and REFRESH
    have it: the step's own description is empty."""
    step = Step(name, StepResult.SUCCESSFUL, "", response)
    return OperationResult(ResultCode.SUCCESSFUL, description, (step,))


def variable_entry(
    name: str, code: str = SUCCESS, description: str = SUCCESS, value: Any = None
) -> dict[str, Any]:
    """One entry of a step's ``response``; a value of None is left out."""
    if value is None:
        return {"variableName": name, "resultCode": code, "resultDescription": description}
    return {
        "variableName": name,
        "variableValue": value,
        "resultCode": code,
        "resultDescription": description,
    }


def unsendable(check_value: CheckValue, *parts: Any) -> str | None:
    """Why a reading made of ``parts`` can't be sent; None if it can. Each reading is checked
    separately, because one bad reading must not cost the platform the others of the answer."""
    for part in parts:
        if isinstance(part, float) and not isfinite(part):
            return f"The value is {part}, which can't be sent"
        try:
            check_value(part, "value")
        except EncodeError as error:
            return f"The value can't be sent: {error}"
    return None


def _envelope(echo: Echo, host_id: str) -> dict[str, Any]:
    response: dict[str, Any] = {}
    if echo.id is not None:
        response["id"] = echo.id
    response["deviceId"] = echo.requested_device_id or host_id
    response["path"] = list(echo.path)
    if echo.name is not None:
        response["name"] = echo.name
    return response


def _implied_steps(name: str, code: ResultCode, description: str | None) -> Sequence[Step]:
    """Only success implies a step: recorded failures without steps have an empty list."""
    if code is ResultCode.SUCCESSFUL:
        return (Step(name, StepResult.SUCCESSFUL, description),)
    return ()


def _step_document(index: int, step: Step) -> dict[str, Any]:
    if not isinstance(step, Step):
        raise OperationFailed(f"steps[{index}] is {type(step).__name__} instead of Step")
    if not isinstance(step.name, str):
        raise OperationFailed(f"steps[{index}].name is {type(step.name).__name__}, not a text")
    if not isinstance(step.result, StepResult):
        raise OperationFailed(f"steps[{index}].result is {step.result!r}, not a StepResult")
    document: dict[str, Any] = {"name": step.name, "result": step.result.text}
    if step.description is not None:
        if not isinstance(step.description, str):
            raise OperationFailed(f"steps[{index}].description is not a text")
        document["description"] = step.description
    if step.timestamp_ms is not None:
        if type(step.timestamp_ms) is not int:
            raise OperationFailed(f"steps[{index}].timestamp_ms is not a whole number")
        document["timestamp"] = step.timestamp_ms
    if step.response is not None:
        if not isinstance(step.response, list | tuple):
            raise OperationFailed(f"steps[{index}].response is not a list")
        document["response"] = list(step.response)
    return document
