"""JSON, with msgspec.

Deep or crowded messages are refused before they are decoded, by counting brackets and commas
outside of texts. Only bulk operations on bytes are used, and for a small message with few brackets
no more than two counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from functools import cache
from math import isfinite
from typing import Any, Final

import msgspec
from zope.interface import implementer

from oda.codecs.limits import Limits
from oda.codecs.typed import decode_error
from oda.codecs.values import check_message
from oda.errors import DecodeError, EncodeError
from oda.interfaces import ICheckedEncoding, ICodec, ITolerantDecoding
from oda.model import ContentType

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_ALL_BYTES: Final = bytes(range(256))
#: Everything but quotes and brackets, and everything but quotes and what separates items.
_NOT_BRACKETS: Final = _ALL_BYTES.translate(None, b'"[]{}')
_NOT_SEPARATORS: Final = _ALL_BYTES.translate(None, b'"[]{},:')
_BRACES_TO_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
#: One escape sequence; ``lone`` is half a surrogate pair without its other half.
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
#: Of a message with more escapes none is replaced.
_MAX_ESCAPES: Final = 50_000
#: A longer message is searched for numbers of so many digits: each costs quadratic time.
_SHORT: Final = 64 * 1024
_LONG_NUMBER: Final = b"0" * 400
_DIGITS: Final = bytes(48 if 48 <= code < 58 else 32 for code in range(256))
_REPLACEMENT: Final = rb"\ufffd"
#: A longer text is not mended piece by piece: that takes a tenth of a second for a megabyte.
_MENDED_BYTES: Final = 256 * 1024
#: A text longer than this is not mended at all. The most that is decoded is half as long.
_WRITTEN_OVER_BYTES: Final = 8 * 1024 * 1024
#: So many words of each kind are written over; a text with more is malformed.
_MAX_WORDS: Final = 200_000
#: A text, or what other writers take for a number and JSON does not have.
_TEXT_OR_WORD: Final = re.compile(
    rb'"(?:[^"\\]++|\\.)*+"|(?<![\w.+-])(?:-?Infinity|NaN)(?![\w.])', re.DOTALL
)
_CONTROL: Final = re.compile(rb"[\x00-\x1f]")
#: Numbers that no float holds stand for such words while members are looked for.
_STAND_INS: Final = {
    b"NaN": b"1e400000001",
    b"Infinity": b"1e400000002",
    b"-Infinity": b"-1e400000002",
}


#: What is written over words, in this order, with the letter that a text with such a word holds.
_INSTEAD: Final = (
    (b"N", b"NaN", b" 0 "),
    (b"I", b"-Infinity", b"    0    "),
    (b"I", b"Infinity", b"   0    "),
    (b"u", b"\\ud", b"\\u0"),
    (b"u", b"\\uD", b"\\u0"),
)
#: A text without them is not written over.
_MARKS: Final = (b"\x7f", b" ", b"\\u0")
#: What stands for a member that is too long to be looked at: no decoder takes it.
_UNREADABLE: Final = b"\x00"
#: DEL for each control character that is no white space, blanks for white space.
_NO_CONTROLS: Final = bytes(
    code if code >= 32 else 32 if code in b"\t\n\r" else 127 for code in range(256)
)


@implementer(ICodec, ICheckedEncoding, ITolerantDecoding)
class JsonCodec:
    """JSON in UTF-8, without white space. NaN, Infinity and bytes are refused."""

    content_type = ContentType.JSON

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008 - immutable
        self._limits = limits
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder().decode

    def encode(self, message: object) -> bytes:
        """See ``ICodec.encode``."""
        check_message(message, max_depth=self._limits.max_depth)
        return self.encode_checked(message)

    def encode_checked(self, document: object) -> bytes:
        """See ``ICheckedEncoding.encode_checked``."""
        try:
            return self._encode(document)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise EncodeError(str(error)) from error

    def decode(self, payload: bytes) -> Any:
        """See ``ICodec.decode``. Of doubled keys the last one counts; integers of any size are
        kept."""
        payload = self._limits.admit(payload)
        _check_structure(payload, self._limits)
        try:
            return self._decode(payload)
        except UnicodeDecodeError as error:
            raise DecodeError(f"a text is not valid UTF-8: {error.reason}") from error
        except msgspec.DecodeError as error:
            if payload.startswith(_BYTE_ORDER_MARK):
                raise DecodeError("JSON must not begin with a byte order mark") from error
            raise decode_error(error) from error
        except RecursionError as error:
            raise DecodeError("nested too deeply") from error
        except ValueError as error:  # an integer of thousands of digits
            raise DecodeError(str(error)) from error

    def members(
        self, payload: bytes, *path: str, names: Collection[str]
    ) -> Mapping[str, bytes] | None:
        """See ``ITolerantDecoding.members``."""
        within = bytes(payload).removeprefix(_BYTE_ORDER_MARK)
        if len(within) > _MENDED_BYTES:
            return _members_of_long(within, path, tuple(names), self._limits)
        mended = _TEXT_OR_WORD.sub(_as_json, _with_unicode_only(within))
        found = _members(mended, path, tuple(names))
        if found is None:
            return None
        return {name: _as_written(member) for name, member in found.items()}

    def decode_tolerantly(self, payload: bytes) -> Any:
        """See ``ITolerantDecoding.decode_tolerantly``."""
        text = _with_unicode_only(self._limits.admit(payload))
        _check_structure(text, self._limits)
        try:
            return json.loads(text, parse_float=_float_or_text, parse_int=_int_or_text)
        except (ValueError, RecursionError) as error:
            raise DecodeError(str(error)) from error


@cache
def _shape(path: tuple[str, ...], names: tuple[str, ...]) -> Any:
    """The type of an object that holds the object at ``path``, of which the members of these names
    are left as they stand."""
    fields = [(f"member{number}", msgspec.Raw, msgspec.Raw()) for number in range(len(names))]
    renamed = {field[0]: name for field, name in zip(fields, names, strict=True)}
    shape: Any = msgspec.defstruct("Members", fields, rename=renamed)
    for step in reversed(path):
        shape = msgspec.defstruct(
            "Holder", [("member", shape | None, None)], rename={"member": step}
        )
    return shape


def _members(text: bytes, path: tuple[str, ...], names: tuple[str, ...]) -> dict[str, bytes] | None:
    """The members of the object at ``path``, as they stand there. Raises ``DecodeError``."""
    try:
        # One object in the other, so that the message is read once only.
        found = msgspec.json.decode(text, type=_shape(path, names))
        for _ in path:
            if found.member is None:
                return None
            found = found.member
    except msgspec.ValidationError:
        return None  # it is no object
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(str(error)) from error
    members = {name: bytes(getattr(found, f"member{at}")) for at, name in enumerate(names)}
    return {name: member for name, member in members.items() if member}


def _members_of_long(
    text: bytes, path: tuple[str, ...], names: tuple[str, ...], limits: Limits
) -> dict[str, bytes] | None:
    """As ``_members``, of a text that is too long to be mended piece by piece. What JSON does not
    have is written over in a copy, and the members are cut out of the original."""
    plain = _written_over(text) if len(text) <= _WRITTEN_OVER_BYTES else text
    found = _members(plain, path, names)
    if found is None or plain is text:
        return found
    return {
        name: _cut_out(text, plain, member, limits) if member != b"0" else _zero(text, plain, name)
        for name, member in found.items()
    }


def _cut_out(text: bytes, plain: bytes, member: bytes, limits: Limits) -> bytes:
    """The part of ``text`` that stands where ``member`` stands in ``plain``; mended if it is
    short."""
    is_long = len(member) > _MENDED_BYTES
    if is_long and len(text) > limits.max_bytes:
        # To look for it would take as long as all the rest, and most are refused for their size.
        return member if len(member) > limits.max_bytes else _UNREADABLE
    if not any(mark in member for mark in _MARKS):
        return member  # nothing is written over
    begin = plain.find(member)
    original = text[begin : begin + len(member)]
    if is_long:
        return original
    return _as_written(_TEXT_OR_WORD.sub(_as_json, _with_unicode_only(original)))


def _zero(text: bytes, plain: bytes, name: str) -> bytes:
    """The member of this name that is 0 in ``plain``: the word that it was, or really 0."""
    for key in re.finditer(b'"' + re.escape(name.encode()) + b'" *:', plain):
        value = text[key.end() : key.end() + _MENDED_BYTES].lstrip()
        for word in _STAND_INS:
            if value.startswith(word):
                return word
    return b"0"


def _written_over(text: bytes) -> bytes:
    """A text of the same length and structure without what JSON does not have: words that are no
    numbers, control characters in texts, halves of surrogate pairs. What is malformed stays so:
    what is written over a word is no part of a number beside it, and DEL stands in texts only.
    It is ``text`` itself where there is nothing of this."""
    before = text
    for first, word, instead in _INSTEAD:
        if first in text:  # much faster than to look for the word
            text = text.replace(word, instead, _MAX_WORDS)
    plain = text.translate(_NO_CONTROLS)
    return before if plain == before else plain


def _with_unicode_only(payload: bytes) -> bytes:
    """``payload`` with U+FFFD in the place of what is no Unicode. Raises ``DecodeError`` where that
    would take long."""
    if not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError:
            if len(payload) <= _MENDED_BYTES:
                payload = payload.decode("utf-8", "replace").encode()
    if b"\\ud" in payload or b"\\uD" in payload:
        if payload.count(b"\\") > _MAX_ESCAPES:
            raise DecodeError(f"more than {_MAX_ESCAPES} escapes, and what may be no Unicode")
        payload = _ESCAPE.sub(lambda escape: _REPLACEMENT if escape["lone"] else escape[0], payload)
    return payload


def _as_json(found: re.Match[bytes]) -> bytes:
    """A text with its control characters escaped, or the stand-in for a word."""
    text = found[0]
    if text in _STAND_INS:
        return _STAND_INS[text]
    return _CONTROL.sub(lambda control: b"\\u%04x" % control[0][0], text)


def _as_written(member: bytes) -> bytes:
    """The member with its words in their places again: it is for the decoder to refuse them."""
    for word, stand_in in sorted(_STAND_INS.items()):
        if stand_in in member:
            member = member.replace(stand_in, word)
    return member


def _float_or_text(text: str) -> float | str:
    number = float(text)
    return number if isfinite(number) else text


def _int_or_text(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:  # too many digits
        return text


def _check_structure(payload: bytes, limits: Limits) -> None:
    """Raise ``DecodeError`` if the JSON text nests too deeply or holds too many items.

    Says nothing about malformed text, which the decoder refuses.
    """
    if len(payload) > _SHORT and _LONG_NUMBER in payload.translate(_DIGITS):
        numbers = _outside_texts(payload, b"", limits)
        if _LONG_NUMBER in numbers.translate(_DIGITS):
            raise DecodeError(f"a number of more than {len(_LONG_NUMBER)} digits")
    if len(payload) > limits.max_items:
        separators = _outside_texts(payload, _NOT_SEPARATORS, limits)
        containers = separators.count(b"[") + separators.count(b"{")
        # Each comma starts another member, each colon follows a key, and the first member is
        # counted with its container. So an empty container counts as two items here.
        if separators.count(b",") + separators.count(b":") + containers > limits.max_items:
            raise _too_many_items(limits)
        _check_depth(separators.translate(_BRACES_TO_BRACKETS, b",:"), limits)
        return
    if payload.count(b"[") + payload.count(b"{") <= limits.max_depth:
        return
    brackets = _outside_texts(payload, _NOT_BRACKETS, limits).translate(_BRACES_TO_BRACKETS)
    _check_depth(brackets, limits)


def _check_depth(brackets: bytes, limits: Limits) -> None:
    # Taking away the innermost pairs again and again takes one round per level.
    for _ in range(limits.max_depth):
        outer = brackets.replace(b"[]", b"")
        if outer == brackets:
            return
        brackets = outer
    if b"[]" in brackets:
        raise DecodeError(f"nested too deeply: more than {limits.max_depth} levels")


def _outside_texts(payload: bytes, unwanted: bytes, limits: Limits) -> bytes:
    """The bytes of ``payload`` outside of texts, without those in ``unwanted``, which holds
    neither quotes nor brackets. Raises ``DecodeError`` if there are too many texts."""
    if b"\\" in payload:
        # In this order: the backslash of \\" is escaped itself and escapes no quote.
        payload = payload.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = payload.translate(None, unwanted)
    # Nearly always no text has a mark in it, and the quotes of each stand side by side. If any
    # text has one, its opening quote is left over: the quotes before it are all paired.
    unquoted = marks.replace(b'""', b"")
    if b'"' not in unquoted:
        return unquoted
    # Each text is an item, so this refuses nothing that fits, and it bounds the parts below.
    if marks.count(b'"') // 2 > limits.max_items:
        raise _too_many_items(limits)
    return b"".join(marks.split(b'"')[::2])


def _too_many_items(limits: Limits) -> DecodeError:
    return DecodeError(f"more than {limits.max_items} items")
