"""The JSON Schemas of the API's input and output, generated from the types where there is one.
Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from oda.platform.faults import Fault, Incident
from oda.platform.ledger import TranscriptLine
from oda.platform.operation import Operation
from oda.platform.recording import RecordedConnection, RecordedMessage, Traffic
from oda.platform.store import DeviceRecord, LatestValue, StoredDatapoint

_TYPES = (
    Fault,
    Incident,
    Operation,
    TranscriptLine,
    RecordedMessage,
    RecordedConnection,
    Traffic,
    DeviceRecord,
    LatestValue,
    StoredDatapoint,
)

#: The successful answer of each path; ``[]`` after a name means a list of it.
REPLIES: Mapping[tuple[str, str], str] = {
    ("GET", "/platform"): "Platform",
    ("GET", "/devices"): "Device[]",
    ("GET", "/devices/{device}"): "DeviceWithTally",
    ("GET", "/devices/{device}/datastreams"): "LatestValue[]",
    ("GET", "/devices/{device}/datastreams/{datastream}/datapoints"): "StoredDatapoint[]",
    ("GET", "/devices/{device}/datapoints"): "StoredDatapoint[]",
    ("POST", "/devices/{device}/operations"): "Operation",
    ("GET", "/devices/{device}/operations"): "Operation[]",
    ("GET", "/operations"): "Operation[]",
    ("GET", "/operations/{operation}"): "OperationWithTranscript",
    ("GET", "/connections"): "RecordedConnection[]",
    ("GET", "/messages"): "Message[]",
    ("GET", "/faults"): "Faults",
    ("PUT", "/faults"): "Fault",
    ("DELETE", "/faults"): "Nothing",
    ("GET", "/devices/{device}/faults"): "DeviceFaults",
    ("PUT", "/devices/{device}/faults"): "Fault",
    ("DELETE", "/devices/{device}/faults"): "Nothing",
    ("POST", "/incidents"): "Hits",
    ("POST", "/devices/{device}/incidents"): "Hits",
    ("GET", "/events"): "text/event-stream",
    ("GET", "/openapi.json"): "OpenApi",
}

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_FLAG = {"type": "boolean"}

_ORDER = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": _TEXT,
        "parameters": {"type": ["object", "array", "null"]},
        "timeout": {"type": "number", "exclusiveMinimum": 0, "default": 90},
        "format": {"type": "string", "enum": ["JSON", "MESSAGE_PACK", "CBOR"]},
        "dialect": {"type": "string", "enum": ["object", "list"]},
        "deviceId": {"type": ["string", "null"]},
        "path": {"type": "array", "items": _TEXT},
        "id": _TEXT,
        "binary": {"type": "boolean", "description": "JSON in a binary frame"},
    },
}


def component_schemas() -> dict[str, Any]:
    """Every named schema of the description."""
    _, made = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    connection = _extended(made["Traffic"], {"number": _COUNT, "peer": _TEXT}, ["number", "peer"])
    device = _extended(
        made["DeviceRecord"],
        {"connected": _FLAG, "connection": {"anyOf": [_ref("Connection"), {"type": "null"}]}},
        ["connected", "connection"],
    )
    tally: dict[str, Any] = {"datapoints": _COUNT, "copies": _COUNT, "conflicts": _COUNT}
    content = {
        "payload": {"type": "string", "description": "as ``encoding`` says"},
        "encoding": {"type": "string", "enum": ["utf-8", "base64"]},
        "document": {"description": "the decoded message, where asked for"},
        "problem": {"type": "string", "description": "why it could not be decoded"},
    }
    transcript = {"type": "array", "items": _ref("TranscriptLine")}
    fault = _ref("Fault")
    return {
        **{name: schema for name, schema in made.items() if name not in _REPLACED},
        "Connection": connection,
        "Device": device,
        "DeviceWithTally": _extended(device, tally, [*tally]),
        "Message": _extended(made["RecordedMessage"], content, ["payload", "encoding"]),
        "OperationWithTranscript": _extended(
            made["Operation"], {"transcript": transcript}, ["transcript"]
        ),
        "Platform": _object(
            url=_TEXT, connected=_COUNT, devices=_COUNT, lastEvent=_COUNT, durable=_FLAG
        ),
        "Faults": _object(all=fault, devices={"type": "object", "additionalProperties": fault}),
        "DeviceFaults": _object(own=fault, effective=fault),
        "Hits": _object(connections=_COUNT),
        "Nothing": _object(),
        "OpenApi": {"type": "object", "description": "this document"},
        "Order": _ORDER,
        "Error": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": _TEXT, "parameter": _TEXT},
        },
    }


#: Types that the API never returns in this form.
_REPLACED = {"RecordedMessage", "DeviceRecord", "Traffic"}


def reply_content(reply: str) -> dict[str, Any]:
    """The ``content`` of an answer, by its name in ``REPLIES``."""
    if "/" in reply:
        return {reply: {"schema": _TEXT}}
    name = reply.removesuffix("[]")
    schema: dict[str, Any] = _ref(name)
    if name != reply:
        schema = {"type": "array", "items": schema}
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": [*properties], "properties": properties}


def _extended(
    schema: Mapping[str, Any], properties: Mapping[str, Any], required: Sequence[str]
) -> dict[str, Any]:
    """``schema`` with these members added (or replaced)."""
    return {
        "type": "object",
        "required": sorted({*schema.get("required", ()), *required}),
        "properties": {**schema["properties"], **properties},
    }
