"""A recorded session under another device's id: the messages name the device, too.

The platform files a datapoint under the device that its message names. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from oda.codecs import CodecRegistry
from oda.errors import CodecError
from oda.platform.tape.session_file import Entry, Side, What


def renamed(entries: Sequence[Entry], old: str, new: str, codecs: CodecRegistry) -> list[Entry]:
    """The entries of the device ``old``, as the device ``new`` would have sent them. A message that
    does not name the device, or that no codec reads, stays byte for byte as it is."""
    return [
        msgspec.structs.replace(entry, payload=_rename(entry.payload, old, new, codecs))
        if entry.what is What.MESSAGE and entry.side is Side.DEVICE
        else entry
        for entry in entries
    ]


def _rename(payload: bytes, old: str, new: str, codecs: CodecRegistry) -> bytes:
    content_type = codecs.detect(payload)
    if content_type is None:
        return payload
    try:
        codec: Any = codecs.codec(content_type)
        message = codec.decode(payload)
        changed = _with_id(message, old, new)
        return payload if changed == message else bytes(codec.encode(changed))
    except CodecError:
        return payload


def _with_id(message: Any, old: str, new: str) -> Any:
    """The telemetry, or the answer to an operation, with the id in the members that name devices.
    Values and parameters are not looked at: the same text means something else there."""
    if not isinstance(message, dict):
        return message
    operation = message.get("operation")
    if isinstance(operation, dict) and isinstance(operation.get("response"), dict):
        response = _with_members(operation["response"], old, new)
        return {**message, "operation": {**operation, "response": response}}
    return _with_members(message, old, new)


def _with_members(document: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    changed = dict(document)
    for name in ("device", "deviceId"):
        if changed.get(name) == old:
            changed[name] = new
    if isinstance(changed.get("path"), list):
        changed["path"] = [new if one == old else one for one in changed["path"]]
    return changed
