"""Writes to the history at the end of the reactor's turns, and publishes from it.

All values to keep within one turn of the reactor share a transaction, and so do the marks of values
that were accepted for delivery. The reactor waits for the commit and for nothing else.

A value is lost if it leaves the history before it was accepted for delivery: too old, one too many,
in a damaged file, or in memory when the agent ends. Each loss is counted. The log reports it once
for each datastream and device, until one of its values is published again. A value that leaves the
history while its acceptance is open is lost only if it is then refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from oda.errors import EventRejected, OutboxClosed, OutboxError
from oda.interfaces import ICounters, IEventDispatcher
from oda.log import Logger
from oda.model import HOST, Event
from oda.telemetry.history import Dropped, History, Kept, Row, is_damage
from oda.telemetry.reading import FailureChanges
from oda.wording import counted

log = Logger()

#: This many events of one turn are committed without waiting for its end.
MAX_PENDING = 5_000

_READING = "reading"
_WRITING = "writing"
_IN_PLACE = "in place"


class _Publication:
    """A value handed to the dispatcher; ``row_id`` is None once it left the history."""

    __slots__ = ("place", "row_id")

    def __init__(self, row_id: int, event: Event) -> None:
        self.row_id: int | None = row_id
        self.place = (event.datastream_id, event.device_id)


class Keeper:
    """Keeps events in ``history`` and publishes them through ``dispatcher``; ``clock`` is the
    reactor.

    Counts ``values_forgotten_unpublished`` (lost, see above) and ``values_not_kept`` (could not be
    stored).
    """

    def __init__(
        self,
        clock: IReactorTime,
        history: History,
        dispatcher: IEventDispatcher,
        counters: ICounters,
    ) -> None:
        self._clock = clock
        self._history = history
        self._dispatcher = dispatcher
        self._counters = counters
        self._pending: list[tuple[Sequence[Row], Deferred[list[int]]]] = []
        self._pending_events = 0
        self._publications: dict[int, _Publication] = {}
        #: Rows that were accepted for delivery but are not yet marked so in the history.
        self._unmarked: set[int] = set()
        self._commit_call: IDelayedCall | None = None
        self._failures = FailureChanges()
        self._losing = FailureChanges()
        self.is_closed = False

    def keep(self, rows: Sequence[Row]) -> Deferred[list[int]]:
        """Keep events that are checked, have a time and are encoded.

        Fires with their row ids when they are committed. Fails with ``OutboxError`` if they can't
        be, and with ``OutboxClosed`` after ``close``.
        """
        if self.is_closed:
            self._count_not_kept(len(rows))
            return fail(OutboxClosed("the state manager is stopping"))
        done: Deferred[list[int]] = Deferred()
        self._pending.append((rows, done))
        self._pending_events += len(rows)
        if self._pending_events >= MAX_PENDING:
            self.commit()
        else:
            self._commit_soon()
        return done

    def commit(self) -> None:
        """Commit now what waits for the end of the turn."""
        self._commit()()

    def latest(self, datastream_id: str, device_pattern: str) -> list[Kept]:
        """As ``History.latest``; nothing if the history does not work."""
        return self._read(lambda: self._history.latest(datastream_id, device_pattern))

    def unpublished(self, datastream_id: str, device_pattern: str) -> list[Kept]:
        """As ``History.unpublished``; nothing if the history does not work."""
        return self._read(lambda: self._history.unpublished(datastream_id, device_pattern))

    def datastream_ids(self, device_pattern: str) -> set[str]:
        """As ``History.datastream_ids``."""
        self.commit()
        return self._history.datastream_ids(device_pattern)

    def forget(self, older_than_ms: int) -> None:
        """Drop what arrived longer ago."""
        self.commit()
        self._look_for_the_file()
        dropped: list[Dropped] = []
        self._try(_WRITING, lambda: dropped.extend(self._history.forget(older_than_ms)))
        self._have_dropped(dropped, "they are older than forgetTime")

    def set_max_data(self, max_data: int) -> None:
        """From now on, keep that many. If the history does not work, raises ``sqlite3.Error`` and
        changes nothing."""
        self.commit()
        self._have_dropped(self._history.set_max_data(max_data), "they are more than maxData")

    def move_to(self, history: History) -> None:
        """From now on, keep everything in ``history``, and close the one before.

        If ``history`` can't take it over, raises ``sqlite3.Error`` and changes nothing.
        """
        self.commit()
        old = self._history
        new_ids, dropped = history.take_over(old)
        self._history = history
        self._unmarked = {new_ids[row_id] for row_id in self._unmarked if row_id in new_ids}
        publications, self._publications = self._publications, {}
        for row_id, publication in publications.items():
            publication.row_id = new_ids.get(row_id)
            if publication.row_id is not None:
                self._publications[publication.row_id] = publication
        self._failures.forget()
        self._have_dropped(dropped, "they are more than maxData")
        try:
            old.clear()  # otherwise all values would be there twice once the old path is used again
        except sqlite3.Error as error:
            log.warn(
                "the values moved to {new} are still in {old} as well: {reason}",
                new=str(history.path),
                old=str(old.path),
                reason=str(error),
            )
        old.close()
        if self._unmarked:
            self._commit_soon()

    def publish(self, kept: Sequence[Kept], is_urgent: bool = False) -> Deferred[int]:
        """Publish these values, except those that are published or in flight; if ``is_urgent``,
        through ``publish_now``.

        Fires with the number accepted, or fails with the first ``OutboxError`` once each of them
        has an answer. The dispatcher logs a value that can never be sent, and it is not tried
        again.
        """
        begun: list[tuple[Event, _Publication]] = []
        for row_id, is_published, event in kept:
            if is_published or row_id in self._publications or row_id in self._unmarked:
                continue
            publication = self._publications[row_id] = _Publication(row_id, event)
            begun.append((event, publication))
        hand_over = self._dispatcher.publish_now if is_urgent else self._dispatcher.publish
        answers: list[Deferred[bool]] = []
        for event, publication in begun:
            # One by one, so that the fate of each is known; the dispatcher gathers them again.
            publishing: Deferred[Any] = hand_over(event)
            answers.append(publishing.addBoth(self._published, publication))
        answered = DeferredList(answers, consumeErrors=True)
        return answered.addCallback(_number_accepted)

    def retire(self) -> None:
        """Publish everything unpublished, and close once each value has an answer."""
        publishing = self.publish(self._read(lambda: self._history.all_unpublished()))
        publishing.addBoth(self._have_published_all)

    def close(self) -> None:
        """Commit what waits and close the history. Values that only memory holds are lost."""
        if self.is_closed:
            return
        tell = self._commit()
        if not self._history.is_on_disk():
            why = "the file they are in is gone"
            if self._history.path is None:
                why = "only memory holds them (no databasePath)"
            dropped: list[Dropped] = []
            self._try(_READING, lambda: dropped.extend(self._history.places_unpublished()))
            self._have_dropped(dropped, why)
        self.is_closed = True
        self._history.close()
        tell()

    def _have_published_all(self, _: object) -> None:
        if self.is_closed:
            return
        self.commit()
        left = self._history.number_unpublished
        if left and self._history.is_on_disk():
            log.warn(
                "{values} could not be published and will be at the next start: {path}",
                values=counted(left, "kept value"),
                number=left,
                path=str(self._history.path),
            )
        self.close()

    def _commit(self) -> Callable[[], None]:
        """Commit what waits. The returned function settles the owners; they may call anything, so
        everything else must be done first."""
        if self._commit_call is not None:
            self._commit_call.cancel()
            self._commit_call = None
        self._mark()
        pending, self._pending, self._pending_events = self._pending, [], 0
        if not pending:
            return lambda: None
        rows = [row for part, _ in pending for row in part]
        written: list[tuple[list[int], list[Dropped]]] = []
        if not self._try(_WRITING, lambda: written.append(self._history.add(rows))):
            self._count_not_kept(len(rows))
            return lambda: _refuse(pending, OutboxError("the values could not be stored"))
        ((row_ids, dropped),) = written
        self._have_dropped(dropped, "they are more than maxData")
        return lambda: _accept(pending, row_ids)

    def _mark(self) -> None:
        """Mark what was accepted for delivery. If that fails, the next commit tries again; this
        process does not publish an unmarked value a second time."""
        if not self._unmarked:
            return
        row_ids = list(self._unmarked)
        if self._try(_WRITING, lambda: self._history.mark_published(row_ids)):
            self._unmarked.difference_update(row_ids)

    def _read(self, read: Callable[[], list[Kept]]) -> list[Kept]:
        """What is in the history, with what arrived in this turn."""
        self.commit()
        found: list[list[Kept]] = []
        self._try(_READING, lambda: found.append(read()))
        return found[0] if found else []

    def _published(self, result: Any, publication: _Publication) -> Any:
        row_id = publication.row_id
        refused = isinstance(result, Failure)
        can_never = refused and result.check(EventRejected) is not None
        if row_id is not None:
            self._publications.pop(row_id, None)
        if not refused:
            self._losing.succeeded(publication.place)
        if refused and not can_never:
            if row_id is None:
                self._count_lost([publication.place], "they were not accepted for delivery in time")
            return result
        if row_id is not None and not self.is_closed:
            self._unmarked.add(row_id)
            self._commit_soon()
        return not refused

    def _commit_soon(self) -> None:
        if self._commit_call is None:
            self._commit_call = self._clock.callLater(0, self._turn_ended)

    def _turn_ended(self) -> None:
        self._commit_call = None
        self.commit()

    def _try(self, what: str, work: Callable[[], object]) -> bool:
        """Run ``work`` on the history, and if the file is damaged once more on a new one. False if
        it could not be done."""
        if self.is_closed:
            return False
        try:
            try:
                work()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self._start_afresh(str(error))
                work()
        except (sqlite3.Error, OSError) as error:
            if self._failures.failed(what):
                log.error("{what} the history fails: {reason}", what=what, reason=str(error))
            return False
        if self._failures.succeeded(what):
            log.info("{what} the history works again", what=what)
        return True

    def _look_for_the_file(self) -> None:
        if self._history.path is None or self._history.is_on_disk():
            self._failures.succeeded(_IN_PLACE)
        elif self._failures.failed(_IN_PLACE):
            log.error(
                "{path} is gone, or is another file now: the kept values are lost when the agent"
                " ends, unless they are published before",
                path=str(self._history.path),
            )

    def _start_afresh(self, reason: str) -> None:
        known = len(self._publications) + len(self._unmarked)
        for publication in self._publications.values():
            publication.row_id = None
        self._publications.clear()
        self._unmarked.clear()  # ids start again
        lost = max(0, self._history.start_afresh(reason) - known)
        if lost:
            self._counters.increment("values_forgotten_unpublished", lost)
            log.error(
                "lost {values} in it that had not been published",
                values=counted(lost, "value"),
                number=lost,
            )

    def _have_dropped(self, dropped: Iterable[Dropped], why: str) -> None:
        """Count what left the history and was neither accepted nor is in flight."""
        lost: list[tuple[str, str]] = []
        for row_id, datastream_id, device_id in dropped:
            if row_id in self._unmarked:
                self._unmarked.discard(row_id)
                continue
            publication = self._publications.pop(row_id, None)
            if publication is not None:
                publication.row_id = None
                continue
            lost.append((datastream_id, device_id))
        self._count_lost(lost, why)

    def _count_lost(self, places: Sequence[tuple[str, str]], why: str) -> None:
        if not places:
            return
        self._counters.increment("values_forgotten_unpublished", len(places))
        fresh = [place for place in dict.fromkeys(places) if self._losing.failed(place)]
        if fresh:
            datastream_id, device_id = fresh[0]
            log.warn(
                "lost {values} before publication, because {why}:"
                " {datastream_id} of {device}{others}",
                values=counted(len(places), "kept value"),
                number=len(places),
                why=why,
                datastream_id=datastream_id,
                device="the host" if device_id == HOST else device_id,
                others=f" and {counted(len(fresh) - 1, 'other')}" if len(fresh) > 1 else "",
            )

    def _count_not_kept(self, number: int) -> None:
        self._counters.increment("values_not_kept", number)


def _accept(pending: Sequence[tuple[Sequence[Row], Deferred[list[int]]]], ids: list[int]) -> None:
    start = 0
    for part, done in pending:
        done.callback(ids[start : start + len(part)])
        start += len(part)


def _refuse(
    pending: Sequence[tuple[Sequence[Row], Deferred[list[int]]]], error: OutboxError
) -> None:
    refusal = Failure(error)
    for _, done in pending:
        done.errback(refusal)


def _number_accepted(results: list[tuple[bool, Any]]) -> int:
    for is_success, result in results:
        if not is_success:
            result.raiseException()
    return sum(1 for _, was_accepted in results if was_accepted)
