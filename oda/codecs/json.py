"""JSON, with msgspec.

The codec refuses deep or crowded messages before it decodes them, by counting brackets and commas
outside of texts. It uses only bulk operations on bytes, and for a small message with few brackets
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
#: Everything but quotes and brackets, and everything but quotes, brackets and separators.
_NOT_BRACKETS: Final = _ALL_BYTES.translate(None, b'"[]{}')
_NOT_SEPARATORS: Final = _ALL_BYTES.translate(None, b'"[]{},:')
_BRACES_TO_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
#: One escape sequence; ``lone`` is half a surrogate pair without its other half.
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
#: In a message with more escapes none is replaced.
_MAX_ESCAPES: Final = 50_000
#: A longer message is searched for numbers with this many digits: each costs quadratic time.
_SHORT: Final = 64 * 1024
_LONG_NUMBER: Final = b"0" * 400
_DIGITS: Final = bytes(48 if 48 <= code < 58 else 32 for code in range(256))
_REPLACEMENT: Final = rb"\ufffd"
#: A longer text is not mended piece by piece, which takes a tenth of a second for a megabyte.
_MENDED_BYTES: Final = 256 * 1024
#: A longer text is not mended at all. The largest text that is decoded is half as long.
_WRITTEN_OVER_BYTES: Final = 8 * 1024 * 1024
#: At most this many words of each kind are overwritten; a text with more is malformed.
_MAX_WORDS: Final = 200_000
#: A text, or a word that other writers use for a number and JSON does not have.
_TEXT_OR_WORD: Final = re.compile(
    rb'"(?:[^"\\]++|\\.)*+"|(?<![\w.+-])(?:-?Infinity|NaN)(?![\w.])', re.DOTALL
)
_CONTROL: Final = re.compile(rb"[\x00-\x1f]")
#: Numbers too large for a float, which stand in for such words during the search for members.
_STAND_INS: Final = {
    b"NaN": b"1e400000001",
    b"Infinity": b"1e400000002",
    b"-Infinity": b"-1e400000002",
}


#: Each word, in this order, with a letter to look for first and what overwrites the word.
_INSTEAD: Final = (
    (b"N", b"NaN", b" 0 "),
    (b"I", b"-Infinity", b"    0    "),
    (b"I", b"Infinity", b"   0    "),
    (b"u", b"\\ud", b"\\u0"),
    (b"u", b"\\uD", b"\\u0"),
)
#: A text without any of these was not overwritten.
_MARKS: Final = (b"\x7f", b" ", b"\\u0")
#: Stands for a member that is too long to search; no decoder accepts it.
_UNREADABLE: Final = b"\x00"
#: DEL for each control character other than white space, blanks for white space.
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
        """See ``ICodec.decode``. Of duplicate keys the last one counts; integers of any size are
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
    """The type of an object that holds the object at ``path``, whose members of these names stay
    undecoded."""
    fields = [(f"member{number}", msgspec.Raw, msgspec.Raw()) for number in range(len(names))]
    renamed = {field[0]: name for field, name in zip(fields, names, strict=True)}
    shape: Any = msgspec.defstruct("Members", fields, rename=renamed)
    for step in reversed(path):
        shape = msgspec.defstruct(
            "Holder", [("member", shape | None, None)], rename={"member": step}
        )
    return shape


def _members(text: bytes, path: tuple[str, ...], names: tuple[str, ...]) -> dict[str, bytes] | None:
    """The members of the object at ``path``, as they are written. Raises ``DecodeError``."""
    try:
        # One nested type, so that msgspec reads the message only once.
        found = msgspec.json.decode(text, type=_shape(path, names))
        for _ in path:
            if found.member is None:
                return None
            found = found.member
    except msgspec.ValidationError:
        return None  # not an object
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(str(error)) from error
    members = {name: bytes(getattr(found, f"member{at}")) for at, name in enumerate(names)}
    return {name: member for name, member in members.items() if member}


def _members_of_long(
    text: bytes, path: tuple[str, ...], names: tuple[str, ...], limits: Limits
) -> dict[str, bytes] | None:
    """As ``_members``, for a text that is too long to be mended piece by piece. The search runs on
    a copy in which everything that JSON does not have is overwritten; the members are cut out of
    the original."""
    plain = _written_over(text) if len(text) <= _WRITTEN_OVER_BYTES else text
    found = _members(plain, path, names)
    if found is None or plain is text:
        return found
    return {
        name: _cut_out(text, plain, member, limits) if member != b"0" else _zero(text, plain, name)
        for name, member in found.items()
    }


