"""The fingerprint of a request, by which the journal recognises a repetition.

Stores on disk hold fingerprints, so a request keeps its fingerprint in all versions of the agent.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from math import isfinite
from typing import Any

import msgspec

from oda.model import OperationRequest

#: The fingerprint if only id and name are known, as in records of an earlier version: such a record
#: matches every request with this id and name.
UNKNOWN = ""

#: Types that JSON writes unambiguously.
_SAME_IN_JSON = frozenset((str, int, bool, type(None)))

#: Longer requests are rarely the same, and would use memory for nothing.
_SHORT_BYTES = 512

_encode_asked = msgspec.json.Encoder(order="deterministic").encode


def fingerprint_of(request: OperationRequest | None) -> str:
    """The content of ``request``, in 16 hexadecimal digits. The dialect, order and format of its
    parameters make no difference, nor does the time that the request states."""
    if request is None:
        return UNKNOWN
    parameters = request.parameters
    if not _is_distinct(parameters):
        parameters = _distinct(parameters)
    text = _encode_asked((request.device_id, request.path, parameters))
    return (_known_digest if len(text) <= _SHORT_BYTES else _digest)(text)


def _digest(text: bytes) -> str:
    return blake2b(text, digest_size=8).hexdigest()


#: Platforms ask for the same again and again: one digest, and one text in memory for all records.
_known_digest = lru_cache(maxsize=64)(_digest)


def _is_distinct(value: Any) -> bool:
    """Whether ``_distinct`` would leave ``value`` as it is, as it does with most parameters. Takes
    half the time for nested ones: no call for each member, and no copy."""
    members = [value]
    for one in members:  # grows meanwhile
        kind = type(one)
        if kind is dict:
            members += one.values()
        elif kind is list:
            members += one
        elif kind not in _SAME_IN_JSON:
            return False
    return True


def _distinct(value: Any) -> Any:
    """``value`` in a form that JSON writes the same for equal values of each format, and
    differently for all others. 1 and 1.0 are one number. What JSON can't represent (bytes, NaN,
    objects of a plugin's codec) gets a form that no text, number or null has."""
    kind = type(value)
    if kind is dict:
        return {
            name: member if type(member) in _SAME_IN_JSON else _distinct(member)
            for name, member in value.items()
        }
    if kind is list:
        return [member if type(member) in _SAME_IN_JSON else _distinct(member) for member in value]
    if kind is float and isfinite(value):
        return int(value) if value.is_integer() else value
    if kind in _SAME_IN_JSON:
        return value
    return msgspec.Raw(f"{kind.__name__} {value!r}".encode("utf-8", "backslashreplace"))
