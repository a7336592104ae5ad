"""Finds the members of one object in a binary message without decoding the message.

This serves messages that a codec refuses: the agent still finds out who asks. The two binary
formats have one structure: items, each with a head that says how many items belong to it. The
format's ``head`` reads the head of an item; this module walks over the items.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
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
    to this item; None means all items before the next ``BREAK``."""

    kind: Kind
    begin: int
    end: int
    items: int | None = 0


#: Reads the head of the item at a position. Raises ``DecodeError`` for what the format does not
#: allow, and ``IndexError`` if the message ends too early.
ReadHead = Callable[[bytes, int], Head]


#: More items than any message has, and the stand-in for "any number" of items: even, as in a map.
_MOST = 1 << 64
_ENDLESS = 1 << 66


class _LimitReachedError(Exception):
    """The walk has reached its limit of items."""


class _Walk:
    def __init__(self, payload: bytes, head: ReadHead, max_items: int) -> None:
        self._payload = payload
        self._head = head
        self._left = max_items
        self.key_at = 0

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
        # Items still to read in the innermost container, and whether it is a map.
        left, is_map = 1, False
        outer: list[tuple[int, bool]] = []
        while True:
            while not left:
                if not outer:
                    return position
                left, is_map = outer.pop()
            head = self._next(position)
            position = head.end
            if head.kind is Kind.BREAK:
                if left <= _MOST or (is_map and left & 1):
                    raise DecodeError(f"nothing to end here, before byte {position}")
                left = 0
                continue
            left -= 1
            if head.items != 0:
                outer.append((left, is_map))
                left = _ENDLESS if head.items is None else head.items
                is_map = head.kind is Kind.MAP

    def keys(self, position: int) -> Iterator[tuple[str, int]]:
        """The keys of the map at ``position``, and where the value of each begins. ``key_at`` is
        where the last returned key begins; after the last key, where the map ends."""
        first = self._next(position)
        if first.kind is not Kind.MAP:
            return
        position, left = first.end, first.items
        while left is None or left > 0:
            key = self._next(position)
            if key.kind is Kind.BREAK:
                break
            self.key_at = position
            begin = key.end if key.items == 0 else self._after(position)
            is_text = key.kind is Kind.TEXT
            yield (
                self._payload[key.begin : key.end].decode("utf-8", "replace") if is_text else "",
                begin,
            )
            position = self._after(begin)
            left = None if left is None else left - 2
        self.key_at = position

    def members(self, position: int) -> tuple[dict[str, tuple[int, int]] | None, int]:
        """Where the members of the map at ``position`` are, by key, and where the map ends. None
        if it is not a map. Of duplicate keys the last one counts."""
        first = self._next(position)
        if first.kind is not Kind.MAP:
            return None, self._after(position)
        found: dict[str, tuple[int, int]] = {}
        position, left = first.end, first.items
        while left is None or left > 0:
            key = self._next(position)
            if key.kind is Kind.BREAK:
                return found, key.end
            begin = key.end if key.items == 0 else self._after(position)
            position = self._after(begin)
            if key.kind is Kind.TEXT:
                text = self._payload[key.begin : key.end].decode("utf-8", "replace")
                found[text] = (begin, position)
            left = None if left is None else left - 2
        return found, position


def find_members(
    payload: bytes, path: tuple[str, ...], names: Collection[str], head: ReadHead, max_items: int
) -> dict[str, bytes] | None:
    """The members of these names of the object at ``path``, as they are encoded; None if there is
    no such object.

    Raises ``DecodeError`` if the structure is malformed. The walk stops after about ``max_items``
    items; in a longer message it finds the members at the front.
    """
    try:
        walk = _Walk(payload, head, max_items)
        found, end = walk.members(0)
        if end != len(payload):
            raise DecodeError(f"{len(payload) - end} bytes follow the message")
        for step in path:
            if found is None or step not in found:
                return None
            found, _ = walk.members(found[step][0])
    except _LimitReachedError:
        found = _first_members(payload, path, head, max_items)
    if found is None:
        return None
    return {key: payload[begin:end] for key, (begin, end) in found.items() if key in names}


def _first_members(
    payload: bytes, path: tuple[str, ...], head: ReadHead, max_items: int
) -> dict[str, tuple[int, int]] | None:
    """As ``_Walk.members``, for the first object at that path, as far as the items reach. Ignores
    everything behind the object."""
    found: dict[str, tuple[int, int]] = {}
    walk = _Walk(payload, head, max_items)
    position = 0
    try:
        for step in path:
            for text, begin in walk.keys(position):
                if text == step:
                    position = begin
                    break
            else:
                return None
        before: str | None = None
        begin_before = 0
        for text, begin in walk.keys(position):
            if before is not None:
                found[before] = (begin_before, walk.key_at)
            before, begin_before = text, begin
        if before is not None:
            found[before] = (begin_before, walk.key_at)
    except _LimitReachedError:
        pass
    return found or None