def _cut_out(text: bytes, plain: bytes, member: bytes, limits: Limits) -> bytes:
    """The part of ``text`` at the place of ``member`` in ``plain``; mended if it is short."""
    is_long = len(member) > _MENDED_BYTES
    if is_long and len(text) > limits.max_bytes:
        # Finding it would take as long as all the rest, and most are refused for their size.
        return member if len(member) > limits.max_bytes else _UNREADABLE
    if not any(mark in member for mark in _MARKS):
        return member  # nothing in it was overwritten
    begin = plain.find(member)
    original = text[begin : begin + len(member)]
    if is_long:
        return original
    return _as_written(_TEXT_OR_WORD.sub(_as_json, _with_unicode_only(original)))


def _zero(text: bytes, plain: bytes, name: str) -> bytes:
    """The member of this name that is 0 in ``plain``: the original word, or a real 0."""
    for key in re.finditer(b'"' + re.escape(name.encode()) + b'" *:', plain):
        value = text[key.end() : key.end() + _MENDED_BYTES].lstrip()
        for word in _STAND_INS:
            if value.startswith(word):
                return word
    return b"0"


def _written_over(text: bytes) -> bytes:
    """A text of the same length and structure in which everything that JSON does not have is
    overwritten: words that are not numbers, control characters in texts, halves of surrogate pairs.
    Malformed text stays malformed: what overwrites a word can't join a number beside it, and DEL
    may only stand in texts. Returns ``text`` itself if nothing had to be overwritten."""
    before = text
    for first, word, instead in _INSTEAD:
        if first in text:  # much faster than a search for the word
            text = text.replace(word, instead, _MAX_WORDS)
    plain = text.translate(_NO_CONTROLS)
    return before if plain == before else plain


def _with_unicode_only(payload: bytes) -> bytes:
    """``payload`` with U+FFFD in place of invalid Unicode. Raises ``DecodeError`` if that would
    take long."""
    if not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError:
            if len(payload) <= _MENDED_BYTES:
                payload = payload.decode("utf-8", "replace").encode()
    if b"\\ud" in payload or b"\\uD" in payload:
        if payload.count(b"\\") > _MAX_ESCAPES:
            raise DecodeError(f"more than {_MAX_ESCAPES} escapes, some perhaps invalid Unicode")
        payload = _ESCAPE.sub(lambda escape: _REPLACEMENT if escape["lone"] else escape[0], payload)
    return payload


def _as_json(found: re.Match[bytes]) -> bytes:
    """A text with its control characters escaped, or the stand-in for a word."""
    text = found[0]
    if text in _STAND_INS:
        return _STAND_INS[text]
    return _CONTROL.sub(lambda control: b"\\u%04x" % control[0][0], text)


def _as_written(member: bytes) -> bytes:
    """The member with its original words, for the decoder to refuse."""
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

    Says nothing about malformed text; the decoder refuses that.
    """
    if len(payload) > _SHORT and _LONG_NUMBER in payload.translate(_DIGITS):
        numbers = _outside_texts(payload, b"", limits)
        if _LONG_NUMBER in numbers.translate(_DIGITS):
            raise DecodeError(f"a number of more than {len(_LONG_NUMBER)} digits")
    if len(payload) > limits.max_items:
        separators = _outside_texts(payload, _NOT_SEPARATORS, limits)
        containers = separators.count(b"[") + separators.count(b"{")
        # Each comma starts another member, each colon follows a key, and the first member counts
        # with its container. So an empty container counts as two items here.
        if separators.count(b",") + separators.count(b":") + containers > limits.max_items:
            raise _too_many_items(limits)
        _check_depth(separators.translate(_BRACES_TO_BRACKETS, b",:"), limits)
        return
    if payload.count(b"[") + payload.count(b"{") <= limits.max_depth:
        return
    brackets = _outside_texts(payload, _NOT_BRACKETS, limits).translate(_BRACES_TO_BRACKETS)
    _check_depth(brackets, limits)


def _check_depth(brackets: bytes, limits: Limits) -> None:
    # Removing the innermost pairs takes one round per level.
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
        # In this order: the backslash of \\" is itself escaped and does not escape the quote.
        payload = payload.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = payload.translate(None, unwanted)
    # Nearly always no text has a mark in it, and the quotes of each text are adjacent. If a text
    # has a mark, its opening quote is left over, because the quotes before it are all paired.
    unquoted = marks.replace(b'""', b"")
    if b'"' not in unquoted:
        return unquoted
    # Each text is an item: this refuses nothing that fits, and bounds the parts below.
    if marks.count(b'"') // 2 > limits.max_items:
        raise _too_many_items(limits)
    return b"".join(marks.split(b'"')[::2])


def _too_many_items(limits: Limits) -> DecodeError:
    return DecodeError(f"more than {limits.max_items} items")
