"""Ends a process that does not end by itself.

A stop has time limits (``oda.stopping``), but these are timers of the reactor. A reactor that is
blocked, by a disk that hangs during a commit or by foreign code that does not return, serves no
timer and does not even see the signal. So a separate thread reads what the signals write
(``signal.set_wakeup_fd``). ``LIMIT_S`` after the first SIGTERM or SIGINT, the thread logs where the
process is, and ends it. Accepted data is on disk: this is no worse than a power failure.
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

#: How long after the signal the process ends, in seconds.
LIMIT_S = 10.0
#: How much later it ends even if the log can't be written, or Python is shutting down.
_MARGIN_S = 0.5
#: How many calls of the main thread the log names, the innermost first.
_FRAMES = 4

_STOPS = frozenset({signal.SIGTERM, signal.SIGINT})


class LastResort:
    """``pid_file`` is the file to remove, None for no file. ``guard(seconds)`` ends the process
    after that time, whatever Python does; ``end(status)`` ends it at once."""

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
        """Start to watch. Call this in the main thread, after the reactor has installed its
        handlers; the reactor still gets its signals."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        if before != -1:
            # A copy: the reactor closes its own descriptor at its end, and the number is reused.
            self._forward_to = os.dup(before)
        start_daemon(lambda: self._read(reading), "oda last resort")

    def _read(self, reading: int) -> None:
        ready = select.poll()
        ready.register(reading, select.POLLIN)
        while (left_s := self.left_s()) is None or left_s > 0:
            if ready.poll(None if left_s is None else left_s * 1000):
                numbers = os.read(reading, 512)
                if not numbers:
                    return  # the other end is closed: the watch has ended
                self.signalled(numbers)
        self.end()

    def left_s(self) -> float | None:
        """The seconds until the process is ended; None before the first signal."""
        return None if self._ends_at_s is None else self._ends_at_s - self._seconds()

    def signalled(self, numbers: bytes) -> None:
        """These signals were received."""
        if self._forward_to is not None:
            with suppress(OSError):
                os.write(self._forward_to, numbers)
        if self._ends_at_s is None and not _STOPS.isdisjoint(numbers):
            self._ends_at_s = self._seconds() + LIMIT_S
            self._guard(LIMIT_S + _MARGIN_S)

    def end(self) -> None:
        """Log where the process is, and end it."""
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
