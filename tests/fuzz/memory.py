"""What each kind of frame costs this process in memory, as the kernel counts it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.mutation import LARGE_BYTES, Frame

MIB = 1024 * 1024
#: How much more one frame may take while it is handled, and what a campaign may leave behind its
#: first fifth (the allocator's scraps). SECURITY.md names both.
PEAK_MIB, LEFT_MIB = 64, 8

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def kind_of(frame: Frame) -> str:
    """In which form a frame comes: as text or binary, in which format, cut, with pings, large."""
    form = "text" if frame.is_text else "binary"
    words = [form, _format(frame.payload)]
    if len(frame.payload) >= LARGE_BYTES:
        words.append("large")
    if frame.fragment_bytes:
        words.append(f"in fragments of {frame.fragment_bytes}")
    if frame.pings:
        words.append("behind pings")
    return ", ".join(words)


def _format(payload: bytes) -> str:
    first = payload.lstrip()[:1]
    if first == b"{":
        return "JSON"
    if b"\xa0" <= first <= b"\xbf" or payload.startswith(b"\xd9\xd9\xf7"):
        return "CBOR"
    if b"\x80" <= first <= b"\x8f" or first in (b"\xde", b"\xdf"):
        return "MessagePack"
    return "no format"


class Cost(NamedTuple):
    """Of one kind: how many frames were measured, and the most that one took."""

    frames: int = 0
    peak_bytes: int = 0


class MemoryWatch:
    """Measures frames one by one: ``before`` and ``after`` each."""

    def __init__(self) -> None:
        self.costs: dict[str, Cost] = {}
        self._before = 0

    def before(self, frame: Frame) -> None:
        """A frame is about to be sent."""
        if len(frame.payload) >= LARGE_BYTES:
            give_back()
        Path("/proc/self/clear_refs").write_text("5")  # the peak is the resident memory again
        self._before = resident_bytes()

    def after(self, frame: Frame) -> None:
        """The frame has been handled."""
        kind = kind_of(frame)
        known = self.costs.get(kind, Cost())
        peak_bytes = max(known.peak_bytes, _peak_bytes() - self._before)
        self.costs[kind] = Cost(
            known.frames + 1,
            peak_bytes,
        )

    def complaints(self) -> list[str]:
        """The kinds that cost more than is promised."""
        return [
            f"{kind}: {cost.peak_bytes / MIB:.1f} MiB at once"
            for kind, cost in sorted(self.costs.items())
            if cost.peak_bytes > PEAK_MIB * MIB
        ]


def give_back() -> None:
    """Give the system what the allocator keeps for later, where it can be told to: it is nobody's,
    and would be counted for whichever frame comes next."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes() -> int:
    """The memory of this process that is in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) * 1024
