"""Looks, each second, for rows whose time is over: they have lingered long enough, or are too old.

It also has written down what was acknowledged since the last time. There is no timer while there is
nothing to look for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oda.outbox.shedding import Shedding
from oda.outbox.stock import Stock
from oda.outbox.turn import Turn
from oda.outbox.uncommitted import Uncommitted
from oda.settings import OutboxSettings

#: How often rows are looked for that have lingered long enough or are too old, in seconds.
TICK_S = 1.0


class Tick:
    """Runs from ``start`` as long as there is anything to look for, and only while ``turn`` is
    open. ``call`` is the next look, None while there is none; ``now_ms`` is the outbox's own clock.
    """

    def __init__(
        self,
        settings: OutboxSettings,
        reactor: Any,
        stock: Stock,
        shedding: Shedding,
        uncommitted: Uncommitted,
        turn: Turn,
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._stock = stock
        self._shedding = shedding
        self._uncommitted = uncommitted
        self._turn = turn
        self._now_ms = now_ms
        self.call: Any = None

    def start(self) -> None:
        """There may be something to look for in a second."""
        if self.call is None and self._turn.is_open:
            self.call = self._reactor.callLater(TICK_S, self._look)

    def stop(self) -> None:
        """Leave no timer behind."""
        if self.call is not None and self.call.active():
            self.call.cancel()
        self.call = None

    def _look(self) -> None:
        self.call = None
        self._stock.expire(self._reactor.seconds())
        more = False
        max_age_s = self._settings.max_age_s
        if max_age_s > 0:
            more = self._shedding.drop_aged(self._now_ms() - int(max_age_s * 1000))
            self._turn.changed()
        if self._uncommitted.collecting.has_marks:
            self._turn.commit_marks()
        if more:
            self.call = self._reactor.callLater(0, self._look)
        elif max_age_s > 0 or any(queue.lingering for queue in self._stock.queues.values()):
            self.start()
