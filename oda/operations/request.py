"""Recognises an operation request in a decoded message (OpenGate protocol, "Operation request").

``recognise`` gives an ``OperationRequest`` that can be run, a ``Refusal`` that must be answered
with ERROR_IN_PARAM, or None for a message that is no request and gets no answer.
"""

from __future__ import annotations

from typing import Any

import msgspec

from oda.errors import InvalidParameter
from oda.model import HOST, OperationRequest
from oda.operations.parameters import kind_of, normalise

#: How large an id given as a number may be: writing out a huge one costs quadratic time, or fails.
MAX_ID_BITS = 256


class Refusal(msgspec.Struct, frozen=True):
    """A request that can't be run: what of it could be read, and what is wrong with it.

    ``id`` and ``name`` are None where the request has none that could be echoed.
    """

    fault: InvalidParameter
    id: str | None = None
    name: str | None = None
    requested_device_id: str = HOST
    path: tuple[str, ...] = ()


def recognise(message: Any, host_id: str) -> OperationRequest | Refusal | None:
    """The request in ``message``, the decoded payload; ``host_id`` is the agent's own device id.

    Everything that is right is echoed even if something else is wrong; of several faults the
    first is named. A ``timestamp`` that is no number is ignored: nothing depends on it.
    """
    operation = message.get("operation") if isinstance(message, dict) else None
    request = operation.get("request") if isinstance(operation, dict) else None
    if not isinstance(request, dict):
        return None
    faults: list[InvalidParameter] = []
    request_id = _read_id(request.get("id"), faults)
    device_id = _read_text("deviceId", request.get("deviceId"), faults) or HOST
    path = _read_path(request.get("path"), faults)
    name = _read_text("name", request.get("name"), faults)
    if not name and not faults:
        faults.append(InvalidParameter("name", "missing" if name is None else "must not be empty"))
    parameters: dict[str, Any] = {}
    try:
        parameters = normalise(request.get("parameters"))
    except InvalidParameter as fault:
        faults.append(fault)
    if faults or request_id is None or name is None:
        return Refusal(faults[0], request_id, name, device_id, path)
    timestamp = request.get("timestamp")
    return OperationRequest(
        id=request_id,
        name=name,
        device_id=HOST if device_id == host_id else device_id,
        requested_device_id=device_id,
        path=path,
        parameters=parameters,
        timestamp_ms=timestamp if type(timestamp) is int else None,
    )


def _read_id(value: Any, faults: list[InvalidParameter]) -> str | None:
    if isinstance(value, str):
        if not value:
            faults.append(InvalidParameter("id", "must not be empty"))
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if value.bit_length() <= MAX_ID_BITS:
            return str(value)
        faults.append(InvalidParameter("id", "has too many digits"))
    elif isinstance(value, float):
        return repr(value)
    elif value is None:
        faults.append(InvalidParameter("id", "missing"))
    else:
        faults.append(InvalidParameter("id", f"must be a text, not {kind_of(value)}"))
    return None


def _read_text(member: str, value: Any, faults: list[InvalidParameter]) -> str | None:
    if value is None or isinstance(value, str):
        return value
    faults.append(InvalidParameter(member, f"must be a text, not {kind_of(value)}"))
    return None


def _read_path(value: Any, faults: list[InvalidParameter]) -> tuple[str, ...]:
    if not value and isinstance(value, list | None):
        return ()
    if not isinstance(value, list):
        faults.append(InvalidParameter("path", f"must be a list of texts, not {kind_of(value)}"))
        return ()
    for index, gateway in enumerate(value):
        if not isinstance(gateway, str):
            faults.append(
                InvalidParameter(f"path[{index}]", f"must be a text, not {kind_of(gateway)}")
            )
            return ()
    return tuple(value)
