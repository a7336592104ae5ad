"""Who waits for the acceptance of events, and how they are told.

The owner of a datapoint (``oda.telemetry.documents``) is the Deferred of a ``publish`` of one
event, or the ``Call`` of several, which fires when the last of its events is settled.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from oda.telemetry.documents import Bundle


class Call:
    """A ``publish`` of several events; ``done`` fires when all are settled, or fails then with the
    first failure."""

    __slots__ = ("_failure", "_remaining", "done")

    def __init__(self, events: int) -> None:
        self.done: Deferred[None] = Deferred()
        self._remaining = events
        self._failure: Failure | None = None

    def settle(self, events: int, failure: Failure | None) -> None:
        """So many events of the call were accepted, or not accepted because of ``failure``."""
        self._remaining -= events
        self._failure = self._failure or failure
        if not self._remaining:
            if self._failure is None:
                self.done.callback(None)
            else:
                self.done.errback(self._failure)


def settle(bundle: Bundle, failure: Failure | None) -> None:
    """Tell all owners of ``bundle`` that it was accepted, or the ``failure``."""
    for run in bundle.runs:
        owners = run.owners
        start = 0
        while start < len(owners):
            owner = owners[start]
            if type(owner) is Call:
                # Neighbours of one call are settled at once. All of them stand side by side, unless
                # they were held back meanwhile.
                events = owners.count(owner)
                if owners[start : start + events] != [owner] * events:
                    events = 1
                owner.settle(events, failure)
                start += events
            else:
                settle_one(owner, failure)
                start += 1


def settle_one(owner: Any, failure: Failure | None) -> None:
    """Tell the owner of one event that it was accepted, or the ``failure``."""
    if type(owner) is Call:
        owner.settle(1, failure)
    elif failure is None:
        owner.callback(None)
    else:
        owner.errback(failure)
