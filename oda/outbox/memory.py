"""An outbox that lives in memory: ordered, bounded and acknowledged, but gone with the process.

A row is in exactly one place: *pending* (one queue for responses, one for telemetry), *in flight*,
*lingering* or *dead*. Rows are taken from the head of a queue, so whatever was taken is older than
what is still pending in its class: putting rows back in front, sorted by id, restores the order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from oda.errors import OutboxClosed, OutboxFull
from oda.interfaces import ICounters, IOutbox
from oda.model import MessageClass, OutboxRow, OutgoingMessage
from oda.settings import OutboxSettings

_log = Logger()

#: The part of ``max_bytes`` that only responses may use, on top of what telemetry fills.
_RESPONSE_SHARE = 4
#: Dead letters are kept for inspection, but not without end.
_MAX_DEAD = 1000


class _Kept(msgspec.Struct):
    """A message with its fate."""

    row_id: int
    message: OutgoingMessage
    accepted_s: float
    attempts: int = 0
    expires_s: float = 0.0


@implementer(IOutbox)
class MemoryOutbox:
    """``reactor`` gives monotonic seconds and ``callLater``. The room for responses holds at least
    two messages of ``max_message_bytes``; an answer is taken as long as those that wait don't fill
    it."""

    def __init__(
        self,
        settings: OutboxSettings,
        reactor: Any,
        counters: ICounters,
        max_message_bytes: int,
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._counters = counters
        self._response_room = max(settings.max_bytes // _RESPONSE_SHARE, 2 * max_message_bytes)
        self._next_id = 1
        self._pending: dict[MessageClass, deque[_Kept]] = {
            MessageClass.RESPONSE: deque(),
            MessageClass.TELEMETRY: deque(),
        }
        self._bytes = dict.fromkeys(MessageClass, 0)
        self._lingering_answer_bytes = 0
        self._in_flight: dict[int, _Kept] = {}
        self._lingering: deque[_Kept] = deque()
        self._dead: deque[tuple[_Kept, str]] = deque(maxlen=_MAX_DEAD)
        self._on_pending: Callable[[], None] | None = None
        self._told = False
        self._closed = False
        self._dropped = 0

    def open(self) -> None:
        """Say what this kind of outbox can't promise."""
        _log.warn(
            "outbox=memory: what is not delivered when the agent ends, or its machine loses power,"
            " is lost"
        )

    def settle(self) -> None:
        """The platform has closed the connection in good order (1000): what it acknowledged need
        not be repeated any more."""
        while self._lingering:
            self._let_go(self._lingering.popleft())

    def put(self, message: OutgoingMessage) -> Deferred[int]:
        if self._closed:
            return fail(OutboxClosed("the agent is stopping"))
        size = len(message.payload)
        if not self._make_room(message.message_class, size):
            return fail(OutboxFull(f"no room for a {message.message_class.value} of {size} bytes"))
        kept = _Kept(self._next_id, message, self._reactor.seconds())
        self._next_id += 1
        self._pending[message.message_class].append(kept)
        self._bytes[message.message_class] += size
        self._counters.increment("messages_accepted")
        self._tell()
        return succeed(kept.row_id)

    def take(
        self, max_messages: int, max_bytes: int, only: MessageClass | None = None
    ) -> Sequence[OutboxRow]:
        self._told = False
        rows: list[OutboxRow] = []
        total = 0
        now_s = self._reactor.seconds()
        for message_class in MessageClass if only is None else (only,):
            queue = self._pending[message_class]
            while queue and len(rows) < max_messages:
                size = len(queue[0].message.payload)
                if rows and total + size > max_bytes:
                    return rows
                kept = queue.popleft()
                total += size
                rows.append(_row_of(kept, now_s))
                kept.attempts += 1
                self._in_flight[kept.row_id] = kept
        return rows

    def retire(self, row_ids: Sequence[int], linger_s: float | None = None) -> None:
        if linger_s is None:
            linger_s = self._settings.linger_s
        expires_s = self._reactor.seconds() + linger_s
        for row_id in row_ids:
            kept = self._in_flight.pop(row_id)
            kept.expires_s = expires_s
            self._linger(kept, 1)
            self._lingering.append(kept)
        self._forget_expired()

    def rewind(self, replay_lingering: bool) -> None:
        self._forget_expired()
        back = list(self._in_flight.values())
        self._in_flight.clear()
        if replay_lingering:
            back.extend(self._lingering)
            self._lingering.clear()
            self._lingering_answer_bytes = 0
        back.sort(key=lambda kept: kept.row_id)
        for kept in reversed(back):
            self._pending[kept.message.message_class].appendleft(kept)
        if back:
            self._tell()

    def bury(self, row_ids: Sequence[int], reason: str) -> None:
        for row_id in row_ids:
            kept = self._in_flight.pop(row_id)
            self._release(kept)
            self._dead.append((kept, reason))
            self._counters.increment(
                "messages_dead", message_class=kept.message.message_class.value
            )
            _log.error(
                "message {row_id} ({size} bytes) is set aside: {reason}",
                row_id=row_id,
                size=len(kept.message.payload),
                reason=reason,
            )

    def subscribe(self, on_pending: Callable[[], None]) -> None:
        self._on_pending = on_pending

    def answer_bytes(self) -> int:
        return self._bytes[MessageClass.RESPONSE] - self._lingering_answer_bytes

    def counts(self) -> Mapping[str, int]:
        self._forget_expired()
        unproven = [
            *self._in_flight.values(),
            *(queue[0] for queue in self._pending.values() if queue),
        ]
        now_s = self._reactor.seconds()
        oldest_s = min((kept.accepted_s for kept in unproven), default=now_s)
        return {
            "oldest_age_ms": round((now_s - oldest_s) * 1000),
            "pending": sum(len(queue) for queue in self._pending.values()),
            "in_flight": len(self._in_flight),
            "lingering": len(self._lingering),
            "dead": len(self._dead),
            "bytes": sum(self._bytes.values()),
        }

    def close(self) -> Deferred[None]:
        if not self._closed:
            self._closed = True
            left = [*self._everything_pending(), *self._in_flight.values()]
            if left:
                self._counters.increment("messages_dropped", len(left), reason="stopped")
                _log.warn(
                    "{count} messages were not delivered and are lost: the outbox is in memory",
                    count=len(left),
                )
        return succeed(None)

    # -- inside ------------------------------------------------------------------------------

    def _everything_pending(self) -> Iterable[_Kept]:
        for queue in self._pending.values():
            yield from queue

    def _tell(self) -> None:
        """Wake the connector once for everything that arrives in this reactor turn."""
        if self._on_pending is not None and not self._told:
            self._told = True
            self._reactor.callLater(0, self._tell_now)

    def _tell_now(self) -> None:
        if self._told and self._on_pending is not None and not self._closed:
            self._told = False
            self._on_pending()

    def _release(self, kept: _Kept) -> None:
        self._bytes[kept.message.message_class] -= len(kept.message.payload)

    def _let_go(self, kept: _Kept) -> None:
        self._release(kept)
        self._linger(kept, -1)

    def _linger(self, kept: _Kept, sign: int) -> None:
        if kept.message.message_class is MessageClass.RESPONSE:
            self._lingering_answer_bytes += sign * len(kept.message.payload)

    def _forget_expired(self) -> None:
        now_s = self._reactor.seconds()
        while self._lingering and self._lingering[0].expires_s <= now_s:
            self._let_go(self._lingering.popleft())

    def _room(self, message_class: MessageClass) -> int:
        if message_class is MessageClass.RESPONSE:
            return self._response_room
        return self._settings.max_bytes

    def _make_room(self, message_class: MessageClass, size: int) -> bool:
        """Drop acknowledged rows first, then the oldest pending ones of the same class."""
        room = self._room(message_class)
        queue = self._pending[message_class]
        if self._fits(message_class, size, room):
            return True
        if message_class is MessageClass.RESPONSE and len(queue) < self._settings.max_rows:
            self._forget_expired()
            self._drop_lingering(message_class, size, room)
            if self.answer_bytes() < room:
                return True  # even without room: a request that was read has to be answered
        taken = sum(
            len(kept.message.payload)
            for kept in self._in_flight.values()
            if kept.message.message_class is message_class
        )
        if taken + size > room:
            return False  # what is in flight can't be dropped: dropping the rest would not help
        self._forget_expired()
        self._drop_lingering(message_class, size, room)
        dropped = 0
        while queue and not self._fits(message_class, size, room):
            self._release(queue.popleft())
            dropped += 1
        if dropped:
            self._counters.increment(
                "messages_dropped", dropped, reason="full", message_class=message_class.value
            )
            if self._dropped == 0:
                _log.warn("the outbox is full: the oldest messages are dropped, and counted")
            self._dropped += dropped
        return self._fits(message_class, size, room)

    def _drop_lingering(self, message_class: MessageClass, size: int, room: int) -> None:
        spared: list[_Kept] = []
        while self._lingering and self._bytes[message_class] + size > room:
            kept = self._lingering.popleft()
            if kept.message.message_class is message_class:
                self._let_go(kept)
            else:
                spared.append(kept)
        self._lingering.extendleft(reversed(spared))

    def _fits(self, message_class: MessageClass, size: int, room: int) -> bool:
        return (
            self._bytes[message_class] + size <= room
            and len(self._pending[message_class]) < self._settings.max_rows
        )


def _row_of(kept: _Kept, now_s: float) -> OutboxRow:
    message = kept.message
    payload = message.payload
    if message.fresh_payload is not None and kept.attempts == 0 and now_s <= message.fresh_until_s:
        payload = message.fresh_payload
    return OutboxRow(
        row_id=kept.row_id,
        payload=payload,
        message_class=message.message_class,
        is_text=message.is_text,
        datapoints=message.datapoints,
        attempts=kept.attempts + 1,
    )
