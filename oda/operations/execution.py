"""One request on its way through the agent, from the journal to its one answer.

::

    RECORDING --> WAITING --> RUNNING --> ENDED
        |            |                      ^
        |            +-- time limit, stop --+
        +-- a repeated id, no record -------+

Whatever happens, ``answer`` fires exactly once. ``ENDED`` is entered before it fires, and drops
everything that comes later (a handler that ignores its cancellation, more progress). State is
settled before any caller is notified: the answer's receiver may call the dispatcher again.

The final answer ends the journal's record, whose number is known only at the end of ``RECORDING``.
So the time limit and the end of the agent do not answer a request that is being recorded: they
decide what to answer once its record is known. An earlier answer would leave the record open, and
after a restart the platform would also be told "interrupted". If the journal already knows the
request, its earlier answer is the answer, even while stopping. If there is no record in the end,
the answer says so and mentions no time limit: the same request may run later.

An operation that has saved its state is not answered when the agent stops (``leave``): its record
stays open, and the next process resumes it. A resumed operation has its record from the start.

A partial answer ends nothing and need not wait for a commit: the start of the operation was
committed before it ran, and the steps contradict no later answer. The final answer can't overtake
it, because it enters the outbox later, in the same class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from oda.boundary import contained, foreign_code, reason_of
from oda.deferreds import result_now
from oda.errors import OperationError, OperationFailed, OperationNotSupported
from oda.interfaces import ICounters, IJournal, IOperation
from oda.log import Logger
from oda.model import (
    Answer,
    ContentType,
    JournalEntry,
    OperationRequest,
    OperationResult,
    ResultCode,
    Step,
)
from oda.operations.admission import Admission
from oda.operations.answer import AnswerWriter
from oda.operations.catalogue import NOT_SUPPORTED_TEXT
from oda.operations.continuation import (
    Progress,
    Resumption,
    Saved,
    is_resumable,
    resumed_form,
    saved_form,
    time_limit_of,
)
from oda.operations.response import failure

log = Logger()

#: The reason in answers while the agent is stopping.
STOPPING_TEXT = "the agent is stopping"

#: Longer ids are cut in the log.
_LOGGED_ID_LENGTH = 100

_RESULT_CODES = {code.value: code for code in ResultCode}


class Stage(Enum):
    """The stage of a request."""

    RECORDING = auto()
    WAITING = auto()
    RUNNING = auto()
    ENDED = auto()


class Surroundings:
    """The shared state of a dispatcher's executions. ``timeout_s`` may change while they run: an
    execution reads it when it starts to wait. ``unfinished`` are those that have not ended; while
    ``is_stopping`` no further operation runs. ``host_id`` gives the agent's own device id."""

    __slots__ = (
        "admission",
        "clock",
        "counters",
        "host_id",
        "is_stopping",
        "journal",
        "send_partial",
        "timeout_s",
        "unfinished",
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
        host_id: Callable[[], str],
    ) -> None:
        self.host_id = host_id
        self.writer = writer
        self.journal = journal
        self.admission = admission
        self.send_partial = send_partial
        self.clock = clock
        self.counters = counters
        self.timeout_s = timeout_s
        self.unfinished: dict[Execution, None] = {}
        self.is_stopping = False


