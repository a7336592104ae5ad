"""The registry: which codec, and which format a message has."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oda.codecs import CborCodec, CodecRegistry, JsonCodec, Limits, default_registry
from oda.errors import CodecError, DecodeError, PluginError
from oda.interfaces import ICodec, ICodecRegistry
from oda.model import ContentType


@implementer(ICodec)
class UpperCaseCodec:
    """A format of somebody else's."""

    content_type = cast(ContentType, "UPPER")

    def encode(self, message: object) -> bytes:
        return str(message).upper().encode()

    def decode(self, payload: bytes) -> Any:
        return payload.decode().lower()


def test_the_registry_keeps_its_contract() -> None:
    """CodecRegistry provides ICodecRegistry."""
    assert verifyObject(ICodecRegistry, default_registry())


def test_default_registry_knows_every_content_type() -> None:
    """Each content type has a codec that says so of itself."""
    registry = default_registry()
    for content_type in ContentType:
        assert registry.codec(content_type).content_type is content_type


def test_default_registry_passes_the_limits_on() -> None:
    """The limits given hold in every format."""
    registry = default_registry(Limits(max_bytes=10))
    for content_type in ContentType:
        codec = registry.codec(content_type)
        with pytest.raises(DecodeError, match="more than the 10 allowed"):
            codec.decode(codec.encode("more than ten bytes"))


def protocol_rule(first: int) -> ContentType | None:
    """OpenGate protocol, "Connection": the first byte of a top-level map."""
    if first == ord("{"):
        return ContentType.JSON
    if 0xA0 <= first <= 0xBF:
        return ContentType.CBOR
    if 0x80 <= first <= 0x8F or first in (0xDE, 0xDF):
        return ContentType.MESSAGE_PACK
    return None


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_first_byte_decides(kind: Any) -> None:
    """All 256 first bytes are read as the protocol says, in any kind of buffer."""
    registry = default_registry()
    for first in range(256):
        assert registry.detect(kind(bytes([first]) + b"xx")) is protocol_rule(first)


def test_nothing_is_nothing() -> None:
    """An empty message and one of white space alone announce no format."""
    assert default_registry().detect(b"") is None
    assert default_registry().detect(b" \r\n\t") is None


@pytest.mark.parametrize("space", [b" ", b"\n", b"\t", b"\r", b" \r\n\t" * 200])
def test_white_space_before_json_is_skipped(space: bytes) -> None:
    """JSON may begin with white space; no other format may."""
    registry = default_registry()
    assert registry.detect(space + b"{}") is ContentType.JSON
    assert registry.detect(memoryview(space + b"{}")) is ContentType.JSON
    for other in (b"\xa0", b"\x80", b"[]", b"\xd9\xd9\xf7\xa0", b"1"):
        assert registry.detect(space + other) is None


def test_white_space_is_skipped_within_bounds() -> None:
    """Megabytes of white space are not searched for a brace."""
    assert default_registry().detect(b" " * 1_000_000 + b"{}") is None


def test_self_described_cbor_is_cbor() -> None:
    """The three bytes of tag 55799 announce CBOR, a part of them does not."""
    registry = default_registry()
    assert registry.detect(b"\xd9\xd9\xf7\xa0") is ContentType.CBOR
    assert registry.detect(memoryview(b"\xd9\xd9\xf7\xa0")) is ContentType.CBOR
    for part in (b"\xd9", b"\xd9\xd9", b"\xd9\xd9\xf6\xa0"):
        assert registry.detect(part) is None


@given(st.binary())
def test_detection_never_fails(payload: bytes) -> None:
    """Any bytes have a format or none."""
    assert default_registry().detect(payload) in (None, *ContentType)


def test_a_doubled_content_type_is_an_error() -> None:
    """Two codecs for one format are refused, and the first one stays."""
    first, second = JsonCodec(), JsonCodec()
    with pytest.raises(PluginError, match=r"two codecs for ContentType\.JSON"):
        CodecRegistry([first, CborCodec(), second])
    registry = CodecRegistry([first])
    with pytest.raises(PluginError):
        registry.add(second)
    assert registry.codec(ContentType.JSON) is first


def test_something_else_is_no_codec() -> None:
    """An object that doesn't provide ICodec is refused when it is added, not when it is used."""
    with pytest.raises(PluginError, match="not a codec"):
        CodecRegistry([object()])


def test_a_missing_codec_is_an_error() -> None:
    """Asking for a format nobody speaks raises CodecError with its name."""
    with pytest.raises(CodecError, match="MESSAGE_PACK"):
        CodecRegistry([JsonCodec()]).codec(ContentType.MESSAGE_PACK)


def test_a_codec_of_others_can_be_added() -> None:
    """A fourth format is found by its content type and by the first bytes it announces."""
    codec = UpperCaseCodec()
    registry = default_registry()
    registry.add(codec, first_bytes=b"AB")
    assert registry.codec(codec.content_type) is codec
    assert registry.detect(b"ABC") == codec.content_type
    assert registry.detect(b"CBA") is None
    assert registry.detect(b"{}") is ContentType.JSON


def test_first_bytes_belong_to_one_format() -> None:
    """A format that begins like another one is refused, and leaves no trace."""
    registry = default_registry()
    with pytest.raises(PluginError, match="begin with 0x7b"):
        registry.add(UpperCaseCodec(), first_bytes=b"A{")
    assert registry.detect(b"A") is None
    with pytest.raises(CodecError):
        registry.codec(UpperCaseCodec.content_type)


def test_two_registries_share_nothing() -> None:
    """What is added to one registry is unknown to another."""
    default_registry().add(UpperCaseCodec(), first_bytes=b"A")
    assert default_registry().detect(b"A") is None
