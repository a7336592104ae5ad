"""MessagePack, with msgpack."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import msgpack  # type: ignore[import-untyped]
import msgspec
from zope.interface import implementer

from oda.codecs.limits import MAX_SEARCHED, Limits
from oda.codecs.messagepack_structure import check_structure, read_head
from oda.codecs.slices import find_members
from oda.codecs.values import check_message
from oda.errors import DecodeError, EncodeError
from oda.interfaces import ICodec, ITolerantDecoding
from oda.model import ContentType


@implementer(ICodec, ITolerantDecoding)
class MessagePackCodec:
    """MessagePack with text as ``str`` and bytes as ``bin``; extension types are refused."""

    content_type = ContentType.MESSAGE_PACK

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008 - immutable
        self._limits = limits

    def encode(self, message: object) -> bytes:
        """See ``ICodec.encode``."""
        check_message(message, binary=True, max_depth=self._limits.max_depth)
        try:
            plain = _plain(message) if isinstance(message, msgspec.Struct) else message
            packed: bytes = msgpack.packb(plain, default=_plain)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise EncodeError(str(error)) from error
        return packed

    def decode(self, payload: bytes) -> Any:
        """See ``ICodec.decode``. Of duplicate keys the last one counts."""
        return self._decode(payload, "strict")

    def members(
        self, payload: bytes, *path: str, names: Collection[str]
    ) -> Mapping[str, bytes] | None:
        """See ``ITolerantDecoding.members``."""
        max_items = min(MAX_SEARCHED, self._limits.max_items)
        return find_members(bytes(payload), path, names, read_head, max_items)

    def decode_tolerantly(self, payload: bytes) -> Any:
        """See ``ITolerantDecoding.decode_tolerantly``."""
        return self._decode(payload, "replace")

    def _decode(self, payload: bytes, unicode_errors: Literal["strict", "replace"]) -> Any:
        payload = self._limits.admit(payload)
        # The unpacker allocates what an array claims to hold, so nothing may reach it unchecked.
        check_structure(payload, self._limits)
        try:
            return msgpack.unpackb(payload, unicode_errors=unicode_errors)
        except UnicodeDecodeError as error:
            raise DecodeError(f"a text is not valid UTF-8: {error.reason}") from error
        except (ValueError, RecursionError) as error:
            raise DecodeError(str(error)) from error


def _plain(value: object) -> Any:
    """A type of the model as a dict; ``builtin_types`` keeps bytes from turning into text."""
    return msgspec.to_builtins(value, builtin_types=(bytes,))
