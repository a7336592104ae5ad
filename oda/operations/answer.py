"""Makes the payload of an answer, whatever the operation returned.

If the request's format can't carry an answer (NaN, bytes, foreign objects), or the answer is too
large for a connection, an ERROR_PROCESSING that names the reason replaces it. Only texts and the
``response`` of steps are foreign content; if these are plain, the codec need not check the whole
answer again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from oda.boundary import contained, foreign_code, reason_of
from oda.errors import CodecError, OperationFailed
from oda.interfaces import ICheckedEncoding, ICodec, ICodecRegistry
from oda.log import Logger
from oda.model import (
    ContentType,
    JournalEntry,
    OperationResult,
    ResultCode,
    Step,
    StepResult,
)
from oda.operations.request import echo_of_answer
from oda.operations.response import Echo, failure, final_document, partial_document

log = Logger()

#: The length of a clipped text in an answer that would be too large, in characters.
_CLIPPED_LENGTH = 40

#: The reason in the answer to a request that was executed before, if its answer is unknown.
NO_LONGER_KEPT = "already executed; the answer is no longer kept"
NOT_READABLE = "already executed; the answer can't be read now"

_UNABLE = "the agent could not make the answer"


class Written(NamedTuple):
    """An encoded final answer, and the result code that it carries. ``reason`` says why an
    operation failed, "" if nothing tells."""

    payload: bytes
    result_code: ResultCode
    reason: str = ""


class _ShortEcho(NamedTuple):
    """An ``Echo`` that repeats less than the request had."""

    id: str | None
    name: str | None
    requested_device_id: str
    path: tuple[str, ...] = ()


class AnswerWriter:
    """Encodes answers in the format of their request.

    ``host_id`` returns the agent's own device id, for requests that name no device. An answer that
    is longer than ``max_bytes`` or can't be encoded is replaced, because no connection could carry
    it. ``is_plain`` is True for a value that every format can surely carry.
    """

    def __init__(
        self,
        codecs: ICodecRegistry,
        host_id: Callable[[], str],
        max_bytes: Callable[[], int],
        is_plain: Callable[[object], bool],
    ) -> None:
        self._codecs = codecs
        self._host_id = host_id
        self._max_bytes = max_bytes
        self._is_plain = is_plain
        self._quick: dict[type, bool] = {}

    def write(self, echo: Echo, result: OperationResult, content_type: ContentType) -> Written:
        """The final answer; nothing that the operation returned can make this fail."""
        codec: ICodec = self._codecs.codec(content_type)
        code = ResultCode.ERROR_PROCESSING
        try:
            # Reading foreign objects may fail, and the codec may be a plugin's.
            document = final_document(echo, self._host_id(), result)
            payload = self._encode(codec, document, result.steps)
            size, limit = len(payload), self._max_bytes()
            if size <= limit:
                return Written(payload, result.result_code, _reason(result))
            reason = f"the answer can't be sent: it has {size} bytes; maxMessageSize is {limit}"
            if result.result_code is not ResultCode.SUCCESSFUL and not result.steps:
                # The echoed part is too long; the operation's own reason is more useful.
                code, reason = result.result_code, result.description or reason
        except BaseException as raised:  # noqa: BLE001 - foreign objects may raise anything
            reason = f"the answer can't be sent: {reason_of(contained(raised))}"
        log.warn("{operation}: {reason}", operation=(echo.name or "")[:100], reason=reason)
        return Written(self._fitting(codec, echo, failure(reason, code)), code, reason)

    def write_error(self, echo: Echo, reason: str, content_type: ContentType) -> bytes:
        """The final answer ERROR_PROCESSING, with as much of ``echo`` as fits."""
        return self._fitting(self._codecs.codec(content_type), echo, failure(reason))

    def write_bare(self, echo: Echo, content_type: ContentType) -> bytes:
        """A minimal answer, for when a defect prevents any other."""
        codec: ICodec = self._codecs.codec(content_type)
        short = _ShortEcho(_clip(echo.id), _clip(echo.name), _clip(echo.requested_device_id) or "")
        return _encoded(codec, final_document(short, "", failure(_UNABLE)))

    def write_partial(self, echo: Echo, steps: Sequence[Step], content_type: ContentType) -> bytes:
        """A partial answer. Raises ``OperationFailed`` when the steps can't be sent."""
        document = partial_document(echo, self._host_id(), steps)
        codec: ICodec = self._codecs.codec(content_type)
        try:
            payload = _encoded(codec, document)
        except Exception as error:
            raise OperationFailed(f"the steps can't be sent: {reason_of(error)}") from error
        if len(payload) > self._max_bytes():
            raise OperationFailed(
                f"the steps have {len(payload)} bytes; maxMessageSize is {self._max_bytes()}"
            )
        return payload

    def repeat(self, echo: Echo, entry: JournalEntry, content_type: ContentType) -> bytes | None:
        """The journaled answer in the requested format; None while the operation is running.

        If that answer is no longer kept, or can no longer be sent, the answer says so.
        """
        payload = entry.payload
        if payload is None:
            if not entry.has_ended:
                return None
            reason = NOT_READABLE if entry.is_unreadable else NO_LONGER_KEPT
            return self.write_error(echo, reason, content_type)
        try:
            if entry.content_type not in (content_type, None):
                asked: ICodec = self._codecs.codec(content_type)
                answered: ICodec = self._codecs.codec(entry.content_type)
                with foreign_code:
                    message = answered.decode(payload)
                payload = _encoded(asked, message)
            size, limit = len(payload), self._max_bytes()
            if size <= limit:
                return payload
            reason = f"the earlier answer has {size} bytes; maxMessageSize is {limit}"
        except CodecError as error:
            reason = f"the earlier answer can't be sent in this format: {reason_of(error)}"
        log.warn("{operation}: {reason}", operation=(echo.name or "")[:100], reason=reason)
        return self.write_error(echo, reason, content_type)

    def shorten(self, payload: bytes, reason: str) -> bytes | None:
        """The error answer with that reason, to replace one that turned out to be too large; None
        if ``payload`` is not an answer."""
        content_type = self._codecs.detect(payload)
        if content_type is None:
            return None
        echo = echo_of_answer(self._codecs.codec(content_type), payload)
        if echo is None:
            return None
        return self.write_error(echo, reason, content_type)

    def _encode(self, codec: Any, document: Any, steps: Sequence[Step] | None) -> bytes:
        is_quick = self._quick.get(type(codec))
        if is_quick is None:
            is_quick = self._quick[type(codec)] = ICheckedEncoding.providedBy(codec)
        if is_quick:
            for step in steps or ():
                if step.response is not None and not self._is_plain(step.response):
                    break
            else:
                try:
                    return bytes(codec.encode_checked(document))
                except CodecError:
                    pass  # the codec below reports it
        return _encoded(codec, document)

    def _fitting(self, codec: Any, echo: Echo, result: OperationResult) -> bytes:
        """The answer with less and less of the echo, until it can be sent.

        The id is clipped last, because it tells the platform which request was answered.
        """
        limit = self._max_bytes()

        def encoded(echo: Echo, result: OperationResult = result) -> bytes:
            return _encoded(codec, final_document(echo, host_id, result))

        host_id = self._host_id()
        no_path = _ShortEcho(echo.id, echo.name, _clip(echo.requested_device_id) or "")
        no_texts = no_path._replace(name=_clip(echo.name))
        for candidate in (echo, no_path, no_texts):
            payload = encoded(candidate)
            if len(payload) <= limit:
                return payload
        result, host_id = failure(_clip(result.description) or "", result.result_code), ""
        if echo.id is None:
            return encoded(no_texts, result)
        request_id = echo.id
        # The longest prefix of the id that fits: its encoded size depends on its content. If no
        # prefix fits, the id is empty; the configuration allows no such limit.
        fits, too_long = 0, min(len(request_id), limit) + 1
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            if len(encoded(no_texts._replace(id=request_id[:middle]), result)) <= limit:
                fits = middle
            else:
                too_long = middle
        return encoded(no_texts._replace(id=request_id[:fits]), result)


def _encoded(codec: Any, document: Any) -> bytes:
    """``document`` in encoded form; the codec may be a plugin's."""
    with foreign_code:
        return bytes(codec.encode(document))


def _reason(result: OperationResult) -> str:
    """Why an operation failed: its own description, or that of the first step that failed."""
    if result.result_code is ResultCode.SUCCESSFUL:
        return ""
    failed = [step.description for step in result.steps or () if step.result is StepResult.ERROR]
    texts = [text for text in (result.description, *failed) if isinstance(text, str) and text]
    return texts[0] if texts else ""


def _clip(text: str | None) -> str | None:
    return None if text is None else text[:_CLIPPED_LENGTH]
