"""The protocol of the local socket: one JSON object per line, in both directions.

``{"publish": {event}}`` publishes. The agent answers ``{"ok": n}`` once the first n datapoints of
this connection are accepted (cumulative), or ``{"error": text, "entry": n}`` for the n-th, and then
stops reading. ``{"command": name, ...}`` runs a command; the answer is ``{"result": ...}`` or
``{"error": text}``.

Pure.
"""

from __future__ import annotations

from typing import Any

import msgspec

from oda.errors import OdaError
from oda.model import Event

#: Longer lines are refused, in bytes.
MAX_LINE_BYTES = 16 * 1024 * 1024


class ControlError(OdaError):
    """A line that is not a message of this protocol, or the agent's refusal."""


class Publish(msgspec.Struct, frozen=True):
    """One datapoint to publish."""

    publish: Event


class Command(msgspec.Struct, frozen=True):
    """A command to the agent."""

    command: str
    arguments: dict[str, Any] = {}


_encoder = msgspec.json.Encoder()
_publish = msgspec.json.Decoder(Publish)
_command = msgspec.json.Decoder(Command)


def encode(message: object) -> bytes:
    """A message as a line, with its end."""
    return _encoder.encode(message) + b"\n"


def decode_request(line: bytes) -> Publish | Command:
    """The request in ``line``. Raises ``ControlError``."""
    try:
        if line.startswith(b'{"publish"'):
            return _publish.decode(line)
        return _command.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ControlError(f"not understood: {error}") from None


def decode_answer(line: bytes) -> dict[str, Any]:
    """The agent's answer in ``line``. Raises ``ControlError``."""
    try:
        answer = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        answer = None
    if not isinstance(answer, dict):
        raise ControlError("the agent's answer is not understood")
    return answer
