"""CBOR (RFC 8949), with cbor2.

cbor2 is imported when the first message needs it: it costs a megabyte, and most agents never speak
CBOR.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import msgspec
from zope.interface import implementer

from oda.codecs.cbor_structure import SELF_DESCRIBED, check_structure, read_head
from oda.codecs.limits import MAX_SEARCHED, Limits
from oda.codecs.slices import find_members
from oda.codecs.values import check_message
from oda.errors import DecodeError, EncodeError
from oda.interfaces import ICodec, ITolerantDecoding
from oda.model import ContentType


@implementer(ICodec, ITolerantDecoding)
class CborCodec:
    """CBOR with definite lengths; it also reads indefinite ones.

    Of the tags, it reads only those of a self-described message and of integers beyond 64 bits.
    """

    content_type = ContentType.CBOR

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008 - immutable
        self._limits = limits

    def encode(self, message: object) -> bytes:
        """See ``ICodec.encode``."""
        import cbor2

        check_message(message, binary=True, max_depth=self._limits.max_depth)
        try:
            plain = _plain(message) if isinstance(message, msgspec.Struct) else message
            return cbor2.dumps(plain, default=_encode_plain)
        except (cbor2.CBOREncodeError, TypeError, ValueError, RecursionError) as error:
            raise EncodeError(str(error)) from error

    def decode(self, payload: bytes) -> Any:
        """See ``ICodec.decode``. Of duplicate keys the last one counts."""
        return self._decode(payload, "strict")

    def members(
        self, payload: bytes, *path: str, names: Collection[str]
    ) -> Mapping[str, bytes] | None:
        """See ``ITolerantDecoding.members``."""
        payload = bytes(payload).removeprefix(SELF_DESCRIBED)
        max_items = min(MAX_SEARCHED, self._limits.max_items)
        return find_members(payload, path, names, read_head, max_items)

    def decode_tolerantly(self, payload: bytes) -> Any:
        """See ``ITolerantDecoding.decode_tolerantly``."""
        return self._decode(payload, "replace")

    def _decode(self, payload: bytes, str_errors: Literal["strict", "replace"]) -> Any:
        import cbor2

        payload = self._limits.admit(payload)
        # Unchecked tags would lead cbor2 into cycles, regular expressions and giant exponents.
        check_structure(payload, self._limits)
        try:
            return cbor2.loads(payload.removeprefix(SELF_DESCRIBED), str_errors=str_errors)
        except (cbor2.CBORDecodeError, ValueError, RecursionError) as error:
            raise DecodeError(str(error)) from error


def _plain(value: object) -> Any:
    """A type of the model as a dict; ``builtin_types`` keeps bytes from turning into text."""
    return msgspec.to_builtins(value, builtin_types=(bytes,))


def _encode_plain(encoder: Any, value: object) -> None:
    encoder.encode(_plain(value))
