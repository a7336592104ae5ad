"""Datapoints as people and scripts write them.

There are two forms: ``DATASTREAM[@DEVICE]=VALUE``, and a JSON object
``{"datastream": ..., "value": ...}`` with the optional members ``device``, ``at``, ``feed``,
``from`` and ``path``. In the first form the type of the value is inferred: a number in JSON syntax
with at most 64 bits; true, false, null; a JSON list, object or quoted text. Anything else is plain
text. Nothing is rounded: an identifier of twenty digits stays a text, and a number that would lose
digits is refused.

Pure.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from oda.errors import OdaError
from oda.model import Event
from oda.timestamps import doubt, show
from oda.wording import is_unicode

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_ANY_WHOLE = re.compile(r"[+-]?[0-9]+")
_ANY_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}
_MEMBERS = frozenset({"datastream", "device", "value", "at", "feed", "from", "path"})
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1

#: No 64-bit number has more characters; longer ones are not converted.
_MAX_CHARACTERS = 1000
_SHOWN_CHARACTERS = 80


class ValueKind(Enum):
    """How to read the value of the first form. ``AUTO`` infers the type."""

    AUTO = "auto"
    TEXT = "text"
    INTEGER = "integer"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    JSON = "json"


class EntryError(OdaError):
    """A datapoint that can't be understood; the text says why."""


def parse_entry(
    text: str,
    kind: ValueKind = ValueKind.AUTO,
    at_ms: int | None = None,
    any_time: bool = False,
) -> Event:
    """The event that ``text`` describes, in either form.

    ``kind`` is how to read the value of the first form; ``at_ms`` is the time if the text has none.
    ``any_time`` accepts times that don't seem to be milliseconds. Raises ``EntryError``.
    """
    if not is_unicode(text):
        raise EntryError(f"{_shown(text)} is not Unicode text (UTF-8)")
    if text.lstrip().startswith("{"):
        return _parse_object(text, at_ms, any_time)
    place, separator, value = text.partition("=")
    if not separator:
        raise EntryError(f"{_shown(text)} is not of the form DATASTREAM[@DEVICE]=VALUE")
    datastream, _, device = place.strip().partition("@")
    if not datastream:
        raise EntryError(f"{_shown(text)} names no datastream")
    return Event(
        datastream_id=datastream,
        device_id=device,
        value=_READERS[kind](value),
        at_ms=at_ms,
    )


def infer_value(text: str) -> Any:
    """The value that ``text`` clearly means, else ``text``. Raises ``EntryError`` for broken JSON,
    and for a number that would lose digits."""
    stripped = text.strip()
    if stripped in _WORDS:
        return _WORDS[stripped]
    if len(stripped) <= _MAX_CHARACTERS:
        if _WHOLE.fullmatch(stripped):
            number = int(stripped)
            return number if _MIN_INTEGER <= number <= _MAX_INTEGER else text
        if _NUMBER.fullmatch(stripped):
            decimal = float(stripped)
            return _exact(stripped) if math.isfinite(decimal) else text
    if stripped[:1] in ("{", "[", '"'):
        return _read_json(stripped)
    return text


def _exact(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or Decimal(repr(number)) != Decimal(text):
        raise EntryError(
            f"{_shown(text)} loses digits as a number ({number!r}); --type text keeps them,"
            " --type double rounds"
        )
    return number


def _integer(text: str) -> int:
    stripped = text.strip()
    if len(stripped) <= _MAX_CHARACTERS and _ANY_WHOLE.fullmatch(stripped):
        number = int(stripped)
        if _MIN_INTEGER <= number <= _MAX_INTEGER:
            return number
    raise EntryError(f"{_shown(text)} is not a whole number of 64 bits")


def _double(text: str) -> float:
    stripped = text.strip()
    if len(stripped) <= _MAX_CHARACTERS and _ANY_NUMBER.fullmatch(stripped):
        number = float(stripped)
        if math.isfinite(number):
            return number
    raise EntryError(f"{_shown(text)} is not a finite number")


def _boolean(text: str) -> bool:
    value = _WORDS.get(text.strip())
    if value is None:
        raise EntryError(f"{_shown(text)} is neither true nor false")
    return bool(value)


def parse_time(text: str, any_time: bool = False) -> int:
    """Milliseconds since the Unix epoch, given as such or as ISO 8601 (UTC if it names no zone).
    Refuses a number that seems to be something else, unless ``any_time``. Raises
    ``EntryError``."""
    if re.fullmatch(r"-?[0-9]{1,19}", text):
        return _believed(int(text), any_time)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise EntryError(
            f"{text!r} is not a time: give milliseconds since 1970, or 2024-02-03T04:05:06+01:00"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _believed(time_ms: int, any_time: bool) -> int:
    other = None if any_time else doubt(time_ms)
    if other is not None:
        raise EntryError(
            f"the time {time_ms} seems to be {other}; in milliseconds since 1970 it is"
            f" {show(time_ms)}. Give milliseconds, or --any-time to send it as it is"
        )
    return time_ms


def _parse_object(text: str, at_ms: int | None, any_time: bool) -> Event:
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
        at_ms=_time(entry, "at", at_ms, any_time),
        feed=_text(entry, "feed"),
        path=tuple(path),
        from_ms=_time(entry, "from", None, any_time),
    )


def _text(entry: dict[str, Any], member: str) -> str | None:
    value = entry.get(member)
    if value is not None and not isinstance(value, str):
        raise EntryError(f"the member {member!r} must be a text")
    return value


def _time(entry: dict[str, Any], member: str, default: int | None, any_time: bool) -> int | None:
    value = entry.get(member, default)
    if value is None:
        return None
    if isinstance(value, str):
        return parse_time(value, any_time)
    if not isinstance(value, int) or isinstance(value, bool):
        raise EntryError(f"the member {member!r} must be milliseconds since 1970 or ISO 8601")
    return _believed(value, any_time)


def _read_json(text: str, what: str = "the value") -> Any:
    try:
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_int=_json_integer,
            parse_float=_exact,
            object_pairs_hook=_members,
        )
    except (ValueError, RecursionError) as error:
        raise EntryError(f"{what} is not JSON: {error}") from None
    if "\\u" in text and not is_unicode(json.dumps(value, ensure_ascii=False)):
        raise EntryError(f"{what} has half a surrogate pair, which is not Unicode text")
    return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise EntryError(f"the member {_shown(twice)} is given twice")
    return members


def _json_integer(text: str) -> int:
    try:
        return _integer(text)
    except EntryError:
        raise EntryError(
            f"{_shown(text)} is not a whole number of 64 bits; quote it to send it as a text"
        ) from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _shown(text: str) -> str:
    return ascii(text[:_SHOWN_CHARACTERS])


_READERS: dict[ValueKind, Callable[[str], Any]] = {
    ValueKind.AUTO: infer_value,
    ValueKind.TEXT: str,
    ValueKind.INTEGER: _integer,
    ValueKind.DOUBLE: _double,
    ValueKind.BOOLEAN: _boolean,
    ValueKind.JSON: _read_json,
}
