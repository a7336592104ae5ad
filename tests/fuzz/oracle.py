"""Says of a frame whether the agent owes an answer, without any code of the agent.

The decoders are the smallest that do: written from RFC 8259, RFC 8949 and the MessagePack
specification. What nobody has to read (numbers beyond every format, NaN, tags, half surrogates,
keys that are no texts) costs a request its success, not its answer, as long as the structure is
right.
Where the protocol leaves open what a message means (beyond 60 levels) the oracle is unsure, and
either behaviour is right.
"""

from __future__ import annotations

import json
import re
import struct
from enum import Enum
from typing import Any, NamedTuple

MAX_DEPTH = 60
#: A longer id is refused, and need not be repeated as a whole.
MAX_ECHOED = 1024
#: White space that the agent has to skip in front of JSON.
MAX_SPACE = 900
#: A longer JSON message need not be read if there is something in it that JSON does not have.
MAX_MENDED = 8 * 1024 * 1024
#: Nor if it holds more of one of these.
MAX_WORDS = 200_000
_WORDS = (b"NaN", b"Infinity", b"\\ud", b"\\uD")
#: An integer that Python reads has fewer digits.
_MAX_DIGITS = 4000
#: What stands in the place of a text's bytes that are no text.
_REPLACEMENT = "\ufffd"
_BLANKS = b" \t\r\n"
#: Some writers put it in front of JSON (RFC 8259, section 8.1: a reader may skip it).
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CONTROL = re.compile("[\x00-\x1f]")


class Verdict(Enum):
    """What the agent owes."""

    ANSWER = "answer"
    SILENCE = "silence"
    EITHER = "either"


class Judgement(NamedTuple):
    """``request_id`` is what the answer has to repeat, None where there is nothing to repeat."""

    verdict: Verdict
    request_id: str | None = None


class NotAMessageError(Exception):
    """The bytes are no message of their format."""


class UnsureError(Exception):
    """The protocol doesn't say."""


def judge(payload: bytes, is_text: bool) -> Judgement:
    """What the agent owes for a frame with this payload."""
    try:
        message = _decode(payload, is_text)
    except NotAMessageError:
        return Judgement(Verdict.SILENCE)
    except UnsureError:
        return Judgement(Verdict.EITHER)
    operation = message.get("operation") if isinstance(message, dict) else None
    request = operation.get("request") if isinstance(operation, dict) else None
    if not isinstance(request, dict):
        return Judgement(Verdict.SILENCE)
    request_id = request.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int):
        return Judgement(Verdict.ANSWER)
    if isinstance(request_id, int) and request_id.bit_length() > 64:
        return Judgement(Verdict.ANSWER)
    if isinstance(request_id, str) and not _is_text(request_id):
        return Judgement(Verdict.ANSWER)
    if len(str(request_id).encode()) > MAX_ECHOED:
        return Judgement(Verdict.ANSWER)
    return Judgement(Verdict.ANSWER, str(request_id))


def _decode(payload: bytes, is_text: bool) -> Any:
    stripped = payload.removeprefix(_BYTE_ORDER_MARK).lstrip(_BLANKS)
    if stripped.startswith(b"{"):
        if len(payload) - len(stripped) > MAX_SPACE:
            raise UnsureError
        return _json(stripped, is_text)
    if is_text or not payload:
        raise NotAMessageError
    first = payload[0]
    if payload.startswith(b"\xd9\xd9\xf7"):
        return _Cbor(payload, 3).message()
    if 0xA0 <= first <= 0xBF:
        return _Cbor(payload, 0).message()
    if 0x80 <= first <= 0x8F or first in (0xDE, 0xDF):
        return _MessagePack(payload).message()
    raise NotAMessageError


# -- JSON ------------------------------------------------------------------------------------


def _json(payload: bytes, is_text: bool) -> Any:
    try:
        text = payload.decode("utf-8", "strict" if is_text else "replace")
    except UnicodeDecodeError:
        raise NotAMessageError from None  # such a frame ends the connection
    constants: list[str] = []
    try:
        # NaN and the infinities: other writers take them for numbers, and can mean nothing else.
        # Control characters within a text are read as if they were escaped.
        message = json.loads(
            text, strict=False, parse_constant=constants.append, parse_int=_integer
        )
    except ValueError:
        raise NotAMessageError from None
    except RecursionError:
        raise UnsureError from None
    if (constants or _CONTROL.search(text)) and len(payload) > MAX_MENDED:
        raise UnsureError
    if any(payload.count(word) > MAX_WORDS for word in _WORDS):
        raise UnsureError
    _check_depth(message, 1)
    return message


def _integer(digits: str) -> int:
    return int(digits[:_MAX_DIGITS])


def _check_depth(value: Any, depth: int) -> None:
    """Raise ``UnsureError`` for what nests deeper than everybody has to read."""
    if isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            raise UnsureError
        for inner in value.values() if isinstance(value, dict) else value:
            _check_depth(inner, depth + 1)


def _is_text(text: str) -> bool:
    return not any(
        "\ud800" <= character <= "\udfff" or character == _REPLACEMENT for character in text
    )


# -- the binary formats ----------------------------------------------------------------------


