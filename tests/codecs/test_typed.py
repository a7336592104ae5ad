"""Typed decoding: the error names the wrong member."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from oda.codecs import convert
from oda.errors import DecodeError


class Request(msgspec.Struct):
    id: str
    device_id: str | None = msgspec.field(default=None, name="deviceId")
    parameters: dict[str, list[int]] = {}
    raw: bytes = b""


class Operation(msgspec.Struct):
    request: Request


class Message(msgspec.Struct):
    operation: Operation


def message(**members: Any) -> dict[str, Any]:
    return {"operation": {"request": {"id": "1", **members}}}


def test_plain_values_become_types() -> None:
    """A message converts to a Struct; members it doesn't know are ignored."""
    converted = convert(message(deviceId="d", parameters={"a": [1]}, unknown=1), Message)
    assert converted == Message(Operation(Request("1", "d", {"a": [1]})))


def test_bytes_stay_bytes() -> None:
    """Bytes from a binary format are taken as they are, not as base64."""
    assert convert(message(raw=b"\x00\xff"), Message).operation.request.raw == b"\x00\xff"


@pytest.mark.parametrize(
    ("value", "path", "problem"),
    [
        (message(id=7), "$.operation.request.id", "Expected `str`, got `int`"),
        (
            message(deviceId=[]),
            "$.operation.request.deviceId",
            "Expected `str | null`, got `array`",
        ),
        ({"operation": {"request": {}}}, "$.operation.request", "missing required field `id`"),
        ({"operation": None}, "$.operation", "got `null`"),
        ({}, "$", "missing required field `operation`"),
        ([], "$", "got `array`"),
        (message(parameters={"a": [1, "2"]}), "$.operation.request.parameters[...][1]", "`str`"),
        (message(parameters={1: []}), "$.operation.request.parameters", "a key: Expected"),
    ],
)
def test_the_wrong_member_is_named(value: Any, path: str, problem: str) -> None:
    """Path and problem come apart, so that an answer can name the member."""
    with pytest.raises(DecodeError) as caught:
        convert(value, Message)
    assert caught.value.path == path
    assert problem in caught.value.problem
    assert " - at `" not in caught.value.problem


def test_nothing_is_coerced() -> None:
    """A number in a text is no number: the platform's mistakes are not papered over."""
    with pytest.raises(DecodeError):
        convert("1", int)
    with pytest.raises(DecodeError):
        convert(1, bool)
    with pytest.raises(DecodeError):
        convert("YWJj", bytes)
