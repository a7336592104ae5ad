"""A verified double of the outbox and its journal, whose commits the test chooses.

Nothing is committed by itself, no Deferred fires inside a call, and what was not committed is lost
in a crash. It refuses what the contract forbids: a second end of one record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from oda.errors import OutboxClosed, OutboxError, OutboxFull
from oda.interfaces import IJournal, IOutbox
from oda.model import (
    ContentType,
    InterruptedOperation,
    JournalEntry,
    MessageClass,
    OperationRequest,
    OutboxRow,
    OutgoingMessage,
)


class Record:
    """An operation on record."""

    def __init__(
        self, number: int, name: str, request: OperationRequest | None, kind: ContentType | None
    ) -> None:
        self.number = number
        self.name = name
        self.request = request
        self.content_type = kind or ContentType.JSON
        self.payload: bytes | None = None
        self.has_ended = False
        self.is_on_disk = False
        #: Whether the end is on disk, too.
        self.end_is_on_disk = False
        #: Whether it was running when an earlier process ended.
        self.is_left = False
        #: What it saved, and what of that is on disk.
        self.saved: bytes | None = None
        self.saved_on_disk: bytes | None = None


class Row:
    """A message in the outbox."""

    def __init__(self, row_id: int, message: OutgoingMessage) -> None:
        self.row_id = row_id
        self.message = message
        self.is_on_disk = False
        self.is_taken = False


@implementer(IJournal)
class FakeJournal:
    """The journal of a ``FakeOutbox``."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], Record] = {}
        self.is_known = True  # False: the store could not be opened yet
        self.is_broken = False
        self.is_unreadable = False
        self.waiting: list[tuple[Record, Deferred[int]]] = []
        self.saving: list[Deferred[None]] = []
        self._on_interrupted: list[Callable[[], None]] = []
        self._last = 0

    def begin(
        self,
        request_id: str,
        name: str,
        acts: bool,
        request: OperationRequest | None = None,
        content_type: ContentType | None = None,
    ) -> Any:
        known = self.records.get((request_id, name))
        if known is not None:
            if not known.has_ended:
                return JournalEntry(name)
            if self.is_unreadable:
                return JournalEntry(name, None, known.content_type, True, True)
            return JournalEntry(name, known.payload, known.content_type, True)
        if self.is_broken and acts:
            return fail(OutboxError("the journal can't be written now"))
        self._last += 1
        record = Record(self._last, name, request, content_type)
        self.records[request_id, name] = record
        if not acts:
            return record.number
        recorded: Deferred[int] = Deferred()
        self.waiting.append((record, recorded))
        return recorded

    def save(self, record: int, saved: bytes) -> Deferred[None]:
        known = self.by_number(record)
        if known is None or known.has_ended or not known.is_on_disk:
            return fail(OutboxError("the operation is not on record"))
        if self.is_broken:
            return fail(OutboxError("the journal can't be written now"))
        known.saved = saved
        committed: Deferred[None] = Deferred()
        self.saving.append(committed)
        return committed

    def interrupted(self) -> Sequence[InterruptedOperation]:
        if not self.is_known:
            return ()
        return [
            InterruptedOperation(
                msgspec.structs.replace(one.request, parameters={}),
                one.content_type,
                one.number,
                one.saved_on_disk,
            )
            for one in self.records.values()
            if one.is_left and not one.has_ended and one.request is not None
        ]

    def subscribe(self, on_interrupted: Callable[[], None]) -> None:
        self._on_interrupted.append(on_interrupted)

    def store_opened(self) -> None:
        """The store can be read at last."""
        self.is_known = True
        for told in list(self._on_interrupted):
            told()

    def forget_answers(self) -> None:
        """The answers are no longer kept, the ids are."""
        for record in self.records.values():
            if record.has_ended:
                record.payload = None

    def by_number(self, number: int) -> Record | None:
        """The record of that number."""
        return next((one for one in self.records.values() if one.number == number), None)


