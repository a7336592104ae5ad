"""Remembers operations by the id of their request, in memory.

It forgets the oldest answers when it holds too many, when their payloads are too large together,
or when they are too old. What still runs is never forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from oda.interfaces import IJournal
from oda.model import ContentType, InterruptedOperation, JournalEntry, OperationRequest


class _Answered(NamedTuple):
    entry: JournalEntry
    answered_at_s: float


@implementer(IJournal)
class MemoryJournal:
    """A journal that lasts as long as the process.

    ``clock`` measures ages; ``max_answers``, ``max_bytes`` (of payloads) and ``max_age_s`` bound
    what is kept.
    """

    def __init__(
        self,
        clock: IReactorTime,
        max_answers: int = 10_000,
        max_bytes: int = 16 * 1024 * 1024,
        max_age_s: float = 3600.0,
    ) -> None:
        self._clock = clock
        self._max_answers = max_answers
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._running: dict[str, JournalEntry] = {}
        self._answered: OrderedDict[str, _Answered] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._running) + len(self._answered)

    def begin(
        self,
        request_id: str,
        name: str,
        acts: bool,
        request: OperationRequest | None = None,
        content_type: ContentType | None = None,
    ) -> JournalEntry | None:
        """As ``IJournal.begin``, at once."""
        self._forget_old()
        entry = self._running.get(request_id)
        if entry is None and request_id in self._answered:
            entry = self._answered[request_id].entry
        if entry is not None and entry.name == name:
            return entry
        self._drop_answer(request_id)
        self._running[request_id] = JournalEntry(name)
        return None

    def answered(self, request_id: str, payload: bytes, content_type: ContentType) -> None:
        """As ``IJournal.answered``; an id that was never begun is ignored."""
        running = self._running.pop(request_id, None)
        if running is None:
            return
        entry = JournalEntry(running.name, payload, content_type)
        self._answered[request_id] = _Answered(entry, self._clock.seconds())
        self._bytes += len(payload)
        while self._bytes > self._max_bytes or len(self._answered) > self._max_answers:
            self._drop_answer(next(iter(self._answered)))

    def interrupted(self) -> tuple[InterruptedOperation, ...]:
        """None: nothing is known of an earlier process."""
        return ()

    def _forget_old(self) -> None:
        oldest_s = self._clock.seconds() - self._max_age_s
        while self._answered:
            request_id, answer = next(iter(self._answered.items()))
            if answer.answered_at_s >= oldest_s:
                return
            self._drop_answer(request_id)

    def _drop_answer(self, request_id: str) -> None:
        answer = self._answered.pop(request_id, None)
        if answer is not None and answer.entry.payload is not None:
            self._bytes -= len(answer.entry.payload)
