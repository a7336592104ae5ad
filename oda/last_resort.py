"""Ends a process that does not end by itself.

A stop has its limits (``oda.stopping``), and they are timers of the reactor. A reactor that stands
still, because a disk hangs in the middle of a commit or code of others does not come back, serves
no timer and does not even learn of the signal. So a thread of its own reads what the signals write
(``signal.set_wakeup_fd``). ``LIMIT_S`` after the first SIGTERM or SIGINT it says where the process
stands, and ends it. What was accepted is on disk: this is no worse than a loss of power.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from oda.log import Logger
from oda.threads import start_daemon

_log = Logger()

#: So long after the signal the process ends, in seconds.
LIMIT_S = 10.0
#: So much later it ends even if the log can't be written, or Python is being taken down.
_MARGIN_S = 0.5
#: So many calls of the main thread are named, the innermost first.
_FRAMES = 4

_STOPS = frozenset({signal.SIGTERM, signal.SIGINT})


class LastResort:
    """``pid_file`` is what is to be removed, None for nothing. ``guard(seconds)`` ends the process
    after so many seconds, whatever Python does; ``end(status)`` at once."""

    def __init__(
        self,
        pid_file: Path | None = None,
        seconds: Callable[[], float] = time.monotonic,
        guard: Callable[[float], None] = lambda seconds: _guard(seconds),
        end: Callable[[int], Any] = os._exit,
    ) -> None:
        self._pid_file = pid_file
        self._seconds = seconds
        self._guard = guard
        self._end = end
        self._main = threading.main_thread().ident
        self._forward_to: int | None = None
        self._ends_at_s: float | None = None

    def watch(self) -> None:
        """Begin. To be called in the main thread, once the reactor has installed its handlers: it
        goes on to hear of its signals."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        if before != -1:
            # One of our own: the reactor closes its own when it ends, and the number is used again.
            self._forward_to = os.dup(before)
        start_daemon(lambda: self._read(reading), "oda last resort")

    def _read(self, reading: int) -> None:
        ready = select.poll()
        ready.register(reading, select.POLLIN)
        while (left_s := self.left_s()) is None or left_s > 0:
            if ready.poll(None if left_s is None else left_s * 1000):
                numbers = os.read(reading, 512)
                if not numbers:
                    return  # the other end is closed: nobody watches any more
                self.signalled(numbers)
        self.end()

    def left_s(self) -> float | None:
        """The seconds until the process is ended; None while nothing has asked for its end."""
        return None if self._ends_at_s is None else self._ends_at_s - self._seconds()

    def signalled(self, numbers: bytes) -> None:
        """These signals have come."""
        if self._forward_to is not None:
            with suppress(OSError):
                os.write(self._forward_to, numbers)
        if self._ends_at_s is None and not _STOPS.isdisjoint(numbers):
            self._ends_at_s = self._seconds() + LIMIT_S
            self._guard(LIMIT_S + _MARGIN_S)

    def end(self) -> None:
        """Say where the process stands, and end it."""
        _log.critical(
            "the agent has not ended within {limit_s:g} s of the signal, and is ended now. The main"
            " thread is in {where}. Accepted messages stay in the outbox; datapoints of the last"
            " moments that were not accepted yet are lost",
            limit_s=LIMIT_S,
            where=_where(self._main),
        )
        if self._pid_file is not None:
            with suppress(OSError):
                self._pid_file.unlink(missing_ok=True)
        self._end(1)


def _where(thread: int | None) -> str:
    """The innermost calls of a thread."""
    frame = sys._current_frames().get(thread or 0)
    if frame is None:
        return "no code of Python"
    calls = traceback.extract_stack(frame)[-_FRAMES:]
    return " < ".join(
        f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in reversed(calls)
    )


def _guard(seconds: float) -> None:
    # A thread of C: it needs nothing of Python, and outlives the interpreter.
    silent = os.open(os.devnull, os.O_WRONLY)
    faulthandler.dump_traceback_later(seconds, exit=True, file=silent)
