"""Commits and tells once per turn of the reactor, for everything that happens in it.

The first change of a turn sets the call that ends it; the others find it set. So all that is put in
one turn is committed together, and the connector is told once that there is something to send.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oda.outbox.committer import Committer


class Turn:
    """Nothing is set before ``open`` and after ``close``. ``now_ms`` is the outbox's own clock.

    What the way of every message needs of it are attributes: ``call`` is what ends the turn, None
    while nothing has happened (then ``begin``), and ``began_ms`` when it began. ``has_news`` is set
    by whoever makes rows that can be sent, ``are_marks_due`` where it has to be said on disk what
    was acknowledged. ``on_pending`` is told the news.
    """

    def __init__(self, reactor: Any, committer: Committer, now_ms: Callable[[], int]) -> None:
        self._reactor = reactor
        self._committer = committer
        self._now_ms = now_ms
        self.is_open = False
        self.call: Any = None
        self.began_ms = 0
        self.has_news = False
        self.are_marks_due = False
        self.on_pending: Callable[[], None] | None = None

    def open(self) -> None:
        """From now on changes are committed."""
        self.is_open = True

    def close(self) -> None:
        """Leave no timer behind, and set none any more."""
        self.is_open = False
        if self.call is not None and self.call.active():
            self.call.cancel()
        self.call = None

    def changed(self) -> None:
        """There is something to commit or to tell at the end of the turn."""
        if self.call is None and self.is_open:
            self.begin()

    def begin(self) -> None:
        """The first change of a turn; only when ``call`` is None and it is open."""
        self.began_ms = self._now_ms()
        self.call = self._reactor.callLater(0, self._end)

    def commit_marks(self) -> None:
        """Say on disk what was acknowledged, even if there is nothing else to say."""
        self.are_marks_due = True
        self.changed()

    def _end(self) -> None:
        self.call = None
        even_marks, self.are_marks_due = self.are_marks_due, False
        self._committer.submit(even_marks)
        if self.has_news and self.on_pending is not None:
            self.has_news = False
            self.on_pending()
