"""Garbage collection for a process that runs only an agent.

By default Python looks for cycles after every 700 new objects, and now and then searches all
objects. An agent makes tens of thousands of short-lived Deferreds a second and hardly any cycles.
The default searches took a quarter of the CPU time of a burst and a tenth of the start
(docs/performance.md). So this module makes searches rare before anything large is imported, and
freezes the objects that exist after the start.

An almost idle agent would then collect only once in hours, and keep its garbage until then. So a
timer also collects every few seconds. This collection covers only objects made since the start and
takes a millisecond or less. The timer also returns the free memory of the C library to the system,
which takes as little time; otherwise the library would keep it.

All this affects the whole process, so an embedded agent leaves it to its host.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall

#: New objects between two searches of the youngest generation, and searches of one generation
#: between two of the next. During a flood of operations, 40,000 objects wait for one commit; a
#: search then costs 10 ms and finds nothing.
THRESHOLDS = (100_000, 20, 20)
#: From the start to the one full search, in seconds: by then the first connection should be open.
SETTLED_AFTER_S = 1.0
#: Seconds between two tidy-ups. Not a divisor of 10 or 20 s: the tidy-up would always coincide with
#: the same periodic work.
PERIOD_S = 7.0


def search_rarely() -> None:
    """Search for cycles rarely from now on."""
    gc.set_threshold(*THRESHOLDS)


def relax_garbage_collection() -> None:
    """Search rarely, and never again through the objects that exist now. Call this once, after
    everything long-lived has been made; it takes some tens of milliseconds."""
    gc.collect()
    gc.freeze()
    search_rarely()


class GarbageService(Service):
    """Freezes the existing objects soon after the start, and tidies up every ``PERIOD_S``.

    ``give_back`` returns free memory to the operating system.
    """

    def __init__(self, reactor: Any, give_back: Callable[[], None]) -> None:
        self._reactor = reactor
        self._give_back = give_back
        self._call = LoopingCall(self._tidy_up)
        self._call.clock = reactor
        self._settling: IDelayedCall | None = None

    def startService(self) -> None:
        """Begin ``SETTLED_AFTER_S`` from now."""
        super().startService()
        self._settling = self._reactor.callLater(SETTLED_AFTER_S, self._settle)

    def stopService(self) -> None:
        """Cancel the timers. The thresholds stay, because the process is about to end."""
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        if self._call.running:
            self._call.stop()
        super().stopService()

    def _settle(self) -> None:
        self._settling = None
        relax_garbage_collection()
        self._call.start(PERIOD_S, now=False)

    def _tidy_up(self) -> None:
        gc.collect()
        self._give_back()


def memory_returner() -> Callable[[], None]:
    """A function that returns the free memory of the C library to the operating system; it does
    nothing where that library is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return (lambda: None) if trim is None else (lambda: trim(0))
