"""One request on its way through the agent, from the journal to its one answer.

::

    RECORDING --> WAITING --> RUNNING --> ENDED      every stage may go straight to ENDED:
                                                     time limit, stop, a repeated id, no room

Whatever happens, ``answer`` fires exactly once; ``ENDED`` is entered before it does, and all that
comes later (a handler that ignores its cancellation, more progress) is dropped there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from oda.errors import OperationError, OperationNotSupported
from oda.interfaces import ICounters, IJournal, IOperation
from oda.model import (
    ContentType,
    JournalEntry,
    OperationRequest,
    OperationResult,
    ResultCode,
    Step,
)
from oda.operations.admission import Admission
from oda.operations.answer import AnswerWriter, reason_of
from oda.operations.response import failure

log = Logger()

NOT_SUPPORTED_TEXT = "Operation not supported by the device"

_RESULT_CODES = {code.value: code for code in ResultCode}


class Stage(Enum):
    """How far a request has come."""

    RECORDING = auto()
    WAITING = auto()
    RUNNING = auto()
    ENDED = auto()


class Surroundings:
    """What all executions of a dispatcher share. ``timeout_s`` may change while they run: it is
    read when an execution starts to wait for something."""

    __slots__ = (
        "admission",
        "clock",
        "counters",
        "journal",
        "send_partial",
        "timeout_s",
        "writer",
    )

    def __init__(
        self,
        writer: AnswerWriter,
        journal: IJournal,
        admission: Admission,
        send_partial: Callable[[bytes, ContentType], object],
        clock: IReactorTime,
        counters: ICounters,
        timeout_s: float,
    ) -> None:
        self.writer = writer
        self.journal = journal
        self.admission = admission
        self.send_partial = send_partial
        self.clock = clock
        self.counters = counters
        self.timeout_s = timeout_s


class Execution:
    """Runs one request. ``answer`` fires with the payload of the answer, or with None when the
    same request is running already: that one's answer is the answer to both."""

    __slots__ = (
        "_around",
        "_arrived_s",
        "_content_type",
        "_operation",
        "_pending",
        "_request",
        "_stage",
        "_steps",
        "_timer",
        "answer",
    )

    def __init__(
        self,
        around: Surroundings,
        operation: IOperation,
        request: OperationRequest,
        content_type: ContentType,
    ) -> None:
        self._around = around
        self._operation = operation
        self._request = request
        self._content_type = content_type
        self._stage = Stage.RECORDING
        self._arrived_s = around.clock.seconds()
        self._pending: Deferred[Any] | None = None
        self._timer: IDelayedCall | None = None
        self._steps: Sequence[Step] = ()
        self.answer: Deferred[bytes | None] = Deferred()

    @property
    def stage(self) -> Stage:
        """How far it has come; ``ENDED`` when ``answer`` has fired or is about to."""
        return self._stage

    def begin(self) -> None:
        """Called once. The time limit counts from here."""
        request, operation = self._request, self._operation
        try:
            entry = self._around.journal.begin(
                request.id, request.name, not operation.reads_only, request, self._content_type
            )
        except Exception as error:  # noqa: BLE001 - logged and, where it matters, answered
            entry = fail(error)
        if isinstance(entry, Deferred):
            entry.addCallbacks(self._recorded, self._not_recorded)
        else:
            self._recorded(entry)
        if self._stage is not Stage.ENDED:
            timeout_s = self._around.timeout_s
            self._timer = self._around.clock.callLater(timeout_s, self._time_is_up, timeout_s)

    def run(self) -> None:
        """Called by the admission when it is this operation's turn."""
        self._stage = Stage.RUNNING
        try:
            outcome = self._operation.execute(self._request, self.progress)
        except Exception as error:  # noqa: BLE001 - the boundary to foreign code; it is answered
            outcome = fail(error)
        if inspect.iscoroutine(outcome):
            outcome = Deferred.fromCoroutine(outcome)
        if isinstance(outcome, Deferred):
            self._pending = outcome
            outcome.addCallbacks(self._returned, self._failed)
        else:
            self._returned(outcome)

    def progress(self, steps: Sequence[Step]) -> None:
        """As described at ``IOperation.execute``. Raises ``OperationFailed`` in the handler for
        steps that can't be sent."""
        if self._stage is Stage.ENDED:
            return
        around = self._around
        payload = around.writer.write_partial(self._request, steps, self._content_type)
        self._steps = tuple(steps)
        around.counters.increment("operation_partial_answers", operation=self._request.name)
        try:
            sending = around.send_partial(payload, self._content_type)
        except Exception as error:  # noqa: BLE001 - losing it must not fail the operation
            sending = fail(error)
        if isinstance(sending, Deferred):
            sending.addErrback(self._partial_lost)

    def interrupt(self, reason: str) -> None:
        """Cancel it wherever it is, and answer ERROR_PROCESSING with the steps done so far."""
        if self._stage is Stage.ENDED:
            return
        stage, self._stage = self._stage, Stage.ENDED
        if self._pending is not None:
            try:
                self._pending.cancel()
            except Exception:  # noqa: BLE001 - foreign cancellers; the answer goes out all the same
                log.failure("{operation} can't be cancelled", operation=self._request.name)
        self._conclude(failure(reason, steps=self._steps), stage)

    def _recorded(self, entry: JournalEntry | None) -> None:
        if self._stage is Stage.ENDED:
            return
        # An id that was used for another operation is no repetition.
        if entry is not None and entry.name == self._request.name:
            self._repeat(entry)
            return
        self._stage = Stage.WAITING
        if not self._around.admission.enter(self):
            self._end(failure("too many operations at once; try again later"))

    def _not_recorded(self, problem: Failure) -> None:
        if self._stage is Stage.ENDED:
            return
        reason = reason_of(problem.value)
        log.error(
            "{operation} is not on record: {reason}", operation=self._request.name, reason=reason
        )
        if self._operation.reads_only:
            self._recorded(None)
        else:
            # Run now, it could run a second time when the request is repeated.
            self._end(failure(f"the operation could not be recorded: {reason}"))

    def _repeat(self, entry: JournalEntry) -> None:
        self._stage = Stage.ENDED
        if self._timer is not None:
            self._timer.cancel()
        self._around.counters.increment("operations_repeated", operation=self._request.name)
        log.info(
            "{operation} {request_id} came again and is not run again",
            operation=self._request.name,
            request_id=self._request.id,
        )
        self.answer.callback(self._around.writer.repeat(self._request, entry, self._content_type))

    def _returned(self, result: OperationResult) -> None:
        if self._stage is not Stage.ENDED:
            self._end(result)

    def _failed(self, problem: Failure) -> None:
        error = problem.value
        if self._stage is Stage.ENDED:
            if not isinstance(error, CancelledError | OperationError):
                log.failure(
                    "{operation} failed after its answer", problem, operation=self._request.name
                )
            return
        if isinstance(error, OperationError):
            code = _RESULT_CODES.get(error.result_code, ResultCode.ERROR_PROCESSING)
            is_bare = isinstance(error, OperationNotSupported) and not error.args
            self._end(
                failure(NOT_SUPPORTED_TEXT if is_bare else reason_of(error), code, self._steps)
            )
            return
        if isinstance(error, CancelledError):
            self._end(failure("the operation was cancelled", steps=self._steps))
            return
        log.failure("{operation} failed", problem, operation=self._request.name)
        self._end(failure(reason_of(error), steps=self._steps))

    def _partial_lost(self, problem: Failure) -> None:
        log.warn(
            "a partial answer to {operation} {request_id} is lost: {reason}",
            operation=self._request.name,
            request_id=self._request.id,
            reason=reason_of(problem.value),
        )

    def _time_is_up(self, timeout_s: float) -> None:
        self._timer = None
        self.interrupt(f"time limit of {timeout_s:g} s exceeded")

    def _end(self, result: OperationResult) -> None:
        stage, self._stage = self._stage, Stage.ENDED
        self._conclude(result, stage)

    def _conclude(self, result: OperationResult, stage: Stage) -> None:
        around, request = self._around, self._request
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if stage is Stage.WAITING:
            around.admission.withdraw(self)
        try:
            payload: bytes | None = self._recorded_answer(result)
        except Exception:  # noqa: BLE001 - a fault of ours; the place must be free again all the same
            log.failure("{operation} can't be answered", operation=request.name)
            payload = None
        self.answer.callback(payload)
        if stage is Stage.RUNNING:
            around.admission.leave()

    def _recorded_answer(self, result: OperationResult) -> bytes:
        around, request = self._around, self._request
        payload, code = around.writer.write(request, result, self._content_type)
        try:
            around.journal.answered(request.id, payload, self._content_type)
        except Exception:  # noqa: BLE001 - the platform gets its answer even if it is not kept
            log.failure("the answer to {operation} is not on record", operation=request.name)
        seconds = around.clock.seconds() - self._arrived_s
        around.counters.increment("operations", operation=request.name, result=code.value)
        around.counters.observe("operation_seconds", seconds, operation=request.name)
        if not self._operation.reads_only or code is not ResultCode.SUCCESSFUL:
            log.info(
                "{operation} {request_id} ended as {result_code} after {seconds:.3f} s",
                operation=request.name,
                request_id=request.id,
                result_code=code.value,
                seconds=seconds,
            )
        return payload
