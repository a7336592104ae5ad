"""The console's list of messages: newest first, with the first bytes of each, page by page.

The API returns whole messages, oldest first; a list that starts at the newest of 100,000 needs
another way through the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from oda.platform.database import Database
from oda.platform.naming import wire_name
from oda.platform.web import Call, Reply, Route

_MAX_INT = 2**63 - 1
#: How many bytes of a message the list shows.
PREVIEW_BYTES = 200


class ConsoleParts(Protocol):
    """What the console needs from a started ``Platform``."""

    database: Database


class ListedMessage(msgspec.Struct, frozen=True, rename=wire_name):
    """A message without its content. ``preview`` is the start of its text, None if the bytes are
    not text."""

    number: int
    connection: int
    position: int
    device: str
    direction: str
    at_ms: int
    size: int
    format: str | None
    is_text: bool
    preview: str | None


class MessageIndex:
    """Answers ``/console/messages``."""

    def __init__(self, parts: ConsoleParts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        """Its only path."""
        query = {
            "device": "only of this device",
            "before": "only numbers below this one",
            "after": "only numbers above this one",
            "limit": "at most so many, the newest (1 to 1000)",
        }
        return [Route("GET", "/console/messages", self.answer, "Messages, newest first", query)]

    def answer(self, call: Call) -> Reply:
        return Reply(
            self.newest(
                call.query.get("device"),
                call.integer("before", _MAX_INT, 0, _MAX_INT),
                call.integer("after", 0, 0, _MAX_INT),
                call.integer("limit", 200, 1, 1000),
            )
        )

    def newest(
        self, device: str | None, before: int, after: int, limit: int
    ) -> list[ListedMessage]:
        """The newest messages with ``after`` < number < ``before``."""
        condition = "" if device is None else " AND device = ?"
        arguments: list[Any] = [PREVIEW_BYTES, after, before]
        if device is not None:
            arguments.append(device)
        rows = self._parts.database.query(
            "SELECT number, connection, position, device, direction, at_ms, size, format, is_text,"
            f" substr(payload, 1, ?) FROM messages WHERE number > ? AND number < ?{condition}"
            " ORDER BY number DESC LIMIT ?",
            [*arguments, limit],
        )
        return [_listed(row) for row in rows]


def _listed(row: Sequence[Any]) -> ListedMessage:
    number, connection, position, device, direction, at_ms, size, content_format, text, head = row
    return ListedMessage(
        number,
        connection,
        position,
        device,
        direction,
        at_ms,
        size,
        content_format,
        bool(text),
        _preview(head, size),
    )


def _preview(head: bytes, size: int) -> str | None:
    """The text that starts with these bytes, None if they are not UTF-8."""
    try:
        return head.decode("utf-8")
    except UnicodeDecodeError as error:
        # the cut may be within a character
        is_cut = size > len(head) and error.reason == "unexpected end of data"
        return head[: error.start].decode("utf-8") if is_cut else None
