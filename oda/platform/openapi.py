"""The OpenAPI description, made from the routes themselves so that it can't be wrong about them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from oda.platform.faults import Fault, Incident
from oda.platform.web import Route

_ORDER = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "parameters": {"type": ["object", "array", "null"]},
        "timeout": {"type": "number", "exclusiveMinimum": 0, "default": 90},
        "format": {"type": "string", "enum": ["JSON", "MESSAGE_PACK", "CBOR"]},
        "dialect": {"type": "string", "enum": ["object", "list"]},
        "deviceId": {"type": ["string", "null"]},
        "path": {"type": "array", "items": {"type": "string"}},
        "id": {"type": "string"},
        "binary": {"type": "boolean", "description": "JSON in a binary frame"},
    },
}


def openapi_document(routes: Sequence[Route]) -> dict[str, Any]:
    """The description of these routes (OpenAPI 3.1)."""
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.pattern, {})[route.method.lower()] = _describe(route)
    _, components = msgspec.json.schema_components(
        (Fault, Incident), ref_template="#/components/schemas/{name}"
    )
    error = {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}, "parameter": {"type": "string"}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "OpenGate stand-in platform", "version": "1"},
        "paths": paths,
        "components": {"schemas": {**components, "Order": _ORDER, "Error": error}},
    }


def _describe(route: Route) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", route.pattern)
    ]
    parameters += [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in route.query.items()
    ]
    good: dict[str, Any] = {"description": "done"}
    bad = {
        "description": "refused",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    described: dict[str, Any] = {
        "summary": route.summary,
        "responses": {"2XX": good, "4XX": bad},
    }
    if parameters:
        described["parameters"] = parameters
    if route.body:
        schema = {"$ref": f"#/components/schemas/{route.body}"}
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return described
