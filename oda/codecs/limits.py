"""How large and how deep a message may be. These limits protect the agent from hostile input."""

from __future__ import annotations

from typing import Final, NamedTuple

from oda.errors import DecodeError

#: The integers that every format carries: signed or unsigned 64 bits.
MIN_INTEGER: Final = -(2**63)
MAX_INTEGER: Final = 2**64 - 1

#: How many containers a message may nest (``[[]]`` nests two).
MAX_DEPTH: Final = 64

#: How many containers one value inside a message may nest. Less than ``MAX_DEPTH``: the documents
#: around a value (telemetry 5, the answer of REFRESH_INFO 9) must still fit.
MAX_VALUE_DEPTH: Final = 48


class Limits(NamedTuple):
    """What a codec accepts when it decodes.

    ``max_items`` counts containers, their members and their keys. It bounds the memory: an empty
    map costs one byte in MessagePack and about ninety in Python. ``max_depth`` holds for
    encoding too.
    """

    max_bytes: int = 16 * 1024 * 1024
    max_depth: int = MAX_DEPTH
    max_items: int = 500_000

    def admit(self, payload: bytes | bytearray | memoryview) -> bytes:
        """The payload as ``bytes``; raises ``DecodeError`` when it is empty or too long."""
        if type(payload) is not bytes:
            payload = bytes(payload)
        if len(payload) > self.max_bytes:
            raise DecodeError(f"{len(payload)} bytes, more than the {self.max_bytes} allowed")
        if not payload:
            raise DecodeError("the message is empty")
        return payload


#: What the agent accepts from the platform: as much as it can decode within a tenth of a second. It
#: refuses longer messages (up to ``maxMessageSize``), and answers those that are requests.
ARRIVING: Final = Limits(max_bytes=4 * 1024 * 1024, max_items=50_000)

#: How many items of a refused binary message are searched to find out who asks.
MAX_SEARCHED: Final = 10_000