@implementer(IOutbox)
class FakeOutbox:
    """``commit`` commits what there is and tells; ``crash`` gives the outbox of the next start."""

    def __init__(self, journal: FakeJournal | None = None) -> None:
        self.journal = journal or FakeJournal()
        self.rows: list[Row] = []
        self.is_full = False
        #: Longer payloads find no room.
        self.max_payload: int | None = None
        self.is_closed = False
        self._accepting: list[tuple[Row, Deferred[int]]] = []
        self._next_id = 1

    # -- IOutbox -----------------------------------------------------------------------------

    def put(self, message: OutgoingMessage) -> Deferred[int]:
        if self.is_closed:
            return fail(OutboxClosed("closed"))
        record = None if message.record is None else self.journal.by_number(message.record)
        if record is not None:
            assert not record.has_ended, "a record ends once"
            record.has_ended, record.payload = True, message.payload
        limit = self.max_payload
        if self.is_full or (limit is not None and len(message.payload) > limit):
            return fail(OutboxFull("no room"))
        row = Row(self._next_id, message)
        self._next_id += 1
        self.rows.append(row)
        accepted: Deferred[int] = Deferred()
        self._accepting.append((row, accepted))
        return accepted

    def take(
        self, max_messages: int, max_bytes: int, only: MessageClass | None = None
    ) -> Sequence[OutboxRow]:
        taken = []
        for row in self.rows[:]:
            message = row.message
            if (
                len(taken) >= max_messages
                or row.is_taken
                or only not in (None, message.message_class)
            ):
                continue
            if message.waits_for_commit and not row.is_on_disk:
                continue
            row.is_taken = True
            taken.append(
                OutboxRow(row.row_id, message.payload, message.message_class, message.is_text, 0, 1)
            )
        return taken

    def retire(self, row_ids: Sequence[int], linger_s: float | None = None) -> None:
        self.rows = [row for row in self.rows if row.row_id not in row_ids]

    def rewind(self, replay_lingering: bool, max_bytes: int | None = None) -> None:
        for row in self.rows:
            row.is_taken = False

    def settle(self) -> None:
        """Nothing lingers here."""

    def bury(self, row_ids: Sequence[int], reason: str) -> None:
        self.retire(row_ids)

    def subscribe(self, on_pending: Callable[[], None]) -> None:
        """The test takes when it likes."""

    def answer_bytes(self) -> int:
        return sum(len(row.message.payload) for row in self.rows)

    def counts(self) -> Mapping[str, int]:
        return {"waiting": len(self.rows), "in_flight": 0, "lingering": 0, "dead": 0, "bytes": 0}

    def close(self) -> Deferred[None]:
        self.is_closed = True
        closed: Deferred[None] = Deferred()
        closed.callback(None)
        return closed

    # -- what the test decides ---------------------------------------------------------------

    @property
    def payloads(self) -> list[bytes]:
        """What was put, oldest first."""
        return [row.message.payload for row in self.rows]

    def commit(self) -> bool:
        """Commit all there is, then tell; False if there was nothing."""
        waiting, self.journal.waiting = self.journal.waiting, []
        saving, self.journal.saving = self.journal.saving, []
        accepting, self._accepting = self._accepting, []
        for row in self.rows:
            row.is_on_disk = True
        for record in self.journal.records.values():
            record.is_on_disk = True
            record.end_is_on_disk = record.has_ended
            record.saved_on_disk = record.saved
        for record, recorded in waiting:
            recorded.callback(record.number)
        for committed in saving:
            committed.callback(None)
        for row, accepted in accepting:
            accepted.callback(row.row_id)
        return bool(waiting or saving or accepting)

    def commit_all(self) -> None:
        """Commit until nothing is left to commit."""
        while self.commit():
            pass

    def crash(self) -> FakeOutbox:
        """What the next process finds: what was committed."""
        left = FakeJournal()
        for key, record in self.journal.records.items():
            if not record.is_on_disk:
                continue
            left.records[key] = record
            if not record.end_is_on_disk:
                record.has_ended, record.payload = False, None
                record.is_left = True
                record.saved = record.saved_on_disk
        left._last = self.journal._last
        after = FakeOutbox(left)
        after.rows = [row for row in self.rows if row.is_on_disk]
        after._next_id = self._next_id
        after.rewind(False)
        return after
