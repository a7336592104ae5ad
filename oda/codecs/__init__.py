"""JSON, MessagePack and CBOR behind ``ICodec``, and the detection of a message's format."""

from oda.codecs.cbor import CborCodec
from oda.codecs.json import JsonCodec
from oda.codecs.limits import Limits
from oda.codecs.messagepack import MessagePackCodec
from oda.codecs.registry import CodecRegistry, default_registry
from oda.codecs.typed import convert
from oda.codecs.values import check_value, is_plain

__all__ = [
    "CborCodec",
    "CodecRegistry",
    "JsonCodec",
    "Limits",
    "MessagePackCodec",
    "check_value",
    "convert",
    "default_registry",
    "is_plain",
]
