"""How much memory decoding takes at its peak."""

from __future__ import annotations

import tracemalloc
from typing import Any

from oda.errors import DecodeError


def peak_bytes(codec: Any, payload: bytes) -> int:
    """The most memory that was in use at once while ``payload`` was decoded or refused."""
    tracemalloc.start()
    try:
        codec.decode(payload)
    except DecodeError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak
