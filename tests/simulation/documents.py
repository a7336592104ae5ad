"""What the agent sends, read without the agent's code (OpenGate protocol)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

#: Every datastream of the simulation's publishers begins with this; others are readings.
STREAM_PREFIX = "sim."
#: Above this size a message is not remembered once it was read.
_LARGE_BYTES = 16_384


def value_of(number: int, size: int, kind: str = "number") -> Any:
    """The value of event ``number``: about ``size`` bytes on the wire."""
    if kind == "poison":
        return {"n": number, "poison": True}
    if size <= 20:
        return number
    return {"n": number, "pad": "x" * size}


class Document(msgspec.Struct, frozen=True):
    """One message of the agent. ``key`` is the id and the name of an answer, None for telemetry;
    ``is_final`` and ``outcome`` are an answer's. ``datapoints`` are ``(stream, at, number, value)``
    of the publishers, in order."""

    key: tuple[str, str] | None
    is_final: bool
    outcome: str
    datapoints: tuple[tuple[str, int, int, Any], ...]


def read_document(payload: bytes) -> Document:
    """Read a message. The disk and the platform read most of them, some several times."""
    return _read(payload) if len(payload) > _LARGE_BYTES else _read_once(payload)


def _read(payload: bytes) -> Document:
    document = msgspec.json.decode(payload)
    operation = document.get("operation")
    if operation is None:
        return Document(None, False, "", tuple(_datapoints(document)))
    response = operation["response"]
    outcome = f"{response.get('resultCode')} {response.get('resultDescription', '')}"
    is_final = "resultCode" in response
    return Document((response["id"], response["name"]), is_final, outcome.strip()[:80], ())


_read_once = lru_cache(maxsize=1024)(_read)


def _datapoints(document: Any) -> Iterator[tuple[str, int, int, Any]]:
    for datastream in document["datastreams"]:
        stream = datastream["id"]
        if not stream.startswith(STREAM_PREFIX):
            continue
        for datapoint in datastream["datapoints"]:
            value = datapoint["value"]
            number = value["n"] if isinstance(value, dict) else value
            yield stream, datapoint["at"], number, value
