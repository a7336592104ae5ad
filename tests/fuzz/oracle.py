"""Says of a frame whether the agent owes an answer, without any code of the agent.

The decoders are the smallest that do: written from RFC 8259, RFC 8949 and the MessagePack
specification. Where the protocol leaves open what a message means (beyond 60 levels, numbers beyond
every format, tags, half surrogates) the oracle is unsure, and either behaviour is right.
"""

from __future__ import annotations

import json
import math
import re
import struct
from enum import Enum
from typing import Any, NamedTuple

MAX_DEPTH = 60
#: White space that the agent has to skip in front of JSON.
MAX_SPACE = 900
_DIGITS = re.compile(r"\d{300}")
_BLANKS = b" \t\r\n"


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
    return Judgement(Verdict.ANSWER, str(request_id))


def _decode(payload: bytes, is_text: bool) -> Any:
    stripped = payload.lstrip(_BLANKS)
    if stripped.startswith(b"{"):
        if len(payload) - len(stripped) > MAX_SPACE:
            raise UnsureError
        return _json(payload)
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


def _json(payload: bytes) -> Any:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        raise NotAMessageError from None
    if _DIGITS.search(text):
        raise UnsureError
    try:
        message = json.loads(text, parse_constant=_no_constant)
    except ValueError:
        raise NotAMessageError from None
    except RecursionError:
        raise UnsureError from None
    _look_through(message, 1)
    return message


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _look_through(value: Any, depth: int) -> None:
    """Raise ``UnsureError`` for what JSON can write and nobody has to read."""
    if isinstance(value, float) and math.isinf(value):
        raise UnsureError
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            raise UnsureError
        if isinstance(value, dict):
            for key in value:
                _check_text(key)
        for inner in value.values() if isinstance(value, dict) else value:
            _look_through(inner, depth + 1)


def _check_text(text: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UnsureError


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
        try:
            return self.bytes(count).decode()
        except UnicodeDecodeError:
            raise NotAMessageError from None

    def message(self) -> Any:
        """The one item there is; what is well-formed but unusual is unsure only if all is."""
        self.is_unsure = False
        message = self.item(1)
        if self.position != len(self.payload):
            raise NotAMessageError
        if self.is_unsure:
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
        if not isinstance(key, str):
            raise NotAMessageError  # keys are texts (OpenGate protocol: the formats are JSON's)
        found[key] = self.item(depth)

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
        self.is_unsure = True
        return self.item(self.deepen(depth))

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
        if info == 24:
            self.bytes(1)
        self.is_unsure = True  # undefined, or a value without a meaning
        return None

    def _endless(self, major: int, depth: int) -> Any:
        if major in (2, 3):
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
        if len(items) % 2 or not all(isinstance(key, str) for key in items[::2]):
            raise NotAMessageError
        return dict(zip(items[::2], items[1::2], strict=True))


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
        self.is_unsure = True
        return None

    def _plausible(self, count: int) -> int:
        if count > len(self.payload):
            raise NotAMessageError
        return count

    def _array(self, count: int, depth: int) -> list[Any]:
        inner = self.deepen(depth)
        return [self.item(inner) for _ in range(self._plausible(count))]
