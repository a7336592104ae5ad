"""Whether bytes are one well-formed CBOR message within the limits, without decoding it.

Walks over the items with an explicit stack, and allocates nothing for what they claim to hold.
Source: RFC 8949, section 3 and appendix C.
"""

from __future__ import annotations

from typing import Final

from oda.codecs.limits import Limits
from oda.codecs.slices import Head, Kind
from oda.errors import DecodeError

#: The tag that says "this is CBOR" and nothing else; allowed only in front of a message.
SELF_DESCRIBED: Final = b"\xd9\xd9\xf7"

_BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = 2, 3, 4, 5, 6, 7
_BREAK: Final = 0xFF
_INDEFINITE: Final = 31
#: Bytes of the argument that follows the first byte, by the five low bits of that byte.
_ARGUMENT_SIZES: Final = {24: 1, 25: 2, 26: 4, 27: 8}
#: Sizes of whole items whose first byte determines the size: integers, short bytes and texts,
#: false, true, null and three floats.
_KNOWN_SIZES: Final[dict[int, int]] = (
    dict.fromkeys((*range(0x18), *range(0x20, 0x38), 0xF4, 0xF5, 0xF6), 1)
    | {0x18: 2, 0x19: 3, 0x1A: 5, 0x1B: 9, 0x38: 2, 0x39: 3, 0x3A: 5, 0x3B: 9}
    | {first: 1 + (first & 0x1F) for first in (*range(0x40, 0x58), *range(0x60, 0x78))}
    | {0xF9: 3, 0xFA: 5, 0xFB: 9}
)
#: The same by index, 0 for the other bytes, because every item is looked up.
_WHOLE_SIZES: Final = tuple(_KNOWN_SIZES.get(first, 0) for first in range(256))
#: The head of a simple value of one byte, and the least value that it may announce.
_SHORT_SIMPLE: Final = 0xF8
_LEAST_SHORT_SIMPLE: Final = 32
#: Tags of an integer beyond 64 bits, and how many bytes it may have.
_BIG_INTEGERS: Final = (0xC2, 0xC3)
_MAX_BIG_INTEGER_SIZE: Final = 64
#: Stands for "any number" of items in a container of indefinite length: even, like the items of a
#: map, and more than any message has.
_ENDLESS: Final = 1 << 64


def check_structure(payload: bytes, limits: Limits) -> None:
    """Raise ``DecodeError`` unless ``payload`` is exactly one message within ``limits``, with keys
    that are text, and with none but the allowed tags and simple values. Does not check texts for
    UTF-8."""
    whole_sizes, size = _WHOLE_SIZES, len(payload)
    position = len(SELF_DESCRIBED) if payload.startswith(SELF_DESCRIBED) else 0
    # Items still to read in the innermost open container; in a map, even numbers are keys.
    left, is_map = 1, False
    outer: list[tuple[int, bool]] = []
    parts_left = limits.max_items
    try:
        for _ in range(limits.max_items + 1):
            while not left:
                if not outer:
                    if position < size:
                        raise DecodeError(f"{size - position} bytes follow the message")
                    if position > size:
                        raise _ends_too_early(size)
                    return
                left, is_map = outer.pop()
            first = payload[position]
            if first == _BREAK:
                # No definite container has more items left than the message has bytes.
                if left <= size or (is_map and left & 1):
                    raise DecodeError(f"nothing to end here, at byte {position}")
                left = 0
                position += 1
                continue
            if is_map and not left & 1 and first >> 5 != _TEXT:
                raise DecodeError(f"a key is not text, at byte {position}")
            left -= 1
            if whole_sizes[first]:
                position += whole_sizes[first]
                continue
            start, major = position, first >> 5
            if major in (_ARRAY, _MAP):
                if len(outer) >= limits.max_depth:
                    raise DecodeError(
                        f"nested too deeply: more than {limits.max_depth} levels, at byte {start}"
                    )
                items, position = _members(payload, start)
                outer.append((left, is_map))
                left, is_map = items, major == _MAP
            elif major in (_BYTES, _TEXT):
                if first & 0x1F == _INDEFINITE:
                    position, parts_left = _after_parts(payload, start, parts_left)
                else:
                    length, position = _argument(payload, start)
                    position += length
            elif major == _TAG:
                position = _after_big_integer(payload, start)
            elif major == _SIMPLE:
                raise DecodeError(f"{_simple_name(first)} is not allowed, at byte {start}")
            else:
                raise _not_used(payload, start)
    except IndexError:
        raise _ends_too_early(size) from None
    raise DecodeError(f"more than {limits.max_items} items")


