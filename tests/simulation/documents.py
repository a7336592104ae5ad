"""What the agent sends, read without the agent's code (OpenGate protocol)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: Every datastream of the simulation's publishers begins with this; others are readings.
STREAM_PREFIX = "sim."


def value_of(number: int, size: int, kind: str = "number") -> Any:
    """The value of event ``number``: about ``size`` bytes on the wire."""
    if kind == "poison":
        return {"n": number, "poison": True}
    if size <= 20:
        return number
    return {"n": number, "pad": "x" * size}


def read_datapoints(document: Any) -> Iterator[tuple[str, int, int, Any]]:
    """``(stream, at, number, value)`` of each datapoint of the publishers, in order."""
    for datastream in document["datastreams"]:
        stream = datastream["id"]
        if not stream.startswith(STREAM_PREFIX):
            continue
        for datapoint in datastream["datapoints"]:
            value = datapoint["value"]
            number = value["n"] if isinstance(value, dict) else value
            yield stream, datapoint["at"], number, value


def read_answer(document: Any) -> tuple[tuple[str, str], bool] | None:
    """``(id, name)`` of an answer and whether it is a final one; None for telemetry."""
    operation = document.get("operation")
    if operation is None:
        return None
    response = operation["response"]
    return (response["id"], response["name"]), "resultCode" in response
