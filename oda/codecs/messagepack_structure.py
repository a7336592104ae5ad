"""Whether bytes are one well-formed MessagePack message within the limits, without decoding it.

Walks over the items with an explicit stack, and allocates nothing for what they claim to hold: a
few bytes that announce gigabytes do no harm. Source: the MessagePack specification.
"""

from __future__ import annotations

from typing import Final, NoReturn

from oda.codecs.limits import Limits
from oda.codecs.slices import Head, Kind
from oda.errors import DecodeError

_NEVER_USED: Final = 0xC1
_KEYS: Final = frozenset([*range(0xA0, 0xC0), 0xD9, 0xDA, 0xDB])

#: Sizes of whole items whose first byte determines the size.
_KNOWN_SIZES: Final[dict[int, int]] = (
    dict.fromkeys((*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC2, 0xC3), 1)
    | {first: 1 + (first & 0x1F) for first in range(0xA0, 0xC0)}
    | {0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9, 0xCA: 5, 0xCB: 9}
)
#: The same by index, 0 for the other bytes, because every item is looked up.
_WHOLE_SIZES: Final = tuple(_KNOWN_SIZES.get(first, 0) for first in range(256))
#: Bytes of the length that follows the first byte of str and bin.
_LENGTH_SIZES: Final = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC4: 1, 0xC5: 2, 0xC6: 4}
#: Bytes of the count that follows the first byte of a container (0: the count is in it), and
#: how many items each count stands for.
_CONTAINERS: Final[dict[int, tuple[int, int]]] = (
    dict.fromkeys(range(0x90, 0xA0), (0, 1))
    | dict.fromkeys(range(0x80, 0x90), (0, 2))
    | {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
)
#: Bytes that follow the first byte of an extension: of its length, or of the whole.
_EXTENSION_LENGTH_SIZES: Final = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_EXTENSION_SIZES: Final = {0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}


def check_structure(payload: bytes, limits: Limits) -> None:
    """Raise ``DecodeError`` unless ``payload`` is exactly one message within ``limits``, with keys
    that are text, and without extension types. Does not check texts for UTF-8."""
    whole_sizes, size = _WHOLE_SIZES, len(payload)
    position = 0
    # Items still to read in the innermost open container; in a map, even numbers are keys.
    left, is_map = 1, False
    outer: list[tuple[int, bool]] = []
    try:
        for _ in range(limits.max_items + 1):
            while not left:
                if not outer:
                    if position != size:
                        _refuse_end(position, size)
                    return
                left, is_map = outer.pop()
            first = payload[position]
            if is_map and not left & 1 and first not in _KEYS:
                raise DecodeError(f"a key is not text, at byte {position}")
            left -= 1
            if whole_sizes[first]:
                position += whole_sizes[first]
            elif first in _CONTAINERS:
                count_size, items_per_count = _CONTAINERS[first]
                start = position
                position += 1 + count_size
                count = (
                    int.from_bytes(payload[start + 1 : position]) if count_size else first & 0x0F
                )
                if len(outer) >= limits.max_depth:
                    raise DecodeError(
                        f"nested too deeply: more than {limits.max_depth} levels, at byte {start}"
                    )
                items = count * items_per_count
                if items > size - position:
                    raise DecodeError(f"the message ends too early, at byte {size}")
                outer.append((left, is_map))
                left, is_map = items, items_per_count == 2
            elif first in _LENGTH_SIZES:
                start = position + 1
                position = start + _LENGTH_SIZES[first]
                position += int.from_bytes(payload[start:position])
            elif first == _NEVER_USED:
                raise DecodeError(f"0xc1 is not used in MessagePack, at byte {position}")
            else:
                raise DecodeError(f"extension types are not allowed, at byte {position}")
    except IndexError:
        raise DecodeError(f"the message ends too early, at byte {size}") from None
    raise DecodeError(f"more than {limits.max_items} items")


def _refuse_end(position: int, size: int) -> NoReturn:
    if position > size:
        raise DecodeError(f"the message ends too early, at byte {size}")
    raise DecodeError(f"{size - position} bytes follow the message")


def read_head(payload: bytes, start: int) -> Head:
    """The head of the item at ``start``, also of one that ``check_structure`` refuses."""
    first = payload[start]
    kind = Kind.TEXT if first in _KEYS else Kind.OTHER
    if _WHOLE_SIZES[first]:
        return Head(kind, start + 1, start + _WHOLE_SIZES[first])
    if first in _CONTAINERS:
        count_size, items_per_count = _CONTAINERS[first]
        end = start + 1 + count_size
        count = int.from_bytes(payload[start + 1 : end]) if count_size else first & 0x0F
        kind = Kind.MAP if items_per_count == 2 else Kind.OTHER
        return Head(kind, end, end, count * items_per_count)
    if first in _LENGTH_SIZES:
        begin = start + 1 + _LENGTH_SIZES[first]
        return Head(kind, begin, begin + int.from_bytes(payload[start + 1 : begin]))
    if first in _EXTENSION_LENGTH_SIZES:
        begin = start + 1 + _EXTENSION_LENGTH_SIZES[first]
        return Head(kind, begin, begin + 1 + int.from_bytes(payload[start + 1 : begin]))
    if first in _EXTENSION_SIZES:
        return Head(kind, start + 1, start + 1 + _EXTENSION_SIZES[first])
    raise DecodeError(f"0xc1 is not used in MessagePack, at byte {start}")
