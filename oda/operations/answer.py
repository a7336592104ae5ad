"""Makes the payload of an answer, whatever the operation returned.

An answer that the request's format can't carry (NaN, bytes, foreign objects) is replaced by
ERROR_PROCESSING naming the culprit. All that is foreign in an answer are texts and what its steps
hold as ``response``: where that is plain, the codec needs not look at the whole again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from twisted.logger import Logger

from oda.errors import CodecError, OperationFailed
from oda.interfaces import ICheckedEncoding, ICodec, ICodecRegistry
from oda.model import ContentType, JournalEntry, OperationResult, ResultCode, Step
from oda.operations.response import Echo, failure, final_document, partial_document

log = Logger()

#: A longer reason says no more, and must not make the answer too large to be sent.
MAX_REASON_LENGTH = 1000


class Answer(NamedTuple):
    """A final answer, encoded, and the result code it carries in the end."""

    payload: bytes
    result_code: ResultCode


class AnswerWriter:
    """Encodes answers in the format of their request.

    ``host_id`` gives the agent's own device id, for requests that name no device. An answer longer
    than ``max_bytes`` is replaced, like one that can't be encoded: no connection would carry it.
    ``is_plain`` tells a value that surely every format carries.
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

    def write(self, echo: Echo, result: OperationResult, content_type: ContentType) -> Answer:
        """The final answer; what the operation returned can't make it fail."""
        codec: ICodec = self._codecs.codec(content_type)
        host_id = self._host_id()
        try:
            document = final_document(echo, host_id, result)
            payload = self._encode(codec, document, result.steps)
            size, limit = len(payload), self._max_bytes()
            if size <= limit:
                return Answer(payload, result.result_code)
            problem = f"it has {size} bytes; maxMessageSize is {limit}"
            reason = f"the answer can't be sent: {problem}"
        except Exception as error:  # noqa: BLE001 - foreign objects raise what they like
            reason = f"the answer can't be sent: {reason_of(error)}"
        log.warn("{operation}: {reason}", operation=echo.name, reason=reason)
        document = final_document(echo, host_id, failure(reason))
        return Answer(codec.encode(document), ResultCode.ERROR_PROCESSING)

    def _encode(self, codec: Any, document: Any, steps: Sequence[Step] | None) -> bytes:
        if type(codec) not in self._quick:
            self._quick[type(codec)] = ICheckedEncoding.providedBy(codec)
        if self._quick[type(codec)]:
            for step in steps or ():
                if step.response is not None and not self._is_plain(step.response):
                    break
            else:
                with suppress(CodecError):  # the codec says below what and where it is
                    return bytes(codec.encode_checked(document))
        return bytes(codec.encode(document))

    def write_partial(self, echo: Echo, steps: Sequence[Step], content_type: ContentType) -> bytes:
        """A partial answer. Raises ``OperationFailed`` when the steps can't be sent."""
        document = partial_document(echo, self._host_id(), steps)
        codec: ICodec = self._codecs.codec(content_type)
        try:
            payload = codec.encode(document)
        except Exception as error:
            raise OperationFailed(f"the steps can't be sent: {reason_of(error)}") from error
        if len(payload) > self._max_bytes():
            raise OperationFailed(
                f"the steps have {len(payload)} bytes; maxMessageSize is {self._max_bytes()}"
            )
        return payload

    def repeat(self, echo: Echo, entry: JournalEntry, content_type: ContentType) -> bytes | None:
        """The journaled answer, in the format asked for this time; None if there is none yet."""
        if entry.payload is None or entry.content_type in (content_type, None):
            return entry.payload
        try:
            asked: ICodec = self._codecs.codec(content_type)
            answered: ICodec = self._codecs.codec(entry.content_type)
            return asked.encode(answered.decode(entry.payload))
        except CodecError as error:
            reason = f"the earlier answer can't be sent in this format: {reason_of(error)}"
            return self.write(echo, failure(reason), content_type).payload


def reason_of(error: BaseException | None) -> str:
    """The text of an error for the platform: never empty, never endless, and always encodable
    (names of files may hold what no format carries)."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an error that can't be printed still has a type
        text = ""
    text = (text or type(error).__name__)[:MAX_REASON_LENGTH]
    return text.encode("utf-8", "replace").decode("utf-8")
