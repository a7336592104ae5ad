"""The life of an operation: queued while the device is not connected, sent, partly answered,
answered, or timed out.

::

    queued ──device connects──> sent ──partial answers──> sent ──answer──> answered
      └─────────────── timeout ──┴──> timed_out ──answer all the same──> answered (late)

Answers are matched by the request's id. Each message after the answer counts as an extra answer,
and as a differing one if its content differs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from oda.interfaces import ICodecRegistry, IWallClock
from oda.model import ContentType
from oda.platform.delivery import OperationDelivery
from oda.platform.faults import OperationsMode
from oda.platform.ledger import OperationLedger
from oda.platform.logger import PlatformLogger
from oda.platform.operation import Operation, OperationState, OperationTimedOut, Order
from oda.platform.sessions import Session
from oda.platform.wire import Answer, WrongParameter, request_document

log = PlatformLogger()

#: How many operations may wait for their answers at once.
_MAX_OPEN = 10_000
#: How many partial answers of one operation are kept, and lines of its transcript.
_MAX_PARTIALS = 100
_MAX_LINES = 1000


class _Live:
    """An operation in memory, with its payload and its waiting callers."""

    def __init__(self, operation: Operation, payload: bytes) -> None:
        self.operation = operation
        self.payload = payload
        self.lines = operation.extra_answers
        self.timer: IDelayedCall | None = None
        self.waiting: list[Deferred[Operation]] = []


class Requests:
    """Takes orders, sends them when their device is connected, and matches the answers.

    ``find_session`` returns the device's open session or None; ``mode_of`` the ``OperationsMode``
    in force for a device; ``new_id`` an id never used before; ``changed`` is called at every
    change.
    """

    def __init__(
        self,
        reactor: Any,
        clock: IWallClock,
        codecs: ICodecRegistry,
        ledger: OperationLedger,
        find_session: Callable[[str], Session | None],
        mode_of: Callable[[str], OperationsMode],
        new_id: Callable[[], str],
        changed: Callable[[Operation], None],
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._codecs = codecs
        self._ledger = ledger
        self._find_session = find_session
        self._mode_of = mode_of
        self._new_id = new_id
        self._changed = changed
        self._delivery = OperationDelivery(reactor)
        self._live: dict[str, _Live] = {}
        self._queues: dict[str, list[_Live]] = {}

    def post(self, order: Order) -> Operation:
        """Send an operation, or queue it until its device connects.

        Raises ``WrongParameter`` for what can't be encoded or an id that is in use.
        """
        if len(self._live) >= _MAX_OPEN:
            raise WrongParameter("operations", f"{_MAX_OPEN} are waiting for their answers")
        request_id = order.operation_id or self._new_id()
        if request_id in self._live or self._ledger.find(request_id) is not None:
            raise WrongParameter("id", f"{request_id!r} was used before")
        now_ms = self._clock.now_ms()
        document = request_document(
            request_id,
            order.name,
            order.parameters,
            order.device,
            order.path,
            now_ms,
            order.dialect,
        )
        operation = Operation(
            id=request_id,
            device=order.session_device,
            name=order.name,
            state=OperationState.QUEUED,
            created_ms=now_ms,
            timeout_s=order.timeout_s,
            request=document["operation"]["request"],
            format=order.content_type,
            is_text=order.content_type is ContentType.JSON and not order.as_binary,
        )
        live = self._follow(operation, order.timeout_s)
        self._note(live, "queued", None)
        session = self._find_session(order.session_device)
        if session is None:
            self._queues.setdefault(order.session_device, []).append(live)
        else:
            self._send(live, session)
        return operation

    def restore(self) -> None:
        """Continue what an earlier run of the platform left open: queued operations are sent when
        their device connects, sent ones wait for their answer, each until its timeout."""
        now_ms = self._clock.now_ms()
        for document in self._ledger.open_operations():
            operation = msgspec.json.decode(document, type=Operation)
            left_s = operation.timeout_s - (now_ms - operation.created_ms) / 1000
            live = self._follow(operation, min(max(0.0, left_s), operation.timeout_s))
            if operation.state is OperationState.QUEUED:
                self._queues.setdefault(operation.device, []).append(live)

    def _follow(self, operation: Operation, timeout_s: float) -> _Live:
        codec = self._codecs.codec(operation.format)
        live = _Live(operation, codec.encode({"operation": {"request": operation.request}}))
        self._live[operation.id] = live
        live.timer = self._reactor.callLater(timeout_s, self._time_out, live)
        return live

    def device_connected(self, session: Session) -> None:
        """Send what is queued for the device."""
        for live in self._queues.pop(session.device, []):
            self._send(live, session)

    def answer_read(self, device: str, answer: Answer) -> None:
        """The device has answered, partly or finally."""
        live = self._live.get(answer.id) or self._revive(answer.id)
        if live is None:
            log.info("{device} sent an answer {id} without a request", device=device, id=answer.id)
            return
        operation = live.operation
        if operation.state is OperationState.ANSWERED:
            self._count_extra(live, answer)
        elif answer.is_final:
            self._finish(live, answer)
        else:
            operation.partials = [*operation.partials, dict(answer.response)][-_MAX_PARTIALS:]
            self._note(live, "partial", answer.response)

    def find(self, operation_id: str) -> Operation | None:
        """An operation by its id, None when it is unknown (or forgotten)."""
        live = self._live.get(operation_id)
        return live.operation if live else _load(self._ledger.find(operation_id))

    def wait(self, operation_id: str) -> Deferred[Operation]:
        """Fires with the operation once it is answered, or fails with ``OperationTimedOut``; at
        once if that has already happened. May be cancelled."""
        live = self._live.get(operation_id)
        waiting: Deferred[Operation] = Deferred()
        if live is None:
            operation = _load(self._ledger.find(operation_id))
            if operation is None:
                raise WrongParameter("id", f"no operation {operation_id!r}")
            _settle(waiting, operation)
            return waiting
        waiting = Deferred(live.waiting.remove)
        live.waiting.append(waiting)
        return waiting

    def close(self) -> None:
        """Stop sending; open operations stay as recorded."""
        self._delivery.close()
        for live in self._live.values():
            if live.timer is not None and live.timer.active():
                live.timer.cancel()
        self._live.clear()
        self._queues.clear()

    def _send(self, live: _Live, session: Session) -> None:
        operation = live.operation
        operation.state = OperationState.SENT
        operation.sent_ms = self._clock.now_ms()
        log.info(
            "sent {name} {id} to {device}",
            name=operation.name,
            id=operation.id,
            device=operation.device,
        )
        self._note(live, "sent", None)
        mode = self._mode_of(operation.device)
        self._delivery.send(session, live.payload, operation.is_text, mode)

    def _finish(self, live: _Live, answer: Answer) -> None:
        operation = live.operation
        operation.is_late = operation.state is OperationState.TIMED_OUT
        operation.state = OperationState.ANSWERED
        operation.answered_ms = self._clock.now_ms()
        operation.duration_ms = operation.answered_ms - (operation.sent_ms or operation.created_ms)
        operation.answer = dict(answer.response)
        log.info(
            "{device} answered {name} {id}: {result}",
            device=operation.device,
            name=operation.name,
            id=operation.id,
            result=answer.response.get("resultCode"),
        )
        self._note(live, "answered", None)
        self._settle(live)

    def _count_extra(self, live: _Live, answer: Answer) -> None:
        operation = live.operation
        operation.extra_answers += 1
        if not answer.is_final or dict(answer.response) != operation.answer:
            operation.differing_answers += 1
        log.info("{device} answered {id} again", device=operation.device, id=operation.id)
        self._note(live, "extra", answer.response)

    def _time_out(self, live: _Live) -> None:
        live.timer = None
        operation = live.operation
        operation.state = OperationState.TIMED_OUT
        operation.timed_out_ms = self._clock.now_ms()
        queue = self._queues.get(operation.device)
        if queue is not None and live in queue:
            queue.remove(live)
        log.info(
            "{name} {id} for {device} timed out",
            name=operation.name,
            id=operation.id,
            device=operation.device,
        )
        self._note(live, "timed_out", None)
        self._settle(live)

    def _settle(self, live: _Live) -> None:
        """The operation has ended: from now on only the ledger has it."""
        if live.timer is not None and live.timer.active():
            live.timer.cancel()
        live.timer = None
        self._live.pop(live.operation.id, None)
        waiting, live.waiting = live.waiting, []
        for one in waiting:
            _settle(one, live.operation)

    def _revive(self, operation_id: str) -> _Live | None:
        operation = _load(self._ledger.find(operation_id))
        return None if operation is None else _Live(operation, b"")

    def _note(self, live: _Live, event: str, document: Any) -> None:
        operation = live.operation
        live.lines += 1
        self._ledger.note(
            operation.id,
            operation.device,
            operation.created_ms,
            msgspec.json.encode(operation),
            event if live.lines <= _MAX_LINES else None,
            None if document is None else msgspec.json.encode(document),
        )
        self._changed(operation)


def _settle(waiting: Deferred[Operation], operation: Operation) -> None:
    if operation.state is OperationState.TIMED_OUT:
        waiting.errback(OperationTimedOut(operation))
    else:
        waiting.callback(operation)


def _load(document: bytes | None) -> Operation | None:
    return None if document is None else msgspec.json.decode(document, type=Operation)
