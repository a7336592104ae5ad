"""The content of messages: requests that the platform writes, answers and telemetry that it reads.
Pure; the codecs handle the bytes (OpenGate protocol, "Operation request", "Operation response",
"Telemetry")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import msgspec

from oda.errors import OdaError


class Dialect(Enum):
    """The two ways to write an operation's parameters."""

    OBJECT = "object"
    LIST = "list"


class WrongParameter(OdaError):  # noqa: N818 - named like those of oda.errors
    """A caller of the platform gave an unusable value; ``parameter`` names it."""

    def __init__(self, parameter: str, problem: str) -> None:
        self.parameter = parameter
        self.problem = problem
        super().__init__(f"{parameter}: {problem}")


class Point(msgspec.Struct, frozen=True):
    """One datapoint of a message. ``at_ms`` None: the reduced form, dated by its arrival."""

    datastream: str
    value: Any
    feed: str = ""
    at_ms: int | None = None
    from_ms: int | None = None


class Telemetry(msgspec.Struct, frozen=True):
    """A telemetry message; ``device`` None means the device of the connection."""

    device: str | None
    path: tuple[str, ...]
    points: Sequence[Point]


class Answer(msgspec.Struct, frozen=True):
    """An operation response. Not ``is_final``: a partial one with the steps done so far."""

    id: str
    response: Mapping[str, Any]
    is_final: bool


class Unreadable(msgspec.Struct, frozen=True):
    """A message that is neither; ``reason`` says why."""

    reason: str


class _Wrong(Exception):  # noqa: N818 - carries a reason within this module
    """A member of a message has the wrong type."""


def read_message(document: Any) -> Telemetry | Answer | Unreadable:
    """The meaning of a decoded message from a device."""
    if not isinstance(document, dict):
        return Unreadable("the message is not a map")
    try:
        operation = document.get("operation")
        if isinstance(operation, dict) and isinstance(operation.get("response"), dict):
            return _read_answer(operation["response"])
        if "datastreams" in document:
            return _read_telemetry(document)
    except _Wrong as problem:
        return Unreadable(str(problem))
    return Unreadable("neither telemetry nor an operation response")


def _read_answer(response: Mapping[str, Any]) -> Answer:
    request_id = response.get("id")
    if not isinstance(request_id, str) or not request_id:
        raise _Wrong("$.operation.response.id is missing or not a text")
    return Answer(request_id, response, response.get("resultCode") is not None)


def _read_telemetry(document: Mapping[str, Any]) -> Telemetry:
    device = document.get("device")
    if device is not None and not isinstance(device, str):
        raise _Wrong("$.device is not a text")
    path = document.get("path") or ()
    if not isinstance(path, (list, tuple)) or not all(isinstance(hop, str) for hop in path):
        raise _Wrong("$.path is not a list of texts")
    return Telemetry(device or None, tuple(path), list(_read_points(document["datastreams"])))


def _read_points(datastreams: Any) -> Iterator[Point]:
    if not isinstance(datastreams, list):
        raise _Wrong("$.datastreams is not a list")
    for index, datastream in enumerate(datastreams):
        place = f"$.datastreams[{index}]"
        if not isinstance(datastream, dict):
            raise _Wrong(f"{place} is not a map")
        name, feed = datastream.get("id"), datastream.get("feed")
        if not isinstance(name, str) or not name:
            raise _Wrong(f"{place}.id is missing or not a text")
        if feed is not None and not isinstance(feed, str):
            raise _Wrong(f"{place}.feed is not a text")
        datapoints = datastream.get("datapoints")
        if not isinstance(datapoints, list):
            raise _Wrong(f"{place}.datapoints is missing or not a list")
        for position, datapoint in enumerate(datapoints):
            here = f"{place}.datapoints[{position}]"
            if not isinstance(datapoint, dict):
                raise _Wrong(f"{here} is not a map")
            yield Point(
                name,
                datapoint.get("value"),
                feed or "",
                _read_time(datapoint.get("at"), f"{here}.at"),
                _read_time(datapoint.get("from"), f"{here}.from"),
            )


def _read_time(value: Any, place: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise _Wrong(f"{place} is not a time in milliseconds")
    return value


def request_document(
    request_id: str,
    name: str,
    parameters: Mapping[str, Any] | Sequence[Any] | None,
    device: str | None,
    path: Sequence[str],
    timestamp_ms: int,
    dialect: Dialect,
) -> dict[str, Any]:
    """The operation request to encode. ``parameters`` given as a list are sent unchanged. Raises
    ``WrongParameter`` for values that the list dialect can't express."""
    request: dict[str, Any] = {"id": request_id, "timestamp": timestamp_ms}
    if device is not None:
        request["deviceId"] = device
    if path:
        request["path"] = list(path)
    request["name"] = name
    if parameters is not None:
        if dialect is Dialect.LIST and isinstance(parameters, Mapping):
            request["parameters"] = to_list_dialect(parameters)
        else:
            request["parameters"] = parameters
    return {"operation": {"request": request}}


def to_list_dialect(parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The object form of parameters, converted to the list form."""
    return [{"name": name, "value": _wrap(name, value)} for name, value in parameters.items()]


def _wrap(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"string": value}
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"number": value}
    if isinstance(value, Mapping):
        return {"object": value}
    if isinstance(value, list):
        return {"array": [_variable(item) for item in value] if name == "variableList" else value}
    raise WrongParameter(f"parameters.{name}", "the list dialect has no form for this value")


def _variable(item: Any) -> Any:
    """An entry of ``variableList``; the list dialect has other names for its members."""
    if isinstance(item, str):
        return {"variableName": item}
    if isinstance(item, Mapping) and "name" in item:
        variable = {"variableName": item["name"]}
        if "value" in item:
            variable["variableValue"] = item["value"]
        return variable
    return item
