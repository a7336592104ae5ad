"""Writes to the history behind the reactor's turns, and publishes from it.

What is to be kept within one turn of the reactor shares a transaction, and so do the marks of what
was accepted for delivery. The reactor waits for the commit and for nothing else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from oda.errors import EventRejected, OutboxClosed, OutboxError
from oda.interfaces import ICounters, IEventDispatcher
from oda.model import Event
from oda.telemetry.history import History, Kept, is_damage
from oda.telemetry.reading import FailureChanges

log = Logger()

#: So many events of one turn are committed without waiting for its end.
MAX_PENDING = 5_000

_READING = "reading"
_WRITING = "writing"


class Keeper:
    """Keeps events in ``history`` and publishes them through ``dispatcher``; ``clock`` is the
    reactor. Counts ``values_forgotten_unpublished``: dropped by age or number before being sent.
    """

    def __init__(
        self, clock: Any, history: History, dispatcher: IEventDispatcher, counters: ICounters
    ) -> None:
        self._clock = clock
        self._history = history
        self._dispatcher = dispatcher
        self._counters = counters
        self._pending: list[tuple[Sequence[Event], Deferred[list[int]]]] = []
        self._pending_events = 0
        self._accepted: list[int] = []
        self._publishing: set[int] = set()
        self._generation = 0
        self._commit_call: Any = None
        self._failures = FailureChanges()
        self.is_closed = False

    def keep(self, events: Sequence[Event]) -> Deferred[list[int]]:
        """Keep events that were checked and have a time.

        Fires with their row ids when they are committed; fails with ``OutboxError`` when they
        can't be, and with ``OutboxClosed`` after ``close``.
        """
        if self.is_closed:
            return fail(OutboxClosed("the state manager is stopping"))
        done: Deferred[list[int]] = Deferred()
        self._pending.append((events, done))
        self._pending_events += len(events)
        if self._pending_events >= MAX_PENDING:
            self.commit()
        else:
            self._commit_soon()
        return done

    def commit(self) -> None:
        """Commit now what waits for the end of the turn."""
        if self._commit_call is not None:
            self._commit_call.cancel()
            self._commit_call = None
        accepted, self._accepted = self._accepted, []
        if accepted and not self._try(_WRITING, lambda: self._history.mark_published(accepted)):
            log.debug("{number} values will be sent twice", number=len(accepted))
        pending, self._pending, self._pending_events = self._pending, [], 0
        if not pending:
            return
        events = [event for part, _ in pending for event in part]
        written: list[tuple[list[int], int]] = []
        if not self._try(_WRITING, lambda: written.append(self._history.add(events))):
            refusal = Failure(OutboxError("the values could not be stored"))
            for _, done in pending:
                done.errback(refusal)
            return
        ((row_ids, lost),) = written
        self._count_lost(lost)
        start = 0
        for part, done in pending:
            done.callback(row_ids[start : start + len(part)])
            start += len(part)

    def latest(self, datastream_id: str, device_pattern: str) -> list[Kept]:
        """As ``History.latest``; nothing when the history does not work."""
        found: list[Kept] = []
        self.commit()
        self._try(
            _READING, lambda: found.extend(self._history.latest(datastream_id, device_pattern))
        )
        return found

    def unpublished(self, datastream_id: str, device_pattern: str) -> list[Kept]:
        """As ``History.unpublished``; nothing when the history does not work."""
        found: list[Kept] = []
        self.commit()
        self._try(
            _READING, lambda: found.extend(self._history.unpublished(datastream_id, device_pattern))
        )
        return found

    def datastream_ids(self, device_pattern: str) -> set[str]:
        """As ``History.datastream_ids``."""
        self.commit()
        return self._history.datastream_ids(device_pattern)

    def forget(self, before_ms: int) -> None:
        """Drop what is older."""
        self.commit()
        dropped: list[tuple[int, int]] = []
        if self._try(_WRITING, lambda: dropped.append(self._history.forget(before_ms))):
            self._count_lost(dropped[0][1])

    def publish(self, kept: Sequence[Kept]) -> Deferred[int]:
        """Publish these values, except those published or on their way already.

        Fires with the number accepted, or fails with the first ``OutboxError`` once each of them
        has an answer. A value that can never be sent is logged by the dispatcher and not tried
        again.
        """
        answers: list[Deferred[bool]] = []
        for row_id, is_published, event in kept:
            if is_published or row_id in self._publishing:
                continue
            self._publishing.add(row_id)
            # One by one, so that the fate of each is known; the dispatcher gathers them again.
            publishing: Deferred[Any] = self._dispatcher.publish(event)
            answers.append(publishing.addBoth(self._published, row_id, self._generation))
        answered = DeferredList(answers, consumeErrors=True)
        return answered.addCallback(_number_accepted)

    def close(self) -> None:
        """Commit what waits and close the history."""
        if not self.is_closed:
            self.commit()
            self.is_closed = True
            self._history.close()

    def _published(self, result: Any, row_id: int, generation: int) -> Any:
        refused = isinstance(result, Failure)
        can_never = refused and result.check(EventRejected) is not None
        if generation == self._generation:  # else the row is gone with a damaged file
            self._publishing.discard(row_id)
            if (not refused or can_never) and not self.is_closed:
                self._accepted.append(row_id)
                self._commit_soon()
        if can_never:
            return False
        return result if refused else True

    def _commit_soon(self) -> None:
        if self._commit_call is None:
            self._commit_call = self._clock.callLater(0, self._turn_ended)

    def _turn_ended(self) -> None:
        self._commit_call = None
        self.commit()

    def _try(self, what: str, work: Callable[[], object]) -> bool:
        """Run ``work`` on the history, once more on a fresh one if the file is damaged; False when
        it could not be done."""
        if self.is_closed:
            return False
        try:
            try:
                work()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self._generation += 1
                self._publishing.clear()
                self._history.start_afresh(str(error))
                work()
        except (sqlite3.Error, OSError) as error:
            if self._failures.failed(what):
                log.error("{what} the history fails: {reason}", what=what, reason=str(error))
            return False
        if self._failures.succeeded(what):
            log.info("{what} the history works again", what=what)
        return True

    def _count_lost(self, number: int) -> None:
        if number:
            self._counters.increment("values_forgotten_unpublished", number)


def _number_accepted(results: list[tuple[bool, Any]]) -> int:
    for is_success, result in results:
        if not is_success:
            result.raiseException()
    return sum(1 for _, was_accepted in results if was_accepted)
