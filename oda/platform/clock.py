"""The time of day, read from the operating system."""

from __future__ import annotations

import time

from zope.interface import implementer

from oda.interfaces import IWallClock


@implementer(IWallClock)
class SystemClock:
    """``IWallClock`` of this computer."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000
