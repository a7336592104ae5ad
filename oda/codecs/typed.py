"""Typed decoding: from the plain values of a message to types, with errors that name the place."""

from __future__ import annotations

import re
from typing import Any, TypeVar, overload

import msgspec

from oda.errors import DecodeError

T = TypeVar("T")

#: How msgspec ends its texts: "- at `$.a.b`", or "- at `key` in `$.a`" when a key is wrong.
_PLACE = re.compile(r"(?s)(?P<problem>.*) - at `(?:(?P<key>key[^`]*)` in `)?(?P<path>[^`]*)`\Z")


@overload
def convert(value: object, type: type[T]) -> T: ...
@overload
def convert(value: object, type: Any) -> Any: ...
def convert(value: object, type: Any) -> Any:
    """``value``, as a codec decoded it, as an instance of ``type`` (a Struct, a TypedDict, a
    union...). Nothing is coerced: ``"1"`` is not an int. Unknown members are ignored.

    Raises ``DecodeError``; its ``path`` names the wrong member (``$.operation.request.id``), its
    ``problem`` says what is wrong.
    """
    try:
        return msgspec.convert(value, type, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise decode_error(error) from error
    except RecursionError as error:
        raise DecodeError("nested too deeply") from error


def decode_error(error: msgspec.DecodeError) -> DecodeError:
    """The ``DecodeError`` for ``error``, with path and problem separate."""
    text = str(error)
    place = _PLACE.match(text)
    if place is None:
        return DecodeError(text)
    problem = place["problem"] if place["key"] is None else f"a key: {place['problem']}"
    return DecodeError(problem, place["path"])
