"""The last moments of a connection: what was accepted is delivered, if that doesn't take long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oda.connector.session import Session
from oda.interfaces import IOutbox

#: How long closing waits for acknowledgements, in seconds.
DRAIN_S = 5.0


class Drain:
    """Calls ``done()`` once: when everything is acknowledged, or ``DRAIN_S`` have passed.

    Not at all after ``cancel()`` (the connection is lost: there is nothing to wait for).
    """

    def __init__(
        self, session: Session, outbox: IOutbox, reactor: Any, done: Callable[[], None]
    ) -> None:
        self._session = session
        self._outbox = outbox
        self._reactor = reactor
        self._done = done
        self._limit: Any = None

    def start(self) -> None:
        """Begin; the session goes on sending what waits."""
        self._limit = self._reactor.callLater(DRAIN_S, self._finish)
        self._session.on_drained = self._check
        self._check()

    def cancel(self) -> None:
        """Leave no timer behind."""
        self._session.on_drained = None
        if self._limit is not None and self._limit.active():
            self._limit.cancel()

    def _check(self) -> None:
        if not self._session.has_unacknowledged and not self._outbox.counts()["pending"]:
            self._finish()

    def _finish(self) -> None:
        self.cancel()
        self._done()
