"""The starts of the machine, and what is known of the time at which each was. Pure.

A moment is so many milliseconds after a start of the machine. Once the time of day is right, the
time of the present start is known exactly, and with it every moment since then. Of an earlier start
in which the time of day never became right, bounds are known:

- Not after: the start that came next, less the time for which the machine is known to have run.
- Not before: the last time of day that was believed before that start, or the end of what is known
  to have run before it, or the build of the software that took the readings.

What was found out once stays: a reading that is sent again has the same time.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from oda.model import Moment

#: So many starts are remembered.
MAX_BOOTS = 1000
#: A time of day that was believed is news after so many milliseconds.
_NEWS_MS = 60_000


class Boot(msgspec.Struct):
    """One start of the machine. It was not before ``not_before_ms``. The machine ran at least until
    ``last_ms`` after it. ``starts_ms`` is its time, or the bound after which it was not where that
    is not ``is_exact``; None while nothing is known. ``right_ms`` is the last time of day that was
    believed since it, 0 without one."""

    number: int
    boot_id: str
    not_before_ms: int
    last_ms: int = 0
    starts_ms: int | None = None
    is_exact: bool = False
    right_ms: int = 0


class Boots:
    """``known`` are those of the file, oldest first; ``boot_id`` names the present one, which is
    added where it is not the last of them. ``built_ms`` is when this software was built.

    ``changed`` are those that the file does not know as they are.
    """

    def __init__(self, known: Sequence[Boot], boot_id: str, built_ms: int) -> None:
        self._boots = list(known)[-MAX_BOOTS:]
        self._built_ms = built_ms
        self.changed: dict[int, Boot] = {}
        if not self._boots or self._boots[-1].boot_id != boot_id:
            self._boots.append(self._next(boot_id))
            self._change(self._boots[-1])
        self.present = self._boots[-1]
        self._by_id = {boot.boot_id: boot for boot in self._boots}

    @property
    def oldest(self) -> int:
        """The number of the oldest that is remembered."""
        return self._boots[0].number

    def seen(self, uptime_ms: int) -> None:
        """The machine has run until now."""
        if uptime_ms > self.present.last_ms:
            self.present.last_ms = uptime_ms
            self._change(self.present)

    def is_right(self, wall_ms: int, uptime_ms: int) -> None:
        """The time of day can be believed now."""
        present = self.present
        if abs(wall_ms - present.right_ms) < _NEWS_MS and present.starts_ms is not None:
            return
        self.seen(uptime_ms)
        present.right_ms = wall_ms
        self._change(present)
        if present.starts_ms is not None:
            return
        present.starts_ms, present.is_exact = wall_ms - uptime_ms, True
        latest_ms = present.starts_ms
        for boot in reversed(self._boots[:-1]):
            if boot.starts_ms is not None:
                break  # and every one before it
            latest_ms -= boot.last_ms
            boot.starts_ms = latest_ms
            self._change(boot)

    def date(self, moment: Moment) -> tuple[int, int | None] | None:
        """See ``IDating.date``."""
        boot = self._by_id.get(moment.boot_id)
        if boot is None or boot.starts_ms is None:
            # Where the present start has its time, the other one is of a file that was lost, or so
            # old that it was forgotten.
            at_ms = self.present.starts_ms
            return None if at_ms is None else (at_ms, min(at_ms, self._built_ms))
        at_ms = boot.starts_ms + moment.uptime_ms
        if boot.is_exact:
            return at_ms, None
        return at_ms, min(at_ms, boot.not_before_ms + moment.uptime_ms)

    def write_again(self) -> None:
        """The file has lost some of them."""
        self.changed = {boot.number: boot for boot in self._boots}

    def _next(self, boot_id: str) -> Boot:
        if not self._boots:
            return Boot(1, boot_id, self._built_ms)
        last = self._boots[-1]
        began_ms = last.starts_ms if last.is_exact else None
        ended_ms = (last.not_before_ms if began_ms is None else began_ms) + last.last_ms
        return Boot(last.number + 1, boot_id, max(self._built_ms, last.right_ms, ended_ms))

    def _change(self, boot: Boot) -> None:
        self.changed[boot.number] = boot
