"""Parses posted orders for operations. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from oda.model import ContentType
from oda.platform.operation import DEFAULT_TIMEOUT_S, Order
from oda.platform.wire import Dialect, WrongParameter

MAX_TIMEOUT_S = 86_400.0


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise WrongParameter("name", "must be the operation's name")
    return value


def _parameters(value: Any) -> Any:
    if value is not None and not isinstance(value, (dict, list)):
        raise WrongParameter("parameters", "must be a map or a list")
    return value


def _timeout(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise WrongParameter("timeout", "must be a number of seconds")
    if not 0 < value <= MAX_TIMEOUT_S:
        raise WrongParameter("timeout", f"must be more than 0 and at most {MAX_TIMEOUT_S:g}")
    return float(value)


def _format(value: Any) -> ContentType:
    for content_type in ContentType:
        if content_type.value == value:
            return content_type
    names = ", ".join(content_type.value for content_type in ContentType)
    raise WrongParameter("format", f"must be one of {names}")


def _dialect(value: Any) -> Dialect:
    for dialect in Dialect:
        if dialect.value == value:
            return dialect
    raise WrongParameter("dialect", "must be object or list")


def _device_id(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise WrongParameter("deviceId", "must be text, or null to leave it out")
    return value


def _path(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(hop, str) for hop in value):
        raise WrongParameter("path", "must be a list of device ids")
    return tuple(value)


def _id(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise WrongParameter("id", "must be text")
    return value


def _binary(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WrongParameter("binary", "must be true or false")
    return value


MEMBERS: Mapping[str, Callable[[Any], Any]] = {
    "name": _name,
    "parameters": _parameters,
    "timeout": _timeout,
    "format": _format,
    "dialect": _dialect,
    "deviceId": _device_id,
    "path": _path,
    "id": _id,
    "binary": _binary,
}


def read_order(device: str, document: Mapping[str, Any]) -> Order:
    """The order for the device whose connection carries it; raises ``WrongParameter``.

    ``deviceId`` is that device unless the document says otherwise (null: left out).
    """
    for name in document:
        if name not in MEMBERS:
            raise WrongParameter(name, f"unknown; known are {', '.join(MEMBERS)}")
    values = {name: MEMBERS[name](value) for name, value in document.items()}
    return Order(
        session_device=device,
        name=values["name"] if "name" in values else _name(None),
        parameters=values.get("parameters"),
        device=values.get("deviceId", device),
        path=values.get("path", ()),
        timeout_s=values.get("timeout", DEFAULT_TIMEOUT_S),
        content_type=values.get("format", ContentType.JSON),
        dialect=values.get("dialect", Dialect.OBJECT),
        as_binary=values.get("binary", False),
        operation_id=values.get("id"),
    )
