"""The steps of a stop, each with a time limit.

A step may wait for an event that never comes: from a disk that hangs, foreign code, or a platform
that does not read. The agent ends anyway, ``STOP_S`` seconds after the request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from oda.log import Logger

_log = Logger()

#: A stop ends within this time, whatever hangs, in seconds.
STOP_S = 9.5
#: Seconds since the start of the stop: until then it waits for the sources, ...
SOURCES_BY_S = 3.0
#: ... until their last events are accepted (for this long after that, in seconds), ...
EVENTS_S = 1.0
#: ... until these are delivered and the connection is closed, ...
CONNECTION_BY_S = 7.5
#: ... until the outbox has committed the rest, ...
OUTBOX_BY_S = 9.0
#: ... and until the scripts, which have had a SIGTERM, have ended. The agent kills the rest.
SCRIPTS_BY_S = 9.25
#: The least time for the disk in a hurried stop, in seconds.
HURRIED_OUTBOX_S = 1.0


class Stopping:
    """One stop; ``clock`` is the reactor. It starts now."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._began_s = clock.seconds()
        self._hurries = False
        self._timer: IDelayedCall | None = None
        self._hurried_s = 0.0

    @property
    def passed_s(self) -> float:
        """The seconds since the start."""
        return self._clock.seconds() - self._began_s

    def step(
        self,
        what: str,
        begin: Callable[[], Any],
        by_s: float,
        give_up: Callable[[], None] | None = None,
        hurried_s: float = 0.0,
    ) -> Deferred[None]:
        """Call ``begin`` and wait for its result until ``by_s`` seconds of the stop have passed, or
        in a hurried stop for at most ``hurried_s``.

        Fires with None; never fails. When the time is up, ``give_up`` ends ``what`` and logs what
        is lost; without it, one line says that the stop goes on without waiting.
        """
        ended: Deferred[None] = Deferred()

        def conclude(result: object) -> None:
            if isinstance(result, Failure):
                _log.failure("a defect while stopping {what}", result, what=what)
            if timer.active():
                timer.cancel()
            if not ended.called:
                self._timer = None
                ended.callback(None)

        def expire() -> None:
            if give_up is not None:
                give_up()
            else:
                _log.error("{what} has not stopped in time; the stop goes on without it", what=what)
            if not ended.called:
                self._timer = None
                ended.callback(None)

        left_s = max(0.0, by_s - self.passed_s)
        if self._hurries:
            left_s = min(left_s, hurried_s)
        timer = self._timer = self._clock.callLater(left_s, expire)
        self._hurried_s = hurried_s
        maybeDeferred(begin).addBoth(conclude)
        return ended

    def hurry(self) -> None:
        """Stop waiting from now on, except a moment for the disk."""
        self._hurries = True
        timer = self._timer
        if timer is not None and timer.active():
            left_s = timer.getTime() - self._clock.seconds()
            timer.reset(min(left_s, self._hurried_s))
