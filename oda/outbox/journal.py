"""The journal of operations, in the outbox's store and transactions.

A record is *running* from its request to its answer. The record of an operation that acts is
committed before the operation may run; the record of one that only reads is written together with
its answer. One transaction holds the end of a record and the row of its answer, see ``Outbox.put``.

Memory holds the ids; the store holds the answers. Ids are cheap and keep an operation from running
twice, so they are kept as long as ``journalMaxEntries`` and ``journalMaxAge`` allow. The oldest
answers are deleted earlier if all answers together are too large. A running operation is never
forgotten.

Two requests are the same if id, name, device, path and parameters are equal: platforms repeat
requests, and some test suites use one id for all requests. If an id was used for several requests,
each request that only reads is executed: such a suite reads, writes, and reads again. The journal
keeps only a fingerprint of the request.

An operation that continues after a restart saves its state with its record, until the record ends.
The state is part of the record's JSON (``_Echo``) and needs no table of its own. So the store of an
earlier version needs no migration, and an earlier version ignores the state and answers
"interrupted".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from zlib import crc32

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.errors import OutboxError
from oda.interfaces import IJournal
from oda.log import Logger
from oda.model import ContentType, InterruptedOperation, JournalEntry, OperationRequest
from oda.outbox.committer import Committer
from oda.outbox.fingerprint import UNKNOWN, fingerprint_of
from oda.outbox.ledger import Ledger
from oda.outbox.limits import Limits, side_cost
from oda.outbox.store import StoredRecord, StoreError
from oda.outbox.transaction import Record, Transaction
from oda.settings import OutboxSettings
from oda.wording import is_unicode

_log = Logger()

#: The bytes on disk of a record without its answer and its texts.
_RECORD_BYTES = 64
#: The share of the room that the records may take: 1 in this many.
_IDS_SHARE = 4
#: When answers are too large together, this share is freed at once: 1 in this many.
_CHUNK = 128

#: Id, name and fingerprint of a request.
_Key = tuple[str, str, str]


class _Known(msgspec.Struct, gc=False):
    """An operation in memory. ``record`` is None once memory need not keep it; ``answer_cost`` is 0
    if the answer is not kept; ``saved_cost`` is the size of what the operation saved, in bytes;
    ``id_cost`` is the cost of the record without both."""

    number: int
    key: _Key
    content_type: ContentType
    at_ms: int
    has_ended: bool = False
    acts: bool = True
    record: Record | None = None
    answer_cost: int = 0
    saved_cost: int = 0
    id_cost: int = 0


class _Echo(msgspec.Struct, omit_defaults=True):
    """The parts of a request that its answer repeats, and the fingerprint; never the parameters.
    ``saved`` is what the operation itself saved, with its checksum: the column has none, and a
    damaged state must not be used."""

    device_id: str = ""
    requested_device_id: str = ""
    path: tuple[str, ...] = ()
    timestamp_ms: int | None = None
    fingerprint: str = UNKNOWN
    saved: bytes | None = None
    saved_crc: int = 0


@implementer(IJournal)
class Journal:
    """Made by ``Outbox``. ``now_ms`` is its age clock; ``changed`` requests a commit at the end of
    the turn."""

    def __init__(
        self,
        settings: OutboxSettings,
        committer: Committer,
        ledger: Ledger,
        limits: Limits,
        now_ms: Callable[[], int],
        changed: Callable[[], None],
    ) -> None:
        self._max_entries = settings.journal_max_entries
        self._max_age_ms = int(settings.journal_max_age_s * 1000)
        self._committer = committer
        self._uncommitted = committer.uncommitted
        self._ledger = ledger
        self._limits = limits
        self._now_ms = now_ms
        self._changed = changed
        self._by_key: dict[_Key, _Known] = {}
        #: The number of records of each id.
        self._uses: dict[str, int] = {}
        self._running: dict[int, _Known] = {}
        self._ended: OrderedDict[int, _Known] = OrderedDict()
        self._answers: OrderedDict[int, _Known] = OrderedDict()
        self._interrupted: list[InterruptedOperation] = []
        self._waiting: dict[int, Deferred[int]] = {}
        #: Who waits for what was saved, in order, with the record that holds it.
        self._saving: dict[int, list[tuple[Record, Deferred[None]]]] = {}
        self._on_interrupted: Callable[[], None] | None = None
        self._next_number = 1
        self._answer_cost = 0
        self._id_cost = 0
        self._has_told_forgetting = False
        #: No record becomes too old before this time.
        self._aged_ms = 0

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def cost(self) -> int:
        """The bytes on disk of all records and answers."""
        return self._answer_cost + self._id_cost

    @property
    def _collecting(self) -> Transaction:
        return self._uncommitted.collecting

    # -- IJournal ----------------------------------------------------------------------------

    def begin(
        self,
        request_id: str,
        name: str,
        acts: bool,
        request: OperationRequest | None = None,
        content_type: ContentType | None = None,
    ) -> JournalEntry | Deferred[int] | int:
        now_ms = self._now_ms()
        if now_ms > self._aged_ms:
            self._forget_aged(now_ms)
        key = (request_id, name, fingerprint_of(request))
        uses = self._uses.get(request_id, 0)
        if uses:
            known = self._find(key)
            if known is not None and (acts or uses == 1 or not known.has_ended):
                return self._entry(known)
            if known is not None:
                # The id was used for several requests. This one may be a repetition, or may ask
                # what another one has changed: reading again does no harm.
                self._forget(known)
            _log.info(
                "the platform uses the id {request_id} again for another request, {operation}; the"
                " agent executes it",
                request_id=request_id[:100],
                operation=name,
            )
        if not (request_id.isascii() and name.isascii()) and not is_unicode(request_id + name):
            return fail(OutboxError("the id or the name is not Unicode text"))
        if acts and not self._committer.is_working:
            return fail(OutboxError("the journal can't be written now"))
        number = self._next_number
        self._next_number += 1
        known = _Known(number, key, content_type or ContentType.JSON, now_ms, acts=acts)
        self._remember(known)
        self._running[number] = known
        if not acts:
            # Only its end is recorded: if interrupted, the platform may simply ask again.
            return number
        known.record = Record(
            number, request_id, name, known.content_type.text, _echo(request, key[2]), now_ms
        )
        self._uncommitted.collecting.records[number] = known.record
        recorded = self._waiting[number] = Deferred()
        self._changed()
        return recorded

    def save(self, record: int, saved: bytes) -> Deferred[None]:
        known = self._running.get(record)
        if known is None or known.record is None:
            return fail(OutboxError("the operation is not on record"))
        if not self._committer.store.is_durable:
            return fail(OutboxError("outbox=memory keeps nothing over a restart of the agent"))
        if not self._committer.is_working:
            return fail(OutboxError("the journal can't be written now"))
        echo = _read_echo(known.record.echo)
        echo.saved, echo.saved_crc = saved, crc32(saved)
        self._count_saved(known, len(saved))
        known.record = msgspec.structs.replace(known.record, echo=msgspec.json.encode(echo))
        self._collecting.records[record] = known.record
        committed: Deferred[None] = Deferred()
        self._saving.setdefault(record, []).append((known.record, committed))
        self._changed()
        return committed

    def interrupted(self) -> Sequence[InterruptedOperation]:
        return tuple(one for one in self._interrupted if one.record in self._running)

    def subscribe(self, on_interrupted: Callable[[], None]) -> None:
        self._on_interrupted = on_interrupted

    # -- calls from the outbox ---------------------------------------------------------------

    def end(self, number: int, payload: bytes) -> None:
        """The operation has its final answer. Ignores a number that is unknown or has ended."""
        known = self._running.pop(number, None)
        if known is None:
            return
        known.has_ended = True
        if known.saved_cost:
            self._count_saved(known, 0)
        known.at_ms = self._now_ms()
        known.record = record = self._record_of(known, payload)
        self._uncommitted.collecting.records[number] = record
        known.answer_cost = cost = side_cost(len(payload))
        self._answer_cost += cost
        self._limits.side_cost += cost
        self._ended[number] = self._answers[number] = known
        self._stay_within_bounds()

    def opened(self, records: Sequence[StoredRecord], is_late: bool) -> None:
        """The store was opened: load its records."""
        for one in records:
            self._learn(one)
        self._order()
        self._stay_within_bounds()
        if is_late and self.interrupted() and self._on_interrupted is not None:
            self._ledger.call(self._on_interrupted)

    def begin_at(self, number: int) -> None:
        """The store can't be opened now: use numbers beyond those in it."""
        self._next_number = number

    def committed(self, transaction: Transaction) -> None:
        """The content of ``transaction`` is on disk."""
        ended, waiting, saving = self._ended, self._waiting, self._saving
        for number, record in transaction.records.items():
            known = ended.get(number)
            if known is not None and known.record is record:
                known.record = None
        if not (waiting or saving):
            return
        for number, record in transaction.records.items():
            if number in waiting:
                self._ledger.fire(waiting.pop(number), number)
            if number in saving and record is not None:
                self._saved(number, record)

    def failed(self, transaction: Transaction) -> None:
        """``transaction`` could not be committed: operations that wait for their record must not
        run."""
        for number in list(transaction.records):
            self._refuse(number, "the journal can't be written now")

    def closing(self) -> None:
        """No commit will follow."""
        for number in (*self._waiting, *self._saving):
            self._refuse(number, "the agent is stopping")

    def write_again(self) -> None:
        """The store is about to be replaced: collect every record for the new one. Answers that are
        only on disk come from the old store, as far as it can be read."""
        for known in (*self._running.values(), *self._ended.values()):
            is_on_record = known.acts or known.has_ended
            if known.number in self._collecting.records or not is_on_record:
                continue
            self._collecting.records[known.number] = known.record or self._record_of(known, None)

    # -- the journal of another outbox -------------------------------------------------------

    def take_over(
        self, records: Sequence[tuple[StoredRecord, bytes | None]]
    ) -> Sequence[Deferred[int]]:
        """Add records of another journal, each with its answer, except those that this journal
        already has. The Deferreds fire once the new records are committed. Raises ``OutboxError``
        if no commit can be expected soon."""
        if not self._committer.is_working:
            raise OutboxError("the journal can't be written now")
        recorded: list[Deferred[int]] = []
        for stored, payload in records:
            number = self._next_number
            known = self._add(stored._replace(number=number))
            if known is None:
                continue
            self._next_number += 1
            if known.record is None:
                known.record = self._record_of(known, payload)
            self._collecting.records[number] = known.record
            waiting = self._waiting[number] = Deferred()
            recorded.append(waiting)
        self._order()
        self._stay_within_bounds()
        return recorded

    def tell_interrupted(self) -> None:
        """Interrupted operations were taken over: notify the subscriber that answers them."""
        if self.interrupted() and self._on_interrupted is not None:
            self._ledger.call(self._on_interrupted)
            self._changed()

    # -- inside ------------------------------------------------------------------------------

    def _charge(self, answers: int = 0, ids: int = 0) -> None:
        """Add this many bytes on disk for records and answers."""
        self._answer_cost += answers
        self._id_cost += ids
        self._limits.side_cost += answers + ids

    def _count_saved(self, known: _Known, cost: int) -> None:
        self._charge(ids=cost - known.saved_cost)
        known.saved_cost = cost

    def _saved(self, number: int, record: Record) -> None:
        """``record`` is on disk, and with it whatever was saved no later."""
        waiting = self._saving[number]
        count = next((at for at, one in enumerate(waiting, 1) if one[0] is record), 0)
        if record.has_ended:
            count = len(waiting)
        for _, committed in waiting[:count]:
            self._ledger.fire(committed, None)
        del waiting[:count]
        if not waiting:
            del self._saving[number]

    def _refuse(self, number: int, reason: str) -> None:
        """A record can't be committed; fail its Deferreds, if there are any."""
        for _, committed in self._saving.pop(number, ()):
            self._ledger.fire(committed, Failure(OutboxError(reason)))
        waiting = self._waiting.pop(number, None)
        if waiting is None:
            return
        known = self._running.get(number)
        if known is not None and known.record is not None:
            self._forget(known)
        self._ledger.fire(waiting, Failure(OutboxError(reason)))

    def _learn(self, stored: StoredRecord) -> None:
        number = stored.number
        self._next_number = max(self._next_number, number + 1)
        if number in self._running or number in self._ended:
            return
        if self._add(stored) is None:
            # If the request came again while the store could not be opened, keep the newer record.
            self._collecting.records[number] = None

    def _add(self, stored: StoredRecord) -> _Known | None:
        """Add a record of a store; returns None if it is damaged or already known."""
        try:
            request_id, name = _text(stored.request_id), _text(stored.name)
            content_type = ContentType(_text(stored.content_type))
            echo = _read_echo(None if stored.echo is None else _bytes(stored.echo))
            at_ms = int(stored.at_ms)
        except (ValueError, TypeError, msgspec.MsgspecError) as error:
            _log.warn("an entry of the journal is damaged: {reason}", reason=str(error))
            return None
        key = (request_id, name, echo.fingerprint)
        if key in self._by_key:
            return None
        number = stored.number
        known = _Known(number, key, content_type, at_ms, bool(stored.has_ended))
        self._remember(known)
        if stored.answer_bytes is not None:
            known.answer_cost = side_cost(stored.answer_bytes)
            self._charge(answers=known.answer_cost)
            self._answers[number] = known
        if known.has_ended:
            self._ended[number] = known
            return known
        self._running[number] = known
        request = OperationRequest(
            id=request_id,
            name=name,
            device_id=echo.device_id,
            requested_device_id=echo.requested_device_id,
            path=echo.path,
            timestamp_ms=echo.timestamp_ms,
        )
        saved = echo.saved
        if saved is not None and crc32(saved) != echo.saved_crc:
            _log.error("what {operation} has saved is damaged: it can't continue", operation=name)
            saved = echo.saved = None
        self._count_saved(known, len(saved or b""))
        echoed = msgspec.json.encode(echo)
        known.record = Record(number, request_id, name, content_type.text, echoed, at_ms)
        self._interrupted.append(InterruptedOperation(request, content_type, number, saved))
        return known

    def _order(self) -> None:
        """Put the oldest first, whatever their numbers."""
        for held in (self._ended, self._answers):
            for number in sorted(held, key=lambda one: held[one].at_ms):
                held.move_to_end(number)
        self._aged_ms = 0

    def _record_of(self, known: _Known, payload: bytes | None) -> Record:
        request_id, name, fingerprint = known.key
        return Record(
            known.number,
            request_id,
            name,
            known.content_type.text,
            # As the encoder writes an ``_Echo``.
            b'{"fingerprint":"' + fingerprint.encode() + b'"}' if fingerprint else None,
            known.at_ms,
            known.has_ended,
            payload,
        )

    def _entry(self, known: _Known) -> JournalEntry:
        name = known.key[1]
        if not known.has_ended:
            return JournalEntry(name)
        payload: bytes | None = None
        is_unreadable = False
        if known.record is not None:
            payload = known.record.payload
        elif known.answer_cost:
            try:
                is_unreadable = not self._committer.can_read
                if not is_unreadable:
                    payload = self._committer.store.answer(known.number)
            except StoreError as error:
                is_unreadable = True
                self._committer.read_failed(error)
        if payload is None and known.answer_cost:
            _log.error("the answer to {operation} can't be read", operation=name)
        return JournalEntry(name, payload, known.content_type, True, is_unreadable)

    def _stay_within_bounds(self) -> None:
        limits, ended = self._limits, self._ended
        if self._answer_cost > limits.side_bytes:
            self._forget_answers()
        if len(ended) > self._max_entries or self._id_cost > limits.total // _IDS_SHARE:
            self._forget_oldest()
        self._changed()

    def _forget_answers(self) -> None:
        """Forget the oldest answers: some more than must go, not one with each new answer."""
        answers, collecting = self._answers, self._uncommitted.collecting
        kept = before = self._answer_cost
        most = self._limits.side_bytes * (_CHUNK - 1) // _CHUNK
        dropped = 0
        while kept > most and len(answers) > 1:
            number, known = answers.popitem(last=False)
            kept -= known.answer_cost
            known.answer_cost = 0
            collected = collecting.records.get(number)
            if collected is not None:
                collected.payload = None
            collecting.answers_gone.append(number)
            dropped += 1
        if not dropped:
            return
        self._charge(answers=kept - before)
        self._ledger.counted("journal_answers_forgotten", dropped)
        if not self._has_told_forgetting:
            self._has_told_forgetting = True
            _log.info(
                "the journal has deleted its oldest answers to make room; their operations"
                " still don't run again"
            )

    def _forget_oldest(self) -> None:
        """Forget the oldest records until the others are within their bounds, but for one."""
        ended, most = self._ended, self._limits.total // _IDS_SHARE
        dropped = 0
        while len(ended) > self._max_entries or (self._id_cost > most and len(ended) > 1):
            _, known = ended.popitem(last=False)
            self._forget(known)
            dropped += 1
        if dropped:
            self._ledger.counted("journal_entries_forgotten", dropped)

    def _remember(self, known: _Known) -> None:
        key = known.key
        request_id, name, fingerprint = key
        self._by_key[key] = known
        self._uses[request_id] = self._uses.get(request_id, 0) + 1
        known.id_cost = cost = _RECORD_BYTES + len(request_id) + len(name) + len(fingerprint)
        self._id_cost += cost
        self._limits.side_cost += cost

    def _forget(self, known: _Known) -> None:
        number, key = known.number, known.key
        if self._by_key.pop(key, None) is not None:
            uses = self._uses.pop(key[0]) - 1
            if uses:
                self._uses[key[0]] = uses
        (self._ended if known.has_ended else self._running).pop(number, None)
        if known.answer_cost:
            del self._answers[number]
        self._charge(answers=-known.answer_cost, ids=-known.id_cost - known.saved_cost)
        self._uncommitted.collecting.records[number] = None
        self._changed()

    def _find(self, key: _Key) -> _Known | None:
        known = self._by_key.get(key)
        if known is not None:
            return known
        if key[2] != UNKNOWN:
            return self._by_key.get((*key[:2], UNKNOWN))
        return next((one for one in self._by_key.values() if one.key[:2] == key[:2]), None)

    def _forget_aged(self, now_ms: int) -> None:
        """Forget the records that are too old now, and remember when to look again: records end in
        the order of time."""
        max_age_ms = self._max_age_ms
        self._aged_ms = now_ms + max_age_ms
        while self._ended:
            known = next(iter(self._ended.values()))
            if known.at_ms >= now_ms - max_age_ms:
                self._aged_ms = known.at_ms + max_age_ms
                return
            self._forget(known)


def _echo(request: OperationRequest | None, fingerprint: str) -> bytes | None:
    if request is None:
        return None
    return msgspec.json.encode(
        _Echo(
            request.device_id,
            request.requested_device_id,
            request.path,
            request.timestamp_ms,
            fingerprint,
        )
    )


def _read_echo(echo: bytes | None) -> _Echo:
    return _Echo() if echo is None else msgspec.json.decode(echo, type=_Echo)


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"{value!r} is not text")
    return value


def _text(value: object) -> str:
    return value if isinstance(value, str) else _bytes(value).decode("utf-8")