class Execution:
    """Runs one request. ``answer`` fires with the answer, or with None if the same request is
    already running: that answer is the answer to both. It also fires with None if the next process
    answers. The execution is counted as ``label``. ``resumption``: an earlier process started the
    operation."""

    __slots__ = (
        "_acts",
        "_around",
        "_arrived_s",
        "_content_type",
        "_is_resumable",
        "_label",
        "_operation",
        "_pending",
        "_record",
        "_refusal",
        "_request",
        "_resumption",
        "_saved",
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
        label: str,
        resumption: Resumption | None = None,
    ) -> None:
        self._around = around
        self._label = label
        self._operation = operation
        self._is_resumable = is_resumable(operation)
        self._acts = self._is_resumable or _acts(operation)
        self._request = request
        self._content_type = content_type
        self._stage = Stage.RECORDING
        self._arrived_s = around.clock.seconds()
        self._pending: Deferred[Any] | None = None
        self._timer: IDelayedCall | None = None
        self._steps: Sequence[Step] = ()
        self._record: int | None = None
        self._resumption = resumption
        #: What the operation saved last; None if it does not continue after a restart.
        self._saved: Saved | None = None
        if resumption is not None:
            self._saved = resumption.saved
            self._steps = tuple(resumption.saved.steps)
        #: Why the operation will not run once its record is known.
        self._refusal: str | None = None
        self.answer: Deferred[Answer | None] = Deferred()

    @property
    def stage(self) -> Stage:
        """The present stage; ``ENDED`` when ``answer`` has fired or is about to."""
        return self._stage

    def begin(self) -> None:
        """Called once. The time limit counts from here."""
        self._around.unfinished[self] = None
        if self._resumption is not None:
            self._begin_again(self._resumption)
        else:
            self._ask_journal()
        if self._stage is not Stage.ENDED:
            timeout_s = self._around.timeout_s
            if self._is_resumable:
                timeout_s = time_limit_of(self._operation, timeout_s)
            self._timer = self._around.clock.callLater(timeout_s, self._time_is_up, timeout_s)

    def _ask_journal(self) -> None:
        request = self._request
        try:
            entry = self._around.journal.begin(
                request.id, request.name, self._acts, request, self._content_type
            )
        except Exception as error:  # noqa: BLE001 - logged and, if it matters, answered
            entry = fail(error)
        # The number of a new record, mostly: ``isinstance`` alone would take longer to say no.
        if type(entry) is not int and isinstance(entry, Deferred):
            entry.addCallbacks(self._recorded, self._not_recorded)
        else:
            self._recorded(entry)

    def _begin_again(self, resumption: Resumption) -> None:
        """Count that it is resumed, then wait for its turn. Where the count can't be written it
        runs all the same: it is on record."""
        self._record = resumption.record
        saved, written = resumed_form(resumption.saved)
        self._saved = saved
        try:
            counted = self._around.journal.save(resumption.record, written)
        except Exception as error:  # noqa: BLE001 - a fault of ours; it runs all the same
            counted = fail(error)
        counted.addErrback(self._not_counted)
        counted.addCallback(lambda _: self._admit())

    def _not_counted(self, problem: Failure) -> None:
        log.warn(
            "that {operation} was resumed can't be recorded: {reason}",
            operation=self._request.name,
            reason=reason_of(problem.value),
        )

    def run(self) -> None:
        """Called by the admission when it is this operation's turn."""
        self._stage = Stage.RUNNING
        try:
            outcome = self._start()
            outcome = result_now(outcome, OperationResult) or outcome
            # The returned object is foreign too: reading it may fail.
            is_result = type(outcome) is OperationResult
            is_coroutine = not is_result and inspect.iscoroutine(outcome)
            is_deferred = not is_result and isinstance(outcome, Deferred)
        except BaseException as raised:  # noqa: BLE001 - the boundary to foreign code; it is answered
            outcome, is_coroutine, is_deferred = fail(contained(raised)), False, True
        # The operation's own code may have stopped the dispatcher meanwhile.
        has_ended = self.stage is Stage.ENDED
        if is_coroutine:
            if has_ended:
                outcome.close()  # not started yet: none of its code runs
                return
            outcome, is_deferred = Deferred.fromCoroutine(outcome), True
        if is_deferred:
            self._pending = outcome
            try:
                outcome.addCallbacks(self._returned, self._failed)
            except BaseException as raised:  # noqa: BLE001 - Twisted examines the object
                self._failed(Failure(contained(raised)))
            if has_ended:
                self._cancel()
        else:
            self._returned(outcome)

    def _start(self) -> Any:
        progress = Progress(self)
        if self._resumption is None:
            return self._operation.execute(self._request, progress)
        resumable: Any = self._operation  # an IResumableOperation
        return resumable.resume(self._request, self._resumption.saved.state, progress)

    def save(self, state: Any) -> Deferred[None]:
        """As described at ``IProgress.save``."""
        if self._stage is Stage.ENDED:
            return fail(OperationFailed("the operation has ended"))
        if self._record is None or not self._is_resumable:
            return fail(OperationFailed("the operation provides no IResumableOperation"))
        before = self._saved
        host_id = before.host_id if before is not None else self._around.host_id()
        try:
            saved, written = saved_form(
                Saved(state, self._request.parameters, host_id, self._steps), before
            )
        except OperationFailed as error:
            return fail(error)
        # From here on it may be on disk, whatever the commit reports.
        self._saved = saved
        return self._around.journal.save(self._record, written)

    def leave(self) -> bool:
        """The agent stops: leave it to the next process, if it has saved its state. False: it has
        not, and has to be answered."""
        if self._saved is None or self._stage is Stage.ENDED:
            return False
        stage, self._stage = self._stage, Stage.ENDED
        self._cancel()
        self._withdraw(stage)
        log.info(
            "{operation} {request_id} continues when the agent starts again",
            operation=self._request.name,
            request_id=self._request.id[:_LOGGED_ID_LENGTH],
        )
        self.answer.callback(None)
        return True

    def progress(self, steps: Sequence[Step]) -> None:
        """See ``IProgress``."""
        if self._stage is Stage.ENDED:
            return
        around = self._around
        payload = around.writer.write_partial(self._request, steps, self._content_type)
        self._steps = tuple(steps)
        around.counters.increment("operation_partial_answers", operation=self._label)
        try:
            sending = around.send_partial(payload, self._content_type)
        except Exception as error:  # noqa: BLE001 - a lost step must not fail the operation
            sending = fail(error)
        if isinstance(sending, Deferred):
            sending.addErrback(self._partial_lost)

    def interrupt(self, reason: str) -> None:
        """Cancel the operation at any stage, and answer ERROR_PROCESSING with the steps done so
        far: at once, or as soon as its record is known."""
        if self._stage is Stage.RECORDING:
            self._refusal = self._refusal or reason
            self._stop_timer()
            return
        if self._stage is Stage.ENDED:
            return
        stage, self._stage = self._stage, Stage.ENDED
        self._cancel()
        self._conclude(failure(reason, steps=self._steps), stage)

    def _cancel(self) -> None:
        if self._pending is not None:
            try:
                with foreign_code:
                    self._pending.cancel()
            except Exception:  # noqa: BLE001 - foreign cancellers; the answer is still sent
                log.failure("{operation} can't be cancelled", operation=self._request.name)

    def _recorded(self, entry: int | JournalEntry) -> None:
        if isinstance(entry, JournalEntry):
            self._repeat(entry)
            return
        self._record = entry
        self._admit()

    def _not_recorded(self, problem: Failure) -> None:
        reason = reason_of(problem.value)
        log.error(
            "{operation} is not on record: {reason}", operation=self._request.name, reason=reason
        )
        if not self._acts:
            self._admit()
        else:
            # If it ran now, a repeated request could run it a second time. The answer says that
            # there is no record, even if its time is up: a new request may run.
            if self._refusal != STOPPING_TEXT:
                self._refusal = f"the operation could not be recorded: {reason}"
            self._admit()

    def _admit(self) -> None:
        if self._stage is Stage.ENDED:
            return  # left while it was counted that it is resumed
        refusal = self._refusal
        if refusal is None and self._around.is_stopping:
            refusal = STOPPING_TEXT
        if refusal is not None:
            self._end(failure(refusal))
            return
        self._stage = Stage.WAITING
        if not self._around.admission.enter(self):
            self._end(failure("too many operations at once; try again later"))

    def _repeat(self, entry: JournalEntry) -> None:
        around = self._around
        self._stage = Stage.ENDED
        self._stop_timer()
        around.unfinished.pop(self, None)
        around.counters.increment("operations_repeated", operation=self._label)
        log.info(
            "{operation} {request_id} came again and is not run again",
            operation=self._request.name,
            request_id=self._request.id[:_LOGGED_ID_LENGTH],
        )
        try:
            payload = around.writer.repeat(self._request, entry, self._content_type)
        except Exception:  # noqa: BLE001 - a defect of ours; the request still needs an answer
            log.failure("{operation} can't be answered again", operation=self._request.name)
            payload = self._bare_answer()
        # The original answer may not be committed yet; its repetition must not be sent before that.
        self.answer.callback(None if payload is None else Answer(payload, None, self._acts))

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
            code = _code_of(error)
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
            request_id=self._request.id[:_LOGGED_ID_LENGTH],
            reason=reason_of(problem.value),
        )

    def _time_is_up(self, timeout_s: float) -> None:
        self._timer = None
        self.interrupt(f"time limit of {timeout_s:g} s exceeded")

    def _end(self, result: OperationResult) -> None:
        stage, self._stage = self._stage, Stage.ENDED
        self._conclude(result, stage)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _conclude(self, result: OperationResult, stage: Stage) -> None:
        self._withdraw(stage)
        try:
            payload: bytes | None = self._final_payload(result)
        except Exception:  # noqa: BLE001 - a defect of ours; the request still needs an answer
            log.failure("{operation} can't be answered", operation=self._request.name)
            payload = self._bare_answer()
        if payload is None:
            self.answer.callback(None)
        else:
            waits = self._acts and self._record is not None
            self.answer.callback(Answer(payload, self._record, waits))
        if stage is Stage.RUNNING:
            self._around.admission.fill()

    def _withdraw(self, stage: Stage) -> None:
        """Leave nothing of it behind in what it shares with others."""
        admission = self._around.admission
        if self._timer is not None:
            self._stop_timer()
        self._around.unfinished.pop(self, None)
        if stage is Stage.WAITING:
            admission.withdraw(self)
        elif stage is Stage.RUNNING:
            admission.leave()

    def _bare_answer(self) -> bytes | None:
        try:
            return self._around.writer.write_bare(self._request, self._content_type)
        except Exception:  # noqa: BLE001 - nothing else is left to try
            log.failure("{operation} is not answered", operation=self._request.name)
            return None

    def _final_payload(self, result: OperationResult) -> bytes:
        around, request = self._around, self._request
        written = around.writer.write(request, result, self._content_type)
        payload, code = written.payload, written.result_code
        seconds = around.clock.seconds() - self._arrived_s
        around.counters.increment("operations", operation=self._label, result=code.text)
        around.counters.observe("operation_seconds", seconds, operation=self._label)
        if code is not ResultCode.SUCCESSFUL:
            log.warn(
                "{operation} {request_id} failed with {result_code} after {seconds:.3f} s:"
                " {reason}",
                operation=request.name,
                request_id=request.id[:_LOGGED_ID_LENGTH],
                result_code=code.text,
                seconds=seconds,
                reason=written.reason or "no reason given",
            )
        elif self._acts:
            log.info(
                "{operation} {request_id} succeeded after {seconds:.3f} s",
                operation=request.name,
                request_id=request.id[:_LOGGED_ID_LENGTH],
                result_code=code.text,
                seconds=seconds,
            )
        return payload


def _acts(operation: IOperation) -> bool:
    """Whether it does more than read. If it can't tell, it may do more, and is recorded."""
    try:
        return not operation.reads_only
    except BaseException as raised:  # noqa: BLE001 - a foreign property
        log.failure(
            "{operation} can't tell whether it only reads",
            Failure(contained(raised)),
            operation=type(operation).__name__,
        )
        return True


def _code_of(error: OperationError) -> ResultCode:
    try:
        with foreign_code:
            return _RESULT_CODES.get(error.result_code, ResultCode.ERROR_PROCESSING)
    except Exception:  # noqa: BLE001 - a foreign attribute: a property, or an unhashable list
        return ResultCode.ERROR_PROCESSING
