"""Takes the reactor's timers off the wall clock.

Twisted's default reactors schedule by ``time.time()``. When the clock is set forward by an hour,
every timer within that hour fires at once; when it is set back, no timer fires for an hour. An
agent sets clocks itself and runs on devices that boot in 1970, so its reactor must use the
monotonic clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.base import ReactorBase
from twisted.python.runtime import seconds as wall_clock_seconds


def since_boot_s() -> float:
    """Seconds since the start of the machine, the time in which it was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def install_monotonic_clock(reactor: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
    """Make ``reactor.seconds`` monotonic; calls already scheduled keep their remaining time.

    Does nothing for a reactor with a clock of its own (a test's ``Clock``, asyncio's), and nothing
    when called again.
    """
    if not isinstance(reactor, ReactorBase) or reactor.seconds is not wall_clock_seconds:
        return
    shift_s = monotonic() - reactor.seconds()
    reactor.seconds = monotonic
    for call in reactor.getDelayedCalls():
        call.time += shift_s  # type: ignore[attr-defined]
        call.seconds = monotonic  # type: ignore[attr-defined]
