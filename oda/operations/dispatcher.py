"""Takes the platform's messages, runs the requested operations, and makes the answers.

Every message in which an operation request can be recognised gets exactly one answer. Any other
message is logged (its size and its fault, never its content), counted and dropped. A request that
was answered before gets the same answer and is not run again. If it is still running, the repeated
request gets no answer of its own: the coming answer is the answer to both. This holds even while
the agent is stopping, because the journal is asked first.

A message that its codec refuses (a number out of range, half a surrogate pair, a tag) is answered
with ERROR_IN_PARAM if it can be recognised as a request. It is dropped only if that is impossible,
or if the whole message is malformed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.boundary import contained, reason_of
from oda.errors import CodecError, DecodeError, PluginError
from oda.interfaces import (
    ICodec,
    ICodecRegistry,
    ICounters,
    IDispatcher,
    IJournal,
    IOperation,
    IOperationRoute,
    IProgress,
)
from oda.log import Logger
from oda.model import (
    Answer,
    ContentType,
    InterruptedOperation,
    OperationRequest,
    OperationResult,
    ResultCode,
)
from oda.operations.admission import Admission
from oda.operations.answer import AnswerWriter
from oda.operations.catalogue import NOT_SUPPORTED_TEXT, REFUSALS
from oda.operations.continuation import MAX_RESUMES, Resumption, is_resumable, read_saved
from oda.operations.execution import STOPPING_TEXT, Execution, Stage, Surroundings
from oda.operations.request import Refusal, gateways_below, recognise, recognise_refused
from oda.operations.response import failure

log = Logger()

#: How many requests may wait for their turn.
MAX_WAITING = 1000

#: The default limit for the length of an answer: that of the connector.
MAX_ANSWER_BYTES = 16 * 1024 * 1024

#: The reason in the answer to a request that was running when the agent's process ended.
INTERRUPTED_TEXT = "interrupted: the agent was restarted while the operation was running"

#: How much of a name or an id from the wire the log shows.
_LOGGED_LENGTH = 100

#: The label that counts operations without a handler: their names come from the wire.
UNKNOWN = "unknown"


@implementer(IDispatcher)
class OperationDispatcher:
    """The agent's ``IDispatcher``.

    ``host_id`` returns the agent's own device id. ``send_partial(payload, content_type)`` sends a
    partial answer; it may return a Deferred. ``clock`` is the reactor; ``timeout_s`` counts from
    the arrival of a request, waiting included. ``max_concurrent`` operations run at once and
    ``max_waiting`` more wait their turn. ``max_answer_bytes`` returns the longest message that the
    connection can carry; a longer answer becomes ERROR_PROCESSING. If ``is_plain(value)`` is True,
    the value needs no check before it is encoded. No operation starts while ``has_room()`` says
    that there is no room for its answer. Raises ``PluginError`` for operations of the same name.
    """

    def __init__(
        self,
        codecs: ICodecRegistry,
        host_id: Callable[[], str],
        operations: Iterable[IOperation],
        journal: IJournal,
        send_partial: Callable[[bytes, ContentType], object],
        clock: IReactorTime,
        counters: ICounters,
        timeout_s: float = 80.0,
        max_concurrent: int = 100,
        max_waiting: int = MAX_WAITING,
        max_answer_bytes: Callable[[], int] = lambda: MAX_ANSWER_BYTES,
        is_plain: Callable[[object], bool] = lambda _: False,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self._codecs = codecs
        self._host_id = host_id
        self._counters = counters
        self._writer = AnswerWriter(codecs, host_id, max_answer_bytes, is_plain)
        self._admission = Admission(max_concurrent, max_waiting, clock, has_room)
        self._around = Surroundings(
            self._writer,
            journal,
            self._admission,
            send_partial,
            clock,
            counters,
            timeout_s,
            host_id,
        )
        #: The records of the operations that were resumed in this process.
        self._resumed: set[int] = set()
        self._operations: dict[str, IOperation] = {}
        self._stand_ins: dict[str, tuple[IOperation, Callable[[], bool]]] = {}
        #: Passes down operations for gateways behind this device; None refuses them.
        self.route: IOperationRoute | None = None
        for operation in operations:
            self.add(operation)

    @property
    def operation_names(self) -> list[str]:
        """The operations that have a handler, sorted."""
        allowed = [name for name, (_, is_allowed) in self._stand_ins.items() if is_allowed()]
        return sorted({*self._operations, *allowed})

    @property
    def unanswered(self) -> int:
        """How many requests are running or waiting."""
        return len(self._around.unfinished)

    def add(self, operation: IOperation) -> None:
        """Handle one more operation from now on. Raises ``PluginError`` if its name is taken."""
        name = operation.name
        if not isinstance(name, str) or not name:
            raise PluginError(f"the operation {operation!r} has no name")
        if name in self._operations:
            raise PluginError(
                f"the operation {name} is handled twice: "
                f"by {self._operations[name]!r} and by {operation!r}"
            )
        self._operations[name] = operation

    def stand_in(self, operation: IOperation, is_allowed: Callable[[], bool]) -> None:
        """Let an operation of the agent's own handle its name wherever no other one does. While it
        is not allowed it says what would allow it, and is not among the ``operation_names``."""
        self._stand_ins[operation.name] = (operation, is_allowed)

    def remove(self, name: str) -> None:
        """Stop handling that operation; running ones continue. Raises ``PluginError`` if it has no
        handler."""
        if self._operations.pop(name, None) is None:
            raise PluginError(f"the operation {name} has no handler")

    def remove_handler(self, operation: IOperation) -> None:
        """Like ``remove``, for the operation of that object, whatever its present name."""
        for name, handler in self._operations.items():
            if handler is operation:
                del self._operations[name]
                return
        raise PluginError(f"{type(operation).__name__} handles no operation")

    def configure(self, timeout_s: float, max_concurrent: int) -> None:
        """Change the limits: the time limit for later requests, the number at once."""
        self._around.timeout_s = timeout_s
        self._admission.max_running = max_concurrent
        self._admission.fill()

    def stop(self) -> None:
        """Cancel running and waiting operations. Answer them, and every new request, with
        ERROR_PROCESSING; leave those that continue after a restart to the next process. Cancels all
        timers."""
        self._around.is_stopping = True
        # Waiting operations first: the end of a running one would start one of them.
        for execution in sorted(
            self._around.unfinished, key=lambda one: one.stage is Stage.RUNNING
        ):
            if not execution.leave():
                execution.interrupt(STOPPING_TEXT)
        self._admission.stop()

    def resume_interrupted(self) -> list[tuple[Deferred[Answer | None], ContentType]]:
        """Go on with the operations that an earlier process began and that continue after a
        restart, each once. The Deferreds fire with their answers, as those of ``process``."""
        resumed: list[tuple[Deferred[Answer | None], ContentType]] = []
        for left in self._around.journal.interrupted():
            name = left.request.name
            resumption, handler = self._resumption(left), self._handler_of(name)
            if resumption is None or handler is None or left.record in self._resumed:
                continue
            self._resumed.add(left.record)
            self._counters.increment("operations_resumed")
            log.info(
                "operation {name} ({request_id}) continues after the restart",
                name=name,
                request_id=left.request.id[:100],
            )
            execution = Execution(
                self._around,
                handler,
                resumption.request,
                left.content_type,
                name,
                resumption,
            )
            resumed.append((execution.answer, left.content_type))
            execution.begin()
        return resumed

    def _resumption(self, left: InterruptedOperation) -> Resumption | None:
        """How ``left`` continues; None where it does not. The answer repeats the device's id as it
        was known to the process that began it."""
        name = left.request.name
        if left.saved is None or not is_resumable(self._handler_of(name)):
            return None
        try:
            saved = read_saved(left.saved)
            self._codecs.codec(left.content_type)
        except (ValueError, CodecError) as error:  # no Unicode is a ValueError, too
            log.error("{name} can't continue: {reason}", name=name, reason=str(error))
            return None
        if saved.resumes >= MAX_RESUMES and left.record not in self._resumed:
            log.error(
                "{name} was resumed {times} times and saved nothing new: it is given up",
                name=name,
                times=saved.resumes,
            )
            return None
        request = msgspec.structs.replace(
            left.request,
            parameters=saved.parameters,
            requested_device_id=left.request.requested_device_id or saved.host_id,
        )
        return Resumption(left.record, request, saved)

    def answer_interrupted(self) -> list[tuple[Answer, ContentType]]:
        """The answers to the operations that an earlier process started and did not end, and that
        do not continue; their effect is unknown. The caller must put each answer into the outbox at
        once. That ends its record, so it is not returned again."""
        answers: list[tuple[Answer, ContentType]] = []
        for left in self._around.journal.interrupted():
            if left.record in self._resumed or self._resumption(left) is not None:
                continue
            request = left.request
            try:
                payload = self._writer.write_error(request, INTERRUPTED_TEXT, left.content_type)
            except CodecError as error:
                # A plugin that is gone defined its format. The operation stays on record.
                log.error(
                    "the interrupted operation {name} can't be answered: {reason}",
                    name=request.name,
                    reason=str(error),
                )
                continue
            self._counters.increment("operations_interrupted")
            log.warn(
                "operation {name} ({request_id}) was interrupted by the end of the agent's process",
                name=request.name,
                request_id=request.id[:100],
            )
            answers.append((Answer(payload, left.record, True), left.content_type))
        return answers

    def process(self, payload: bytes, content_type: ContentType | None) -> Deferred[Answer | None]:
        """See ``IDispatcher.process``: never fails."""
        try:
            return self._process(payload, content_type)
        except BaseException as raised:  # noqa: BLE001 - ours or a codec's; the connection survives
            log.failure(
                "a message of {size_bytes} bytes broke the dispatcher",
                Failure(contained(raised)),
                size_bytes=len(payload),
            )
            self._counters.increment("messages_ignored", cause="fault")
            return succeed(None)

    def _process(self, payload: bytes, content_type: ContentType | None) -> Deferred[Answer | None]:
        if content_type is None:
            return self._ignore(payload, "unknown_format", "its first byte begins no known format")
        request: OperationRequest | Refusal | None
        host_id = self._own_id()
        try:
            codec: ICodec = self._codecs.codec(content_type)
            message = codec.decode(payload)  # foreign code; ``process`` is the boundary
        except DecodeError as error:
            request = recognise_refused(codec, payload, error.problem, host_id or "")
            if request is None:
                return self._ignore(payload, "malformed", error.problem)
        except CodecError as error:
            return self._ignore(payload, "unknown_format", error.problem)
        else:
            request = recognise(message, host_id or "")
            if request is None:
                return self._ignore(payload, "no_request", "it holds no operation.request")
        if host_id is None:
            return succeed(Answer(self._writer.write_bare(request, content_type)))
        try:
            return self._handle(request, content_type, host_id)
        except Exception:  # noqa: BLE001 - a defect of ours; the request still needs an answer
            log.failure(
                "a request of {size_bytes} bytes broke the dispatcher", size_bytes=len(payload)
            )
            return succeed(Answer(self._writer.write_bare(request, content_type)))

    def _own_id(self) -> str | None:
        try:
            return self._host_id()
        except Exception:  # noqa: BLE001 - a defect of ours; the request still needs an answer
            log.failure("the agent does not know its own id")
            return None

    def _handle(
        self, request: OperationRequest | Refusal, content_type: ContentType, host_id: str
    ) -> Deferred[Answer | None]:
        if isinstance(request, Refusal):
            result = failure(reason_of(request.fault), ResultCode.ERROR_IN_PARAM)
            return self._answer_at_once(request, result, content_type)
        operation: IOperation | None
        label = request.name
        gateways = gateways_below(request, host_id)
        if gateways and self.route is None:
            # If executed here, it would act on the wrong machine.
            reason = f"the path leads to the gateway {gateways[0]!r}, but there is no route to it"
            result = failure(reason, ResultCode.NOT_SUPPORTED)
            return self._answer_at_once(request, result, content_type)
        if gateways:
            operation = _HandedDown(self.route, request.name, gateways)
            if self._handler_of(label) is None:
                label = UNKNOWN  # it may have any name, and each counted name would stay for ever
        else:
            operation = self._handler_of(request.name)
        if operation is None:
            text = REFUSALS.get(request.name, NOT_SUPPORTED_TEXT)
            result = failure(text, ResultCode.NOT_SUPPORTED)
            return self._answer_at_once(request, result, content_type)
        execution = Execution(self._around, operation, request, content_type, label)
        execution.begin()
        return execution.answer

    def _handler_of(self, name: str) -> IOperation | None:
        handler = self._operations.get(name)
        return self._stand_ins[name][0] if handler is None and name in self._stand_ins else handler

    def _answer_at_once(
        self,
        request: OperationRequest | Refusal,
        result: OperationResult,
        content_type: ContentType,
    ) -> Deferred[Answer | None]:
        written = self._writer.write(request, result, content_type)
        is_known = request.name is not None and self._handler_of(request.name) is not None
        self._counters.increment(
            "operations",
            operation=str(request.name) if is_known else UNKNOWN,
            result=written.result_code.value,
        )
        log.warn(
            "{operation} {request_id} was refused with {result_code}: {reason}",
            operation=str(request.name or "a request without a name")[:_LOGGED_LENGTH],
            request_id=str(request.id or "without an id")[:_LOGGED_LENGTH],
            result_code=written.result_code.value,
            reason=result.description,
        )
        return succeed(Answer(written.payload))

    def _ignore(self, payload: bytes, cause: str, reason: str) -> Deferred[Answer | None]:
        self._counters.increment("messages_ignored", cause=cause)
        log.info(
            "ignored a message of {size_bytes} bytes: {reason}",
            size_bytes=len(payload),
            reason=reason,
        )
        return succeed(None)


@implementer(IOperation)
class _HandedDown:
    """One operation for the gateway behind this device. Its effect there is unknown, so it counts
    as one that acts, and is recorded before it is passed down."""

    reads_only = False

    def __init__(self, route: Any, name: str, gateways: tuple[str, ...]) -> None:
        self.name = name
        self._route = route
        self._gateway, *self._rest = gateways

    def execute(self, request: OperationRequest, progress: IProgress) -> Any:
        handed_down = msgspec.structs.replace(request, path=tuple(self._rest))
        return self._route.execute(self._gateway, handed_down, progress)
