"""Garbage collection for a process that is nothing but an agent.

Python looks for cycles after every 700 new objects, and now and then through everything there is.
An agent makes tens of thousands of short-lived Deferreds a second and hardly any cycle; those
searches took a quarter of the CPU time of a burst, and a tenth of a start (docs/performance.md). So
they become rarer before anything large is imported, and what exists after the start is set aside.
Then an agent with little to do would reach the next one only after hours, with all that lies about
until then; so one is made every few seconds as well. It goes only through what was made since the
start, which takes a millisecond or less, and so does giving back the free memory of the C library,
which it keeps for good otherwise.

All this holds for the whole process: an embedded agent must leave that to its owner.
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
#: between two of the next. Of a flood of operations 40,000 objects wait for one commit: a search
#: costs 10 ms then, and finds nothing.
THRESHOLDS = (100_000, 20, 20)
#: From the start to the one long search, in seconds: the first connection should be open by then.
SETTLED_AFTER_S = 1.0
#: How often cycles are looked for and free memory is given back, in seconds. Not in step with what
#: happens every 10 or 20 s: it would always meet the same moment of that.
PERIOD_S = 7.0


def search_rarely() -> None:
    """Search for cycles rarely from now on."""
    gc.set_threshold(*THRESHOLDS)


def relax_garbage_collection() -> None:
    """Search rarely, and never again through what exists now. Call it once, when everything that
    stays has been made; it takes some tens of milliseconds."""
    gc.collect()
    gc.freeze()
    search_rarely()


class GarbageService(Service):
    """Sets aside what there is soon after the start, and tidies up every ``PERIOD_S``.

    ``give_back`` gives free memory back to the operating system.
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
        """Leave no timer behind; the thresholds stay, as the process is about to end."""
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
    """What gives the free memory of the C library back to the operating system; nothing where that
    library is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return (lambda: None) if trim is None else (lambda: trim(0))