def _argument(payload: bytes, start: int) -> tuple[int, int]:
    """The argument of the item at ``start``, and the position behind it."""
    low = payload[start] & 0x1F
    if low < 24:
        return low, start + 1
    if low not in _ARGUMENT_SIZES:
        raise _not_used(payload, start)
    end = start + 1 + _ARGUMENT_SIZES[low]
    if end > len(payload):
        raise _ends_too_early(len(payload))
    return int.from_bytes(payload[start + 1 : end]), end


def _members(payload: bytes, start: int) -> tuple[int, int]:
    """How many items the container at ``start`` holds, and the position behind its head."""
    if payload[start] & 0x1F == _INDEFINITE:
        return _ENDLESS, start + 1
    count, position = _argument(payload, start)
    items = count if payload[start] >> 5 == _ARRAY else 2 * count
    if items > len(payload) - position:
        raise _ends_too_early(len(payload))
    return items, position


def _after_parts(payload: bytes, start: int, parts_left: int) -> tuple[int, int]:
    """The position behind the bytes or text of indefinite length at ``start``, and how many parts
    the remaining texts of the message may have."""
    major, position = payload[start] >> 5, start + 1
    for used in range(parts_left):
        first = payload[position]
        if first == _BREAK:
            return position + 1, parts_left - used
        if first >> 5 != major or first & 0x1F == _INDEFINITE:
            raise DecodeError(f"not a part of the bytes or text around it, at byte {position}")
        length, position = _argument(payload, position)
        position += length
    raise DecodeError(f"too many parts, at byte {start}")


def _after_big_integer(payload: bytes, start: int) -> int:
    """The position behind the tag at ``start`` and the bytes it applies to."""
    tag, position = _argument(payload, start)
    if payload[start] not in _BIG_INTEGERS:
        raise DecodeError(f"tag {tag} is not allowed, at byte {start}")
    if payload[position] >> 5 != _BYTES or payload[position] & 0x1F == _INDEFINITE:
        raise DecodeError(f"tag {tag} without bytes, at byte {start}")
    length, position = _argument(payload, position)
    if length > _MAX_BIG_INTEGER_SIZE:
        raise DecodeError(f"an integer of more than {_MAX_BIG_INTEGER_SIZE} bytes, at byte {start}")
    return position + length


def _simple_name(first: int) -> str:
    return "undefined" if first == 0xF7 else f"the simple value 0x{first:02x}"


def _not_used(payload: bytes, position: int) -> DecodeError:
    return DecodeError(f"0x{payload[position]:02x} is not used in CBOR, at byte {position}")


def _ends_too_early(size: int) -> DecodeError:
    return DecodeError(f"the message ends too early, at byte {size}")


def read_head(payload: bytes, start: int) -> Head:
    """The head of the item at ``start``, also of one that ``check_structure`` refuses."""
    first = payload[start]
    if first == _BREAK:
        return Head(Kind.BREAK, start, start + 1)
    major = first >> 5
    kind = {_TEXT: Kind.TEXT, _MAP: Kind.MAP}.get(major, Kind.OTHER)
    if first & 0x1F == _INDEFINITE and major in (_BYTES, _TEXT, _ARRAY, _MAP):
        # Nobody looks for a text in parts as a key; its parts count as items.
        kind = kind if major == _MAP else Kind.OTHER
        return Head(kind, start, start + 1, None)
    argument, begin = _argument(payload, start)
    if first == _SHORT_SIMPLE and argument < _LEAST_SHORT_SIMPLE:
        raise _not_used(payload, start)
    if major in (_BYTES, _TEXT):
        return Head(kind, begin, begin + argument)
    items = {_ARRAY: argument, _MAP: 2 * argument, _TAG: 1}.get(major, 0)
    return Head(kind, begin, begin, items)
