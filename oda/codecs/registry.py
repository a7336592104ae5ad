"""The codecs of an agent by content type, and the detection of a message's format."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping
from typing import Any, Final

from zope.interface import implementer

from oda.codecs.cbor import CborCodec
from oda.codecs.cbor_structure import SELF_DESCRIBED
from oda.codecs.json import JsonCodec
from oda.codecs.limits import Limits
from oda.codecs.messagepack import MessagePackCodec
from oda.errors import CodecError, PluginError
from oda.interfaces import ICodec, ICodecRegistry
from oda.model import ContentType

#: First bytes of a top-level map (OpenGate protocol, "Connection"); the sets are disjoint.
_FIRST_BYTES: Final[dict[int, ContentType]] = (
    {0x7B: ContentType.JSON}
    | dict.fromkeys(range(0xA0, 0xC0), ContentType.CBOR)
    | dict.fromkeys((*range(0x80, 0x90), 0xDE, 0xDF), ContentType.MESSAGE_PACK)
)
_WHITE_SPACE: Final = b" \t\r\n"
#: How many bytes of white space in front of JSON are skipped, however long the message is.
_MAX_WHITE_SPACE: Final = 1024


@implementer(ICodecRegistry)
class CodecRegistry:
    """Holds one codec per content type. Detection knows the three formats of the protocol, and the
    first bytes that further codecs announce."""

    def __init__(self, codecs: Iterable[Any] = ()) -> None:
        """Adds ``codecs`` like ``add``, which may raise."""
        self._codecs: dict[ContentType, Any] = {}
        self._first_bytes: Mapping[int, ContentType] = _FIRST_BYTES
        for codec in codecs:
            self.add(codec)

    def add(self, codec: Any, first_bytes: Iterable[int] = ()) -> None:
        """Add an ``ICodec``. ``first_bytes`` are the first bytes of its messages, for a format that
        is none of the three.

        Raises ``PluginError`` if it is not a codec, if its content type already has a codec, or if
        another format begins with one of its first bytes. Nothing changes then.
        """
        if not ICodec.providedBy(codec):
            raise PluginError(f"{codec!r} is not a codec: it doesn't provide ICodec")
        content_type = codec.content_type
        if content_type in self._codecs:
            raise PluginError(
                f"two codecs for {content_type}: {self._codecs[content_type]!r} and {codec!r}"
            )
        announced = set(first_bytes)
        for first in sorted(announced):
            if self._first_bytes.get(first, content_type) is not content_type:
                raise PluginError(
                    f"{codec!r}: messages of {self._first_bytes[first]} begin with 0x{first:02x}"
                )
        self._codecs[content_type] = codec
        if announced:
            self._first_bytes = {**self._first_bytes, **dict.fromkeys(announced, content_type)}

    def detect(self, payload: bytes | bytearray | memoryview) -> ContentType | None:
        """See ``ICodecRegistry.detect``. Skips a byte order mark, and at most a kilobyte of white
        space."""
        if not payload:
            return None
        content_type = self._first_bytes.get(payload[0])
        if content_type is not None:
            return content_type
        if payload[0] in _WHITE_SPACE or payload[0] == BOM_UTF8[0]:
            head = bytes(payload[:_MAX_WHITE_SPACE]).removeprefix(BOM_UTF8).lstrip(_WHITE_SPACE)
            return ContentType.JSON if head.startswith(b"{") else None
        if bytes(payload[: len(SELF_DESCRIBED)]) == SELF_DESCRIBED:
            return ContentType.CBOR
        return None

    def codec(self, content_type: ContentType) -> Any:
        """See ``ICodecRegistry.codec``."""
        codec = self._codecs.get(content_type)
        if codec is None:
            raise CodecError(f"there is no codec for {content_type}")
        return codec


def default_registry(limits: Limits = Limits()) -> CodecRegistry:  # noqa: B008 - immutable
    """A registry with the three formats of the protocol."""
    return CodecRegistry((JsonCodec(limits), MessagePackCodec(limits), CborCodec(limits)))
