"""Readings taken before the time of day was right: kept on disk until they can have their time.

While the time of day can't be believed, an event without ``at_ms`` is written into a file of its
own, with the moment at which it was taken, and is accepted once that is on disk. When the time of
day becomes right, the moments are dated (``oda.telemetry.boots``). The events leave in the order in
which they came: a page at a time, each deleted from the file once the outbox has accepted it. A
process that is killed in between sends a page once more, with the same times.

::

    publish --> pending --> file --> page on its way --> accepted: deleted
                  |                       |
                  |                       +--> not accepted: stays, and is tried again
                  +--> on its way at once, where the time is right and the file is empty

As long as anything waits here, new events line up behind it: the events of a datastream keep their
order. Events that bring their ``at_ms`` never come here.

The file holds a bounded number of bytes. Beyond it the oldest readings are dropped and counted, or
new ones are refused, as ``outboxPolicy`` has it. While the file can't be written, readings wait in
memory and are not accepted yet.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from oda.errors import EventRejected, OutboxClosed, OutboxFull
from oda.interfaces import ICounters
from oda.log import Logger
from oda.model import Event
from oda.telemetry.dating import Dating
from oda.telemetry.documents import MAX_DATAPOINTS, settle_one

log = Logger()

#: How often the time of day is looked at while readings wait for it, in seconds.
LOOK_S = 1.0
#: How often the time of day is noted that is right, in seconds: a lower bound after a restart.
NOTE_S = 3600.0
#: So many events of one turn are written without waiting for its end.
MAX_PENDING = 1000
#: So many events wait in memory while the file can't be written; more are refused.
MAX_UNWRITTEN = 10_000

#: An event with its time, and who waits for its acceptance.
Dated = tuple[Event, int, object]


class _Row(Protocol):
    """See ``oda.telemetry.undated_file.Undated``, which most agents never import."""

    @property
    def cost(self) -> int: ...
    @property
    def moment(self) -> Any: ...
    def event(self, at_ms: int, from_ms: int | None) -> Event: ...


class UndatedEvents:
    """``path`` is the file, None for memory only. It holds at most ``max_bytes``; what comes when
    it is full is refused where it ``refuses``, and drops the oldest otherwise.

    ``send(dated)`` hands events over that have their time now, and says whether it could;
    ``changed()`` is called when ``is_taking`` is another. The owner of the two sets both.
    """

    def __init__(
        self,
        clock: IReactorTime,
        dating: Dating,
        counters: ICounters,
        path: Path | None,
        max_bytes: int,
        refuses: bool = False,
    ) -> None:
        self._clock = clock
        self.dating = dating
        self._counters = counters
        self._path = path
        self._max_bytes = max_bytes
        self._refuses = refuses
        self.send: Callable[[Sequence[Dated]], bool] = lambda dated: False
        self.changed: Callable[[], None] = lambda: None
        self._file: Any = None
        self._pending: list[tuple[_Row, object]] = []
        self._pending_bytes = 0
        self._commit_call: IDelayedCall | None = None
        self._look_call: IDelayedCall | None = None
        self._page: list[tuple[int, _Row]] = []  # on its way
        self._gone: list[tuple[int, _Row]] = []  # accepted, and still in the file
        self._was_there = False
        self._is_failing = False
        self._is_dropping = False
        self._dated = 0
        self._is_open = False
        #: Whether events without a time have to come here.
        self.is_taking = False

    def __len__(self) -> int:
        """How many events wait here."""
        return len(self._pending) + (0 if self._file is None else self._file.rows)

    # -- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up what an earlier process left, and look at the time of day."""
        self._is_open = True
        self._was_there = self._path is not None and self._path.exists()
        self.look()

    def close(self) -> None:
        """The end: keep nothing open. What is not on disk is refused."""
        if self._file is not None:
            self.dating.enter()
        self._commit()
        self._is_open = False
        for call in (self._commit_call, self._look_call):
            if call is not None:
                call.cancel()
        self._commit_call = self._look_call = None
        file, self._file = self._file, None
        if file is not None:
            if self._path is None and file.rows:
                self._lose(file.rows, "stopped", "only memory keeps them (outbox=memory)")
            file.close()
        pending, self._pending = self._pending, []
        if pending:
            self._counters.increment("events_refused", len(pending))
        refusal = Failure(OutboxClosed("the agent is stopping"))
        for _, owner in pending:
            settle_one(owner, refusal)

    def move(self, path: Path) -> None:
        """Keep the file at ``path`` from now on; as soon as it can be done."""
        self._path = path
        self.look()

    # -- in ------------------------------------------------------------------------------------

    def wants(self) -> bool:
        """Whether an event without a time has to come here now."""
        if not self.is_taking and not self.dating.is_right():
            self._set_taking(True)
        return self.is_taking

    def refusal(self, number: int) -> OutboxFull | None:
        """Why ``number`` events more are not taken; None where they are."""
        if self._pending and len(self._pending) + number > MAX_UNWRITTEN:
            return OutboxFull("too many readings wait for the right time, and no disk takes them")
        if self._refuses and self._cost >= self._max_bytes:
            return OutboxFull("too many readings wait for the right time")
        return None

    def keep(self, event: Event, owner: object) -> None:
        """Keep an event that was checked, and tell ``owner`` once it is on disk."""
        from oda.telemetry.undated_file import as_row

        if not self._is_open:
            self._counters.increment("events_refused")
            settle_one(owner, Failure(OutboxClosed("the agent is stopping, or was not started")))
            return
        row = as_row(event, event.taken or self.dating.moment())
        self._pending.append((row, owner))
        self._pending_bytes += row.cost
        if self._commit_call is None:
            self._commit_call = self._clock.callLater(0, self._turn_ended)
        elif len(self._pending) == MAX_PENDING:
            self._commit_call.reset(0)

    def flush(self) -> None:
        """Bring to the disk what waits for the end of the turn."""
        self._commit()

    @property
    def _cost(self) -> int:
        return self._pending_bytes + (0 if self._file is None else int(self._file.cost))

    def _turn_ended(self) -> None:
        self._commit_call = None
        if self.dating.is_right():
            self._leave()
        else:
            self._commit()

    # -- the file ------------------------------------------------------------------------------

    def _commit(self) -> bool:
        """Bring to the disk what is not there, and tell whoever waits for it; False where it can't
        be done now."""
        if not self._pending:
            return self._write(())
        if not self._is_open or not self._use_file():
            return False
        self.dating.enter()
        pending = self._pending
        if not self._write([row for row, _ in pending]):
            return False
        self._pending, self._pending_bytes = [], 0
        self._counters.increment("events_undated", len(pending))
        for _, owner in pending:
            settle_one(owner, None)
        return True

    def _write(self, rows: Sequence[_Row]) -> bool:
        """Write rows, and what dates them; False where it can't be done now. Without rows nothing
        is done where there is no file yet."""
        boots = self.dating.boots
        if self._file is None or not (rows or boots.changed):
            return True
        changed = dict(boots.changed)

        def write() -> None:
            self._stay_in_place()
            excess = self._file.cost + sum(row.cost for row in rows) - self._max_bytes
            if rows and excess > 0 and not self._refuses:
                self._drop(excess)
            self._file.write(rows, changed.values(), boots.oldest)
            self._stay_in_place()

        if not self._try(write):
            return False
        for number in changed:
            boots.changed.pop(number, None)
        return True

    def _use_file(self) -> bool:
        """Open the file unless it is; False where it can't be done now."""
        if self._file is not None:
            return True
        from oda.telemetry.undated_file import UndatedFile

        def open_file() -> None:
            file = UndatedFile(self._path)
            self.dating.learn(file.boots())
            self._file = file
            self._count_lost()

        return self._try(open_file)

    def _try(self, work: Callable[[], None]) -> bool:
        """Run ``work`` on the file, once more on a fresh one if it is damaged; False when it could
        not be done."""
        from oda.telemetry.history import is_damage

        try:
            try:
                work()
            except sqlite3.DatabaseError as error:
                if self._file is None or not is_damage(error):
                    raise
                self._page, self._gone = [], []  # ids begin anew
                self._file.start_afresh(str(error))
                self.dating.boots.write_again()
                self._count_lost()
                work()
        except (sqlite3.Error, OSError) as error:
            if not self._is_failing:
                self._is_failing = True
                log.error(
                    "readings taken before the clock was right can't be written to {path}:"
                    " {reason}; they wait in memory, and are not accepted yet",
                    path=str(self._path),
                    reason=str(error),
                )
            return False
        if self._is_failing:
            self._is_failing = False
            log.info("readings are written to {path} again", path=str(self._path))
        return True

    def _drop(self, cost: int) -> None:
        dropped = 0
        if not self._page:  # what is on its way is not dropped
            dropped = self._file.drop_oldest(cost)
        if dropped:
            self._counters.increment("events_undated_lost", dropped, reason="full")
            if not self._is_dropping:
                self._is_dropping = True
                log.warn(
                    "too many readings wait for the right time: the oldest are dropped, and counted"
                )

    def _lose(self, number: int, reason: str, why: str) -> None:
        self._counters.increment("events_undated_lost", number, reason=reason)
        log.error(
            "{number} readings that wait for the right time are lost: {why}",
            number=number,
            why=why,
        )

    def _count_lost(self) -> None:
        lost, self._file.lost = self._file.lost, 0
        if lost:
            self._lose(lost, "damaged", "their file is damaged")

    def _follow_path(self) -> None:
        file = self._file
        if self._path is None or file is None or file.path == self._path or self._page:
            return

        def move() -> None:
            self._exchange_file()
            for suffix in ("", "-wal", "-shm"):
                Path(f"{file.path}{suffix}").unlink(missing_ok=True)

        self._try(move)

    def _stay_in_place(self) -> None:
        """Where the file was deleted or replaced by another one, write everything anew: what is
        only in a file without a name is lost with the process."""
        if self._file.is_in_place():
            return
        log.error(
            "{path} is gone, or is another file now: what it held is written anew",
            path=str(self._file.path),
        )
        self._page, self._gone = [], []
        self._exchange_file()

    def _exchange_file(self) -> None:
        """Go on with the file at the path, with everything that the present one holds."""
        from oda.telemetry.undated_file import UndatedFile

        old, new = self._file, UndatedFile(self._path)
        try:
            new.take_over(old)
        except BaseException:
            new.close()
            raise
        self._file = new
        old.close()

    # -- out -----------------------------------------------------------------------------------

    def look(self) -> None:
        """Look at the time of day, now and again after a while."""
        if not self._is_open:
            return
        if self._look_call is not None:
            self._look_call.cancel()
            self._look_call = None
        if self._was_there:
            self._was_there = not self._use_file()
        self._follow_path()
        if self.wants() or len(self):
            self._set_taking(True)
        if self.dating.is_right():
            self._leave()
        else:
            self._commit()
        self._plan_look()

    def _plan_look(self) -> None:
        if not self._is_open or self._look_call is not None:
            return
        if self.is_taking or self._was_there:
            self._look_call = self._clock.callLater(LOOK_S, self._look_again)
        elif self._file is not None:
            self._look_call = self._clock.callLater(NOTE_S, self._look_again)

    def _look_again(self) -> None:
        self._look_call = None
        self.look()

    def _leave(self) -> None:
        """The time of day is right: send what has waited for it."""
        if self._page or not self._is_open:
            return
        self.dating.enter()
        if self._gone and not self._forget(self._gone):
            return
        # What dates them has to be on disk first: a later process must find the same times.
        has_rows = self._file is not None and self._file.rows > 0
        if not self._write(()) and has_rows:
            return
        if has_rows:
            # What is newer lines up behind it.
            self._commit()
            self._send_page()
        elif self._pending:
            self._send_pending()
        else:
            self._nothing_waits()

    def _send_page(self) -> None:
        pages: list[list[tuple[int, _Row]]] = []
        if not self._try(lambda: pages.append(self._file.page(MAX_DATAPOINTS))) or not pages[-1]:
            return
        page = self._page = pages[-1]
        answers: list[Deferred[None]] = [Deferred() for _ in page]
        owners = zip((row for _, row in page), answers, strict=True)
        if not self.send(self._date(list(owners))):
            self._page = []
            return
        DeferredList(answers, consumeErrors=True).addCallback(self._page_ended, page)

    def _send_pending(self) -> None:
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        if not self.send(self._date(pending)):
            self._pending = pending + self._pending
            self._pending_bytes = sum(row.cost for row, _ in self._pending)
            return
        self._dated += len(pending)
        self._leave()

    def _date(self, rows: Sequence[tuple[_Row, object]]) -> list[Dated]:
        dated: list[Dated] = []
        bounded = 0
        for row, owner in rows:
            date = self.dating.date(row.moment)
            assert date is not None, "the time of day is right"
            at_ms, from_ms = date
            bounded += from_ms is not None
            dated.append((row.event(at_ms, from_ms), at_ms, owner))
        return dated

    def _page_ended(self, results: list[tuple[bool, Any]], page: list[tuple[int, _Row]]) -> None:
        if self._page is not page:
            return  # the file was replaced: they are sent again, with the same times
        self._page = []
        gone = [
            one
            for one, (is_accepted, outcome) in zip(page, results, strict=True)
            if is_accepted or outcome.check(EventRejected) is not None
        ]
        if self._file is None or not self._forget(gone):
            return
        self._dated += len(gone)
        if len(gone) == len(page):
            # In another turn: acceptances that come at once must not recurse.
            if self._look_call is not None:
                self._look_call.cancel()
            self._look_call = self._clock.callLater(0, self._look_again)

    def _forget(self, gone: list[tuple[int, _Row]]) -> bool:
        """Delete rows that were accepted elsewhere. Until that is done nothing more is sent: they
        would be sent again."""
        self._gone = gone
        if self._try(lambda: self._file.delete(self._gone)):
            self._gone = []
            return True
        return False

    def _nothing_waits(self) -> None:
        if self._dated and self.is_taking:
            log.info(
                "the clock is right: {number} readings that were taken before have their time now",
                number=self._dated,
            )
        self._dated = 0
        self._is_dropping = False
        self._set_taking(False)

    def _set_taking(self, is_taking: bool) -> None:
        if is_taking is self.is_taking:
            return
        self.is_taking = is_taking
        if is_taking and not self.dating.is_right():
            log.warn(
                "the clock is not right ({why}): readings are kept, and sent once it is",
                why=self.dating.why(),
            )
        self.changed()
        self._plan_look()
