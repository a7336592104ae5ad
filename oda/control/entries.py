"""Datapoints as people and scripts write them.

Two forms: ``DATASTREAM[@DEVICE]=VALUE``, and a JSON object ``{"datastream": ..., "value": ...}``
with ``device``, ``at``, ``feed``, ``from`` and ``path`` as optional members. In the first form the
value's type is inferred: a whole number, a number, true, false, null, a JSON list, object or quoted
text; anything else is text as it stands.

Pure.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import Any

from oda.errors import OdaError
from oda.model import Event

_WHOLE = re.compile(r"[+-]?\d{1,20}")
_NUMBER = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}
_MEMBERS = frozenset({"datastream", "device", "value", "at", "feed", "from", "path"})


class EntryError(OdaError):
    """A datapoint that can't be understood; the text says what is wrong with it."""


def parse_entry(text: str, as_json: bool = False, at_ms: int | None = None) -> Event:
    """The event that ``text`` stands for, in either form.

    ``as_json`` reads the value of the first form as JSON instead of inferring its type; ``at_ms``
    is used where the text gives no time. Raises ``EntryError``.
    """
    if text.lstrip().startswith("{"):
        return _parse_object(text, at_ms)
    place, separator, value = text.partition("=")
    if not separator:
        raise EntryError(f"{text[:80]!r} is not of the form DATASTREAM[@DEVICE]=VALUE")
    datastream, _, device = place.strip().partition("@")
    if not datastream:
        raise EntryError(f"{text[:80]!r} names no datastream")
    return Event(
        datastream_id=datastream,
        device_id=device,
        value=_read_json(value, "the value") if as_json else infer_value(value),
        at_ms=at_ms,
    )


def infer_value(text: str) -> Any:
    """The value that ``text`` most likely means. Raises ``EntryError`` for broken JSON."""
    stripped = text.strip()
    if stripped in _WORDS:
        return _WORDS[stripped]
    if _WHOLE.fullmatch(stripped):
        number = int(stripped)
        if -(2**63) <= number < 2**64:
            return number
    if _NUMBER.fullmatch(stripped):
        decimal = float(stripped)
        if math.isfinite(decimal):
            return decimal
    if stripped[:1] in ("{", "[", '"'):
        return _read_json(stripped, "the value")
    return text


def parse_time(text: str) -> int:
    """Milliseconds since the Unix epoch, written as such or as ISO 8601 (UTC where it names no
    zone). Raises ``EntryError``."""
    if re.fullmatch(r"-?\d{1,16}", text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise EntryError(
            f"{text!r} is no time: give milliseconds since 1970, or 2024-02-03T04:05:06+01:00"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _parse_object(text: str, at_ms: int | None) -> Event:
    entry = _read_json(text, "the line")
    unknown = sorted(set(entry) - _MEMBERS)
    if unknown:
        raise EntryError(f"unknown member {unknown[0]!r}; allowed: {', '.join(sorted(_MEMBERS))}")
    datastream = entry.get("datastream")
    if not isinstance(datastream, str) or not datastream:
        raise EntryError("the member 'datastream' must be a text")
    if "value" not in entry:
        raise EntryError("the member 'value' is missing")
    path = entry.get("path", [])
    if not isinstance(path, list) or not all(isinstance(step, str) for step in path):
        raise EntryError("the member 'path' must be a list of texts")
    return Event(
        datastream_id=datastream,
        device_id=_text(entry, "device") or "",
        value=entry["value"],
        at_ms=_time(entry, "at", at_ms),
        feed=_text(entry, "feed"),
        path=tuple(path),
        from_ms=_time(entry, "from", None),
    )


def _text(entry: dict[str, Any], member: str) -> str | None:
    value = entry.get(member)
    if value is not None and not isinstance(value, str):
        raise EntryError(f"the member {member!r} must be a text")
    return value


def _time(entry: dict[str, Any], member: str, default: int | None) -> int | None:
    value = entry.get(member, default)
    if isinstance(value, str):
        return parse_time(value)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise EntryError(f"the member {member!r} must be milliseconds since 1970 or ISO 8601")
    return value


def _read_json(text: str, what: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise EntryError(f"{what} is no JSON: {error}") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")
