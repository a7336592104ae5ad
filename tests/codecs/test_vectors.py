"""Recorded messages: what the reference agent sends can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oda.codecs import default_registry
from oda.model import ContentType

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
EVENTS: list[dict[str, Any]] = json.loads((VECTORS / "events.json").read_text())
OPERATIONS: list[dict[str, Any]] = json.loads((VECTORS / "operations.json").read_text())
RECORDED_CBOR = [
    bytes.fromhex(message.removeprefix("hex:"))
    for case in EVENTS
    for message in case["messages"]
    if isinstance(message, str) and message.startswith("hex:")
]


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(member) for key, member in value.items() if member is not None}
    return [without_nulls(member) for member in value] if isinstance(value, list) else value


def test_recorded_cbor_says_the_same_as_the_json() -> None:
    """Indefinite lengths and null members are read; nulls aside it is the message in JSON."""
    (payload,) = RECORDED_CBOR
    registry = default_registry()
    assert registry.detect(payload) is ContentType.CBOR
    decoded = registry.codec(ContentType.CBOR).decode(payload)
    as_json = next(case for case in EVENTS if case["name"] == "one event")["messages"]
    assert [without_nulls(decoded)] == as_json
    assert decoded["path"] is None


@pytest.mark.parametrize("content_type", list(ContentType), ids=lambda c: c.value)
def test_recorded_operations_survive_every_format(content_type: ContentType) -> None:
    """Each recorded request and response comes back unchanged from each format."""
    registry = default_registry()
    codec = registry.codec(content_type)
    for case in OPERATIONS:
        for message in (case["request"], case["response"]):
            payload = codec.encode(message)
            assert registry.detect(payload) is content_type
            assert codec.decode(payload) == message
