"""Finds the members of one object in a binary message without decoding the message.

For messages that a codec refuses: who asks can be found out all the same. The two binary formats
have one structure: items, each with a head that says how many items belong to it. A format's
``head`` reads it; the walk over the items is here.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from oda.errors import DecodeError


class Kind(Enum):
    """What an item is, as far as the walk needs to know."""

    TEXT = auto()
    MAP = auto()
    OTHER = auto()
    #: The end of an item of indefinite length.
    BREAK = auto()


class Head(NamedTuple):
    """``begin`` is where a text's bytes begin, ``end`` where the next item begins. ``items`` belong
    to this one; None: as many as there are before the next ``BREAK``."""

    kind: Kind
    begin: int
    end: int
    items: int | None = 0


#: Reads the head of the item at a position. Raises ``DecodeError`` for what the format does not
#: have; an ``IndexError`` means that the message ends too early.
ReadHead = Callable[[bytes, int], Head]


class _LimitReachedError(Exception):
    """More items than may be looked at."""


class _Walk:
    def __init__(self, payload: bytes, head: ReadHead, max_items: int) -> None:
        self._payload = payload
        self._head = head
        self._left = max_items

    def _next(self, position: int) -> Head:
        self._left -= 1
        if self._left < 0:
            raise _LimitReachedError
        try:
            head = self._head(self._payload, position)
        except IndexError:
            head = None
        if head is None or head.end > len(self._payload):
            raise DecodeError(f"the message ends too early, at byte {len(self._payload)}")
        return head

    def _after(self, position: int) -> int:
        """Where the item behind the one at ``position`` begins."""
        expected: int | None = 1
        outer: list[int | None] = []
        while True:
            while expected == 0:
                if not outer:
                    return position
                expected = outer.pop()
            head = self._next(position)
            position = head.end
            if head.kind is Kind.BREAK:
                if expected is not None:
                    raise DecodeError(f"nothing to end here, before byte {position}")
                expected = 0
                continue
            if expected is not None:
                expected -= 1
            if head.items is None or expected is None:
                outer.append(expected)
                expected = head.items
            else:
                expected += head.items

    def members(self, position: int) -> tuple[dict[str, tuple[int, int]] | None, int]:
        """Where the members of the map at ``position`` are, by key, and where the map ends. None
        if it is no map. Of doubled keys the last one counts."""
        first = self._next(position)
        if first.kind is not Kind.MAP:
            return None, self._after(position)
        found: dict[str, tuple[int, int]] = {}
        position, left = first.end, first.items
        while left is None or left > 0:
            key = self._next(position)
            if key.kind is Kind.BREAK:
                return found, key.end
            begin = self._after(position)
            position = self._after(begin)
            if key.kind is Kind.TEXT:
                text = self._payload[key.begin : key.end].decode("utf-8", "replace")
                found[text] = (begin, position)
            left = None if left is None else left - 2
        return found, position


def find_members(
    payload: bytes, path: tuple[str, ...], head: ReadHead, max_items: int
) -> dict[str, bytes] | None:
    """The members of the object at ``path``, as they are encoded; None where there is none.

    Raises ``DecodeError`` if the structure is malformed. Looks at ``max_items`` items at most; if
    there are more, nothing is found.
    """
    walk = _Walk(payload, head, max_items)
    try:
        found, end = walk.members(0)
        if end != len(payload):
            raise DecodeError(f"{len(payload) - end} bytes follow the message")
        for step in path:
            if found is None or step not in found:
                return None
            found, _ = walk.members(found[step][0])
    except _LimitReachedError:
        return None
    if found is None:
        return None
    return {key: payload[begin:end] for key, (begin, end) in found.items()}
