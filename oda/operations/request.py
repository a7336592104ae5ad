"""Recognises an operation request in a decoded message (OpenGate protocol, "Operation request").

``recognise`` returns an ``OperationRequest`` to run, a ``Refusal`` to answer with ERROR_IN_PARAM,
or None for a message that is not a request and gets no answer. ``recognise_refused`` does the same
for a message that the codec refuses. If the faulty member is not needed, the request is valid;
otherwise the sender may still be readable.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import Any

import msgspec

from oda.boundary import foreign_code
from oda.errors import DecodeError, InvalidParameter
from oda.interfaces import ITolerantDecoding
from oda.model import HOST, OperationRequest
from oda.operations.parameters import kind_of, normalise

#: The largest id given as a number, in bits.
MAX_ID_BITS = 256

#: The largest number that is echoed: its text is no longer than that of other ids. Converting a
#: huge number to text takes quadratic time, or fails.
MAX_ECHOED_ID_BITS = 3392

#: The longest text that an answer echoes, in bytes of UTF-8, and the most gateways in a path. A
#: longer text is refused, and echoed in part.
MAX_TEXT_BYTES = 1024
MAX_PATH = 100

#: A longer member is not decoded for the echo, in bytes as sent.
_MAX_MEMBER_BYTES = 64 * MAX_TEXT_BYTES

#: The members that an answer echoes, and those that a request needs.
_ECHOED = ("id", "deviceId", "path", "name")
_MEMBERS = (*_ECHOED, "parameters")

#: Replaces the parts of a text that are not Unicode.
_REPLACEMENT = "\ufffd"

_SURROGATE = re.compile("[\ud800-\udfff]")

#: The fault of such a text.
NO_UNICODE = "contains invalid Unicode"


class Refusal(msgspec.Struct, frozen=True):
    """A request that can't be run: its readable parts, and its fault.

    ``id`` and ``name`` are None if the request has none that could be echoed.
    """

    fault: InvalidParameter
    id: str | None = None
    name: str | None = None
    requested_device_id: str = HOST
    path: tuple[str, ...] = ()


def recognise(message: Any, host_id: str) -> OperationRequest | Refusal | None:
    """The request in ``message``, the decoded payload; ``host_id`` is the agent's own device id.

    Everything valid is echoed even if something else is wrong; of several faults, the first is
    named. A ``timestamp`` that is not a number is ignored, because nothing depends on it.
    """
    operation = message.get("operation") if isinstance(message, dict) else None
    request = operation.get("request") if isinstance(operation, dict) else None
    if not isinstance(request, dict):
        return None
    faults: list[InvalidParameter] = []
    request_id, name, device_id, path = _readable(request, faults)
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


def gateways_below(request: OperationRequest, host_id: str) -> tuple[str, ...]:
    """The gateways that the operation must still pass behind this one, the next one first.

    A path names the gateways from the platform to the device (OpenGate protocol, "Operation
    request"); those before this device's own id are already passed. An operation on this device
    has arrived.
    """
    path = request.path
    if not path or (request.device_id == HOST and request.requested_device_id):
        return ()
    if host_id in path:
        last = len(path) - 1 - path[::-1].index(host_id)
        return path[last + 1 :]
    return path


def recognise_refused(
    codec: Any, payload: bytes, problem: str, host_id: str
) -> OperationRequest | Refusal | None:
    """The request in ``payload``, which ``codec`` can't decode because of ``problem``; None if it
    is not a request or can't be recognised. The request can be run if every needed member can be
    decoded separately."""
    is_tolerant: bool = ITolerantDecoding.providedBy(codec)
    if not is_tolerant:
        return None
    try:
        members = codec.members(payload, "operation", "request", names=_MEMBERS)
    except DecodeError:
        return None
    if members is None:
        return None
    faults: list[InvalidParameter] = []
    request: dict[str, Any] = {}
    for name in _MEMBERS:
        if name not in members:
            continue
        if name not in ("id", "parameters") and len(members[name]) > _MAX_MEMBER_BYTES:
            faults.append(InvalidParameter(name, f"is longer than {MAX_TEXT_BYTES} bytes"))
            continue
        try:
            request[name] = codec.decode(members[name])
            continue
        except DecodeError as error:
            faults.append(InvalidParameter(name, error.problem))
        if name == "parameters":
            continue  # these are not echoed
        try:
            request[name] = codec.decode_tolerantly(members[name])
        except DecodeError:
            continue
    # A text that the codec repaired looks valid, but the repair leaves a mark.
    mended = [
        InvalidParameter(name, NO_UNICODE) for name in _ECHOED if _is_mended(request.get(name))
    ]
    if not faults and not mended and _REPLACEMENT not in str(request.get("parameters", "")):
        return recognise({"operation": {"request": request}}, host_id)
    echoed = _readable(request, [])
    faults = faults or mended or [InvalidParameter("request", problem)]
    return Refusal(faults[0], *echoed)


def _is_mended(value: Any) -> bool:
    if isinstance(value, list):
        return any(_is_mended(member) for member in value[:MAX_PATH])
    return isinstance(value, str) and _REPLACEMENT in value


def echo_of_answer(codec: Any, payload: bytes) -> Refusal | None:
    """The echoed parts in the answer ``payload``; None if it is not an answer."""
    fault = InvalidParameter("response", "too large")
    is_tolerant: bool = ITolerantDecoding.providedBy(codec)
    try:
        if not is_tolerant:
            with foreign_code:
                response = codec.decode(payload)["operation"]["response"]
            return Refusal(fault, *_readable(response, []))
        members = codec.members(payload, "operation", "response", names=_ECHOED)
        if members is None:
            return None
        response = {
            name: codec.decode_tolerantly(members[name]) for name in _ECHOED if name in members
        }
    except Exception:  # noqa: BLE001 - from a foreign dispatcher; it may be anything
        return None
    return Refusal(fault, *_readable(response, []))


def _readable(
    request: dict[str, Any], faults: list[InvalidParameter]
) -> tuple[str | None, str | None, str, tuple[str, ...]]:
    """Id, name, device and path, as far as they can be echoed; adds what is wrong to ``faults``."""
    request_id = _read_id(request.get("id"), faults)
    device_id = _read_text("deviceId", request.get("deviceId"), faults) or HOST
    path = _read_path(request.get("path"), faults)
    name = _read_text("name", request.get("name"), faults)
    return request_id, name, device_id, path


def _read_id(value: Any, faults: list[InvalidParameter]) -> str | None:
    if isinstance(value, str):
        if 0 < len(value) <= MAX_TEXT_BYTES and value.isascii():
            return value  # the way of nearly every id
        if not value:
            faults.append(InvalidParameter("id", "must not be empty"))
        return _bounded("id", value, faults)
    if isinstance(value, int) and not isinstance(value, bool):
        bits = value.bit_length()
        if bits > MAX_ID_BITS:
            faults.append(InvalidParameter("id", "has too many digits"))
        return str(value) if bits <= MAX_ECHOED_ID_BITS else None
    if isinstance(value, float):
        if not isfinite(value):
            faults.append(InvalidParameter("id", f"{value} is not a finite number"))
        return repr(value)
    if value is None:
        faults.append(InvalidParameter("id", "missing"))
    else:
        faults.append(InvalidParameter("id", f"must be a text, not {kind_of(value)}"))
    return None


def _read_text(member: str, value: Any, faults: list[InvalidParameter]) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        if len(value) <= MAX_TEXT_BYTES and value.isascii():
            return value  # the way of nearly every text
        return _bounded(member, value, faults)
    faults.append(InvalidParameter(member, f"must be a text, not {kind_of(value)}"))
    return None


def _read_path(value: Any, faults: list[InvalidParameter]) -> tuple[str, ...]:
    if not value and isinstance(value, list | None):
        return ()
    if not isinstance(value, list):
        faults.append(InvalidParameter("path", f"must be a list of texts, not {kind_of(value)}"))
        return ()
    if len(value) > MAX_PATH:
        faults.append(
            InvalidParameter("path", f"has {len(value)} entries; at most {MAX_PATH} are allowed")
        )
    path: list[str] = []
    for index, gateway in enumerate(value[:MAX_PATH]):
        if not isinstance(gateway, str):
            faults.append(
                InvalidParameter(f"path[{index}]", f"must be a text, not {kind_of(gateway)}")
            )
            return ()
        path.append(_bounded(f"path[{index}]", gateway, faults))
    return tuple(path)


def _bounded(member: str, text: str, faults: list[InvalidParameter]) -> str:
    """``text`` in a form that can be echoed: every format can carry it, and it is not too long."""
    if text.isascii():
        if len(text) <= MAX_TEXT_BYTES:
            return text
        is_long = True
    else:
        text = _unicode(member, text[: MAX_TEXT_BYTES + 1], faults)
        is_long = len(text.encode()) > MAX_TEXT_BYTES
    if is_long:
        faults.append(InvalidParameter(member, f"is longer than {MAX_TEXT_BYTES} bytes"))
        text = text.encode()[:MAX_TEXT_BYTES].decode("utf-8", "ignore")
    return text


def _unicode(member: str, text: str, faults: list[InvalidParameter]) -> str:
    """``text`` in a form that every format can carry: a foreign codec may let more through."""
    try:
        text.encode()
    except UnicodeEncodeError:
        faults.append(InvalidParameter(member, NO_UNICODE))
        return _SURROGATE.sub(_REPLACEMENT, text)
    return text
