"""The journal of operations, in the store of the outbox and in its transactions.

An id is *running* from its request to its answer. For an operation that acts, that is committed
before it may run; one that only reads is written when it is answered. The ids are known in memory,
the answers are read from the file. The oldest answers are forgotten when there are too many, when
they are too large together or too old; what still runs never is.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from zope.interface import implementer

from oda.errors import OutboxError
from oda.interfaces import IJournal
from oda.model import ContentType, InterruptedOperation, JournalEntry, OperationRequest
from oda.outbox.change import Change, JournalRow
from oda.outbox.committer import Committer, State
from oda.outbox.room import side_cost
from oda.outbox.store import UNREADABLE
from oda.settings import OutboxSettings

_log = Logger()


class _Known(msgspec.Struct, gc=False):
    """An operation as it is remembered; ``row`` is None once it need not be kept in memory."""

    seq: int
    name: str
    at_ms: int
    cost: int = 0
    row: JournalRow | None = None
    content_type: str | None = None


class _Echo(msgspec.Struct, omit_defaults=True):
    """What an answer has to repeat of its request; never its parameters."""

    device_id: str = ""
    requested_device_id: str = ""
    path: tuple[str, ...] = ()
    timestamp_ms: int | None = None


@implementer(IJournal)
class DurableJournal:
    """Made by ``DurableOutbox``. ``changed(cost)`` is told the bytes on disk it takes."""

    def __init__(
        self,
        settings: OutboxSettings,
        committer: Committer,
        now_ms: Callable[[], int],
        changed: Callable[[int], None],
        max_bytes: int,
    ) -> None:
        self._max_entries = settings.journal_max_entries
        self._max_age_ms = int(settings.journal_max_age_s * 1000)
        self._max_bytes = max_bytes
        self._committer = committer
        self._uncommitted = committer.uncommitted
        self._now_ms = now_ms
        self._changed = changed
        self._running: dict[str, _Known] = {}
        self._answered: OrderedDict[str, _Known] = OrderedDict()
        self._interrupted: list[InterruptedOperation] = []
        self._recording: dict[int, tuple[str, Deferred[None]]] = {}
        self._next_seq = 1
        self._cost = 0
        #: The answers of operations that act, from ``answered`` until the next commit: the outbox
        #: must not send them before.
        self.uncommitted_answers: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._running) + len(self._answered)

    # -- IJournal ----------------------------------------------------------------------------

    def begin(
        self,
        request_id: str,
        name: str,
        acts: bool,
        request: OperationRequest | None = None,
        content_type: ContentType | None = None,
    ) -> JournalEntry | Deferred[None] | None:
        now_ms = self._now_ms()
        self._forget_before(now_ms - self._max_age_ms)
        known = self._running.get(request_id)
        if known is not None and known.name == name:
            return JournalEntry(name)
        known = self._answered.get(request_id)
        if known is not None and known.name == name:
            return self._entry(known)
        if acts and self._committer.state in (State.TROUBLE, State.NEW, State.CLOSED):
            return fail(OutboxError("the journal can't be written now"))
        self._drop(request_id)
        known = _Known(self._next_seq, name, now_ms)
        self._next_seq += 1
        self._running[request_id] = known
        if not acts:
            return None
        echo = None
        if request is not None:
            echo = msgspec.json.encode(
                _Echo(
                    request.device_id,
                    request.requested_device_id,
                    request.path,
                    request.timestamp_ms,
                )
            )
        format_ = None if content_type is None else content_type.value
        self._write(
            known, JournalRow(known.seq, request_id, name, format_, echo, known.at_ms, None)
        )
        recorded: Deferred[None] = Deferred()
        self._recording[known.seq] = (request_id, recorded)
        return recorded

    def answered(self, request_id: str, payload: bytes, content_type: ContentType) -> None:
        known = self._running.pop(request_id, None)
        if known is None:
            return
        if known.row is not None:
            self.uncommitted_answers.add(payload)
        at_ms = known.at_ms = self._now_ms()
        spoken = known.content_type = content_type.value
        self._answered[request_id] = known
        row = JournalRow(known.seq, request_id, known.name, spoken, None, at_ms, payload)
        self._write(known, row)
        while len(self._answered) > 1 and (
            len(self._answered) > self._max_entries or self._cost > self._max_bytes
        ):
            self._drop(next(iter(self._answered)))

    def interrupted(self) -> Sequence[InterruptedOperation]:
        return tuple(self._interrupted)

    # -- what the outbox tells ---------------------------------------------------------------

    def opened(self) -> None:
        """The store was opened: learn what it knows."""
        reader = self._committer.reader
        if reader is None:
            return
        newer = (self._running, self._answered)
        mine = [dict(one) for one in newer]
        for row in reader.query(
            "SELECT seq, request_id, name, content_type, request, at_ms, length(payload)"
            " FROM journal ORDER BY seq"
        ):
            self._learn(*row)
        for kept, new in zip(newer, mine, strict=True):
            for request_id, known in new.items():
                # Their numbers may be taken by older entries of the store: give them others.
                self._renumber(known)
                kept[request_id] = known
        self._changed(self._cost)

    def committed(self, change: Change) -> None:
        """What ``change`` says is on disk."""
        self.uncommitted_answers.clear()
        for seq, row in change.journal.items():
            if row is not None:
                known = self._answered.get(row.request_id)
                if known is not None and known.row is row:
                    known.row = None
            waiting = self._recording.pop(seq, None)
            if waiting is not None:
                waiting[1].callback(None)

    def failed(self, change: Change) -> None:
        """``change`` could not be committed: operations that wait for their record must not run."""
        self.uncommitted_answers.clear()
        for seq in list(change.journal):
            waiting = self._recording.pop(seq, None)
            if waiting is not None:
                request_id, recorded = waiting
                self._drop(request_id)
                recorded.errback(OutboxError("the journal can't be written now"))

    # -- inside ------------------------------------------------------------------------------

    def _learn(
        self,
        seq: int,
        request_id: object,
        name: object,
        content_type: object,
        request: object,
        at_ms: int,
        length: int | None,
    ) -> None:
        try:
            identity, operation = _text(request_id), _text(name)
            format_ = None if content_type is None else _text(content_type)
            echo = _Echo() if request is None else msgspec.json.decode(_bytes(request), type=_Echo)
            spoken = ContentType(format_) if format_ is not None else ContentType.JSON
        except (ValueError, TypeError) as error:
            _log.warn("an entry of the journal is damaged: {reason}", reason=str(error))
            self._uncommitted.collecting.journal[seq] = None
            return
        self._next_seq = max(self._next_seq, seq + 1)
        known = _Known(seq, operation, at_ms, _cost(identity, length or 0), None, format_)
        self._cost += known.cost
        if length is not None:
            self._answered[identity] = known
            return
        self._running[identity] = known
        self._interrupted.append(
            InterruptedOperation(
                OperationRequest(
                    id=identity,
                    name=operation,
                    device_id=echo.device_id,
                    requested_device_id=echo.requested_device_id,
                    path=echo.path,
                    timestamp_ms=echo.timestamp_ms,
                ),
                spoken,
            )
        )

    def _entry(self, known: _Known) -> JournalEntry:
        payload: bytes | None = None
        if known.row is not None:
            payload = known.row.payload
        elif (reader := self._committer.reader) is not None:
            try:
                for crc, found in reader.query(
                    "SELECT crc, payload FROM journal WHERE seq = ?", (known.seq,)
                ):
                    if isinstance(found, bytes) and zlib.crc32(found) == crc:
                        payload = found
            except UNREADABLE as error:
                self._committer.read_failed(error)
        if payload is None:
            # It must not run again, and its answer is lost with a part of the file.
            _log.error("the answer to {operation} is lost", operation=known.name)
            return JournalEntry(known.name)
        return JournalEntry(known.name, payload, ContentType(known.content_type))

    def _write(self, known: _Known, row: JournalRow) -> None:
        cost = _cost(row.request_id, len(row.payload or b""))
        self._cost += cost - known.cost
        known.cost = cost
        known.row = row
        self._uncommitted.collecting.journal[known.seq] = row
        self._changed(self._cost)

    def _renumber(self, known: _Known) -> None:
        row = known.row
        if row is None:
            known.seq = self._next_seq
            self._next_seq += 1
            return
        journal = self._uncommitted.collecting.journal
        journal.pop(known.seq, None)
        known.seq = row.seq = self._next_seq
        self._next_seq += 1
        journal[known.seq] = row

    def _drop(self, request_id: str) -> None:
        known = self._running.pop(request_id, None) or self._answered.pop(request_id, None)
        if known is not None:
            self._cost -= known.cost
            self._uncommitted.collecting.journal[known.seq] = None
            self._changed(self._cost)

    def _forget_before(self, oldest_ms: int) -> None:
        while self._answered:
            request_id, known = next(iter(self._answered.items()))
            if known.at_ms >= oldest_ms:
                return
            self._drop(request_id)


def _cost(request_id: str, payload_bytes: int) -> int:
    return side_cost(payload_bytes + len(request_id))


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"{value!r} is no text")
    return value


def _text(value: object) -> str:
    return _bytes(value).decode("utf-8")
