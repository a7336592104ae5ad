"""What the script of an operation gets, and what it says. Pure.

A script gets the request as JSON on its standard input, and each parameter as a variable of its
environment. It writes lines. A JSON object with the members ``name`` and ``result`` is a step, one
with ``resultCode`` is the result; the members are those of the answer on the wire. Any other line
is text: the first one describes the result. Without a result, the exit status decides. A result
that can't be read is none of success.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from oda.boundary import MAX_REASON_LENGTH, reason_of
from oda.errors import InvalidParameter
from oda.model import OperationRequest, OperationResult, ResultCode, Step, StepResult

#: What each variable of a parameter begins with: no parameter can replace PATH or LD_PRELOAD.
VARIABLE_PREFIX = "ODA_PARAM_"
#: A longer value is on the standard input only: the kernel takes 128 KiB for one variable.
MAX_VARIABLE_BYTES = 16 * 1024
#: So many parameters become variables at the most; together they stay far below what the kernel
#: takes for all arguments and variables.
MAX_VARIABLES = 64

_NO_NAME = re.compile("[^A-Z0-9_]")


class _StepLine(msgspec.Struct):
    name: str
    result: StepResult
    description: str | None = None
    response: list[Any] | None = None
    timestamp: int | None = None


class _ResultLine(msgspec.Struct, rename="camel"):
    result_code: ResultCode
    result_description: str | None = None


def script_variables(request: OperationRequest, host_id: str) -> dict[str, str]:
    """The variables of a request: what it is, and its parameters.

    A parameter's name is written in capital letters, with ``_`` for every character that is no
    letter, digit or ``_``. A text is the value itself, everything else is JSON, null is empty.
    Raises ``InvalidParameter`` for two parameters with one name and for a value that no variable
    can have.
    """
    variables = {
        "ODA_OPERATION": request.name,
        "ODA_OPERATION_ID": request.id,
        "ODA_DEVICE_ID": request.device_id or host_id,
    }
    if any("\0" in value for value in variables.values()):
        raise InvalidParameter("id", "holds a character 0, which no script can get")
    taken: dict[str, str] = {}
    for name, value in request.parameters.items():
        variable = VARIABLE_PREFIX + _NO_NAME.sub("_", name.upper())
        if variable in taken:
            raise InvalidParameter(name, f"is the variable {variable} as {taken[variable]} is")
        taken[variable] = name
        text = _as_text(name, value)
        if len(taken) <= MAX_VARIABLES and len(text.encode()) <= MAX_VARIABLE_BYTES:
            variables[variable] = text
    return variables


def script_input(request: OperationRequest, host_id: str) -> bytes:
    """The request as one line of JSON. Raises ``InvalidParameter`` for what JSON can't carry."""
    document: Mapping[str, Any] = {
        "id": request.id,
        "name": request.name,
        "deviceId": request.device_id or host_id,
        "path": request.path,
        "parameters": request.parameters,
    }
    for name, value in request.parameters.items():
        _as_json(name, value)
    return _as_json("parameters", document) + b"\n"


def _as_text(name: str, value: Any) -> str:
    if value is None:
        return ""
    # A text is looked at in the same way: half a surrogate pair is no Unicode.
    written = _as_json(name, value)
    text = value if isinstance(value, str) else written.decode()
    if "\0" in text:
        raise InvalidParameter(name, "holds a character 0, which no script can get")
    return text


def _as_json(name: str, value: Any) -> bytes:
    try:
        # Not msgspec's encoder, which writes bytes as a text: a script could not tell them from
        # one.
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except Exception as error:
        raise InvalidParameter(name, f"can't be given to a script: {error}") from error


class ScriptReport:
    """Reads what a script writes, piece by piece. ``steps`` are those it has told so far;
    ``faults`` are lines that look like a step or a result, and are none."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.faults: list[str] = []
        self._rest = b""
        self._lines = 0
        self._first_text = ""
        self._result: _ResultLine | None = None
        #: Why the last result can't be read, "" if it can.
        self._unreadable = ""

    def feed(self, written: bytes) -> bool:
        """Take what was written next; whether there are more steps now."""
        before = len(self.steps)
        *lines, self._rest = (self._rest + written).split(b"\n")
        for line in lines:
            self._read(line)
        return len(self.steps) > before

    def result(self, failure: str) -> OperationResult:
        """What the operation answers once the script has ended; ``failure`` is how it failed, ""
        for exit status 0. A script that fails is not successful, whatever it wrote before."""
        self._read(self._rest)
        self._rest = b""
        steps = tuple(self.steps) or None
        said = self._result
        if failure:
            text = self._first_text
            if said is not None and said.result_code is not ResultCode.SUCCESSFUL:
                return OperationResult(said.result_code, said.result_description, steps or ())
            if text and ": " not in failure:
                failure = f"{failure}: {text}"
            return OperationResult(ResultCode.ERROR_PROCESSING, failure, steps or ())
        if self._unreadable:
            # The script may have wanted to say that it has failed.
            text = f"the script's result can't be read: {self._unreadable}"
            return OperationResult(ResultCode.ERROR_PROCESSING, text, steps or ())
        if said is None:
            return OperationResult(ResultCode.SUCCESSFUL, self._first_text or None, steps)
        if said.result_code is not ResultCode.SUCCESSFUL:
            steps = steps or ()
        return OperationResult(said.result_code, said.result_description, steps)

    def _read(self, line: bytes) -> None:
        self._lines += 1
        line = line.strip()
        if not line:
            return
        if line.startswith(b"{"):
            try:
                if self._take(line, msgspec.json.decode(line)):
                    return
            except (ValueError, RecursionError) as error:  # no Unicode is a ValueError, too
                self.faults.append(f"line {self._lines}: {error}")
        if not self._first_text:
            self._first_text = line.decode("utf-8", "replace")[:MAX_REASON_LENGTH]

    def _take(self, line: bytes, document: Any) -> bool:
        if "resultCode" in document:
            try:
                self._result = msgspec.json.decode(line, type=_ResultLine)
            except ValueError as error:
                self._result, self._unreadable = None, reason_of(error)
                raise
            self._unreadable = ""
            return True
        if "result" in document and "name" in document:
            told = msgspec.json.decode(line, type=_StepLine)
            self.steps.append(
                Step(told.name, told.result, told.description, told.response, told.timestamp)
            )
            return True
        return False
