"""The external names of record members: camelCase, without the unit. Pure."""

from __future__ import annotations


def wire_name(field: str) -> str:
    """``first_seen_ms`` is ``firstSeen``, ``timeout_s`` ``timeout``, ``is_late`` ``late``."""
    for suffix in ("_ms", "_s"):
        field = field.removesuffix(suffix)
    first, *rest = field.removeprefix("is_").split("_")
    return first + "".join(word.capitalize() for word in rest)
