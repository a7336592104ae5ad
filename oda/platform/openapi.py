"""The OpenAPI description, generated from the routes so that it always matches them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from oda.platform.schemas import REPLIES, component_schemas, reply_content
from oda.platform.web import Route


def openapi_document(routes: Sequence[Route]) -> dict[str, Any]:
    """The description of these routes (OpenAPI 3.1)."""
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.pattern, {})[route.method.lower()] = _describe(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "OpenGate stand-in platform", "version": "1"},
        "paths": paths,
        "components": {"schemas": component_schemas()},
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
    reply = REPLIES[route.method, route.pattern]
    good = {"description": "done", "content": reply_content(reply)}
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