class _Reader:
    def __init__(self, payload: bytes, position: int = 0) -> None:
        self.payload = payload
        self.position = position

    def bytes(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.payload):
            raise NotAMessageError
        taken = self.payload[self.position : end]
        self.position = end
        return taken

    def number(self, form: str) -> Any:
        (number,) = struct.unpack(">" + form, self.bytes(struct.calcsize(form)))
        return number

    def text(self, count: int) -> str:
        text = self.bytes(count).decode("utf-8", "replace")
        self.is_unusual = self.is_unusual or _REPLACEMENT in text
        return text

    def message(self) -> Any:
        """The one item there is."""
        #: Whether something is in it that nobody has to read.
        self.is_unusual = False
        #: Whether a text comes in parts: as a key in an unusual message nobody has to find it.
        self.has_parts = False
        message = self.item(1)
        if self.position != len(self.payload):
            raise NotAMessageError
        if self.is_unusual and self.has_parts:
            raise UnsureError
        return message

    def item(self, depth: int) -> Any:
        raise NotImplementedError

    def map(self, count: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(count):
            self.pair(found, depth)
        return found

    def pair(self, found: dict[str, Any], depth: int) -> None:
        key = self.item(depth)
        value = self.item(depth)
        if isinstance(key, str):
            found[key] = value
        else:
            self.is_unusual = True  # keys are texts (OpenGate protocol: the formats are JSON's)

    def deepen(self, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise UnsureError
        return depth + 1


_BREAK = object()


class _Cbor(_Reader):
    """RFC 8949, section 3."""

    def item(self, depth: int, may_break: bool = False) -> Any:
        first = self.number("B")
        major, info = first >> 5, first & 31
        if first == 0xFF:
            if may_break:
                return _BREAK
            raise NotAMessageError
        if major == 7:
            return self._simple(info)
        count = self._argument(info)
        if count is None:
            if major in (0, 1, 6):
                raise NotAMessageError
            return self._endless(major, depth)
        if major == 0:
            return count
        if major == 1:
            return -1 - count
        if major == 2:
            return self.bytes(count)
        if major == 3:
            return self.text(count)
        if major == 4:
            inner = self.deepen(depth)
            return [self.item(inner) for _ in range(self._plausible(count))]
        if major == 5:
            return self.map(self._plausible(count), self.deepen(depth))
        self.is_unusual = True
        self.item(self.deepen(depth))
        return None  # what a tag makes of it

    def _plausible(self, count: int) -> int:
        if count > len(self.payload):
            raise NotAMessageError
        return count

    def _argument(self, info: int) -> int | None:
        if info < 24:
            return info
        if info in (24, 25, 26, 27):
            number: int = self.number("BHIQ"[info - 24])
            return number
        if info == 31:
            return None
        raise NotAMessageError

    def _simple(self, info: int) -> Any:
        if info in (20, 21, 22):
            return (False, True, None)[info - 20]
        if info in (25, 26, 27):
            return self.number("efd"[info - 25])
        if info in (28, 29, 30, 31):
            raise NotAMessageError
        if info == 24 and self.number("B") < 32:
            raise NotAMessageError
        self.is_unusual = True  # undefined, or a value without a meaning
        return None

    def _endless(self, major: int, depth: int) -> Any:
        if major in (2, 3):
            self.has_parts = True
            parts: list[Any] = []
            while (first := self.number("B")) != 0xFF:
                count = self._argument(first & 31)
                if first >> 5 != major or count is None:
                    raise NotAMessageError
                parts.append(self.bytes(count) if major == 2 else self.text(count))
            return b"".join(parts) if major == 2 else "".join(parts)
        inner = self.deepen(depth)
        items: list[Any] = []
        while (item := self.item(inner, may_break=True)) is not _BREAK:
            items.append(item)
        if major == 4:
            return items
        if len(items) % 2:
            raise NotAMessageError
        pairs = list(zip(items[::2], items[1::2], strict=True))
        self.is_unusual = self.is_unusual or not all(isinstance(key, str) for key, _ in pairs)
        return {key: value for key, value in pairs if isinstance(key, str)}


class _MessagePack(_Reader):
    """The MessagePack specification, "Formats"."""

    def item(self, depth: int) -> Any:
        first = self.number("B")
        if first < 0x80:
            return first
        if first >= 0xE0:
            return first - 256
        if first < 0x90:
            return self.map(first & 15, self.deepen(depth))
        if first < 0xA0:
            return self._array(first & 15, depth)
        if first < 0xC0:
            return self.text(first & 31)
        if first in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[first]
        if first in (0xC4, 0xC5, 0xC6):
            return self.bytes(self.number("BHI"[first - 0xC4]))
        if first in (0xCA, 0xCB):
            return self.number("fd"[first - 0xCA])
        if 0xCC <= first <= 0xD3:
            return self.number("BHIQbhiq"[first - 0xCC])
        if first in (0xD9, 0xDA, 0xDB):
            return self.text(self.number("BHI"[first - 0xD9]))
        if first in (0xDC, 0xDD):
            return self._array(self.number("HI"[first - 0xDC]), depth)
        if first in (0xDE, 0xDF):
            return self.map(self._plausible(self.number("HI"[first - 0xDE])), self.deepen(depth))
        if first == 0xC1:
            raise NotAMessageError
        size = (
            1 << (first - 0xD4) if first >= 0xD4 else self.number("BHI"[first - 0xC7])
        )  # an extension
        self.bytes(1 + size)
        self.is_unusual = True
        return None

    def _plausible(self, count: int) -> int:
        if count > len(self.payload):
            raise NotAMessageError
        return count

    def _array(self, count: int, depth: int) -> list[Any]:
        inner = self.deepen(depth)
        return [self.item(inner) for _ in range(self._plausible(count))]
