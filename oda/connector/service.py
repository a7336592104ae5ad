"""The connector: how the other parts of the agent talk to the platform.

Payloads go into the outbox, and the link sends them from there. What arrives goes to the
``IDispatcher``, and its answer goes into the outbox. The connector knows nothing of operations or
telemetry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.connector.backpressure import Intake
from oda.connector.current import CurrentSettings
from oda.connector.link import PlatformLink
from oda.connector.protocol import log_masking
from oda.connector.window import Taken, taken_bytes
from oda.deferreds import result_now
from oda.errors import MessageTooLarge, NotConnected, OutboxError, OutboxFull
from oda.interfaces import (
    ICodecRegistry,
    IConnectionObservable,
    IConnector,
    ICounters,
    IDeviceInfoProvider,
    IDispatcher,
    IOutbox,
)
from oda.log import Logger
from oda.model import Answer, ConnectionStatus, ContentType, MessageClass, OutgoingMessage
from oda.settings import ConnectorSettings, FrameType, OutboxSettings
from oda.troubles import Troubles

_log = Logger()

#: How long a reading counts as fresh and may be sent in the reduced form, in seconds.
FRESH_S = 3.0


@implementer(IConnector, IConnectionObservable)
class ConnectorService(Service):
    """``random`` gives floats in [0, 1), ``random_bytes(n)`` n random bytes. ``shorten(payload,
    reason)`` makes the answer that replaces one that can't be sent or kept; None if it can't make
    one. ``taken(transport)`` is as ``window.taken_bytes``.

    ``is_connected`` is True while the WebSocket is open.
    """

    name = "connector"

    def __init__(
        self,
        settings: ConnectorSettings,
        window: OutboxSettings,
        outbox: IOutbox,
        device_info: IDeviceInfoProvider,
        dispatcher: IDispatcher,
        codecs: ICodecRegistry,
        counters: ICounters,
        reactor: Any,
        random: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        shorten: Callable[[bytes, str], bytes | None] = lambda _payload, _reason: None,
        taken: Callable[[Any], Taken | None] = taken_bytes,
        troubles: Troubles | None = None,
    ) -> None:
        self._settings = CurrentSettings(settings)
        self._shorten = shorten
        self._outbox = outbox
        self._dispatcher = dispatcher
        self._codecs = codecs
        self._counters = counters
        self._reactor = reactor
        self._intake = Intake(outbox, window.max_bytes)
        self._link = PlatformLink(
            self._settings,
            window,
            outbox,
            device_info,
            counters,
            reactor,
            random,
            random_bytes,
            self._message_received,
            self._intake,
            taken,
            troubles,
        )

    # -- IConnector --------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        return self._link.session is not None

    def uplink(
        self,
        payload: bytes,
        content_type: ContentType,
        datapoints: int = 0,
        fresh_payload: bytes | None = None,
    ) -> Deferred[int]:
        fresh_until_s = 0.0
        if fresh_payload is not None:
            fresh_until_s = self._reactor.seconds() + FRESH_S
        return self._put(
            OutgoingMessage(
                payload=payload,
                message_class=MessageClass.TELEMETRY,
                is_text=self._is_text(content_type),
                datapoints=datapoints,
                fresh_payload=fresh_payload,
                fresh_until_s=fresh_until_s,
            )
        )

    def uplink_response(self, answer: bytes | Answer, content_type: ContentType) -> Deferred[int]:
        if isinstance(answer, Answer):
            return self._respond(answer, self._is_text(content_type))
        # Nothing may replace a partial answer: its sender hears that it is too large.
        return self._put(_message(Answer(answer), self._is_text(content_type)))

    def uplink_no_qos(self, payload: bytes, content_type: ContentType) -> None:
        session = self._link.session
        if session is None:
            raise NotConnected("there is no open connection to the platform")
        session.send_now(payload, self._is_text(content_type))

    def status(self) -> ConnectionStatus:
        return self._link.status()

    # -- the service -------------------------------------------------------------------------

    def startService(self) -> None:
        """Find out who the device is and connect; returns at once."""
        super().startService()
        log_masking()
        self._link.start()

    def stopService(self) -> Deferred[None]:
        """Deliver what can be delivered within a few seconds, close with code 1000, and end.

        The Deferred fires with None when the socket is gone and no timer is left; it never fails.
        """
        super().stopService()
        return self._link.stop()

    def hurry(self) -> None:
        """Let ``stopService``, called before or later, wait for nothing: the link drops the
        connection, and what was not delivered stays in the outbox."""
        self._link.hurry()

    def connect_now(self) -> bool:
        """End the pause before the next attempt to connect. False if there was none, because the
        agent is connected, connecting or stopped."""
        return self._link.connect_now()

    def reconfigure(self, settings: ConnectorSettings, reconnect: bool = True) -> None:
        """Use other settings. With ``reconnect`` (another address or identity) the link closes the
        present connection and makes a new one; otherwise the connection stays."""
        self._settings.replace(settings, reconnect)

    # -- what arrives ------------------------------------------------------------------------

    def _message_received(self, payload: bytes, is_binary: bool) -> None:
        self._counters.increment("messages_received")
        size = len(payload)
        self._intake.began(size)
        content_type = self._codecs.detect(payload)
        if not is_binary and content_type is not ContentType.JSON:
            content_type = None  # the other formats are binary, so a text frame holds none of them
        # The frame of the answer: a known format follows the configuration, anything else goes back
        # the way it came.
        is_text = self._is_text(content_type) if content_type is not None else not is_binary
        answer = maybeDeferred(self._dispatcher.process, payload, content_type)
        came = result_now(answer, Answer)
        if came is not None:
            self._answered(came, is_text, size)
            return
        answer.addCallbacks(
            self._answered,
            self._dispatcher_failed,
            callbackArgs=(is_text, size),
            errbackArgs=(size,),
        )

    def _answered(self, answer: Any, is_text: bool, size: int) -> None:
        if answer is None:
            self._intake.concluded(size)
            return
        try:
            if not isinstance(answer, Answer):
                answer = Answer(answer)
            if not isinstance(answer.payload, bytes):
                # The outbox would accept it, and it would break one connection after the other.
                kind = type(answer.payload).__name__
                raise TypeError(f"the dispatcher's answer is {kind}, not bytes")
            accepted = self._respond(answer, is_text and _is_utf8(answer.payload))
        except Exception:  # noqa: BLE001 - nothing else would report it
            accepted = fail()
        # Not returned: nothing else waits for the acceptance, and chaining the two Deferreds costs
        # as much as accepting does.
        accepted.addBoth(self._concluded, size)

    def _concluded(self, outcome: int | Failure, size: int) -> None:
        self._intake.concluded(size)
        if isinstance(outcome, Failure):
            self._answer_not_accepted(outcome)

    def _respond(self, answer: Answer, is_text: bool) -> Deferred[int]:
        size, limit = len(answer.payload), self._settings.now.max_message_size_bytes
        if size > limit:
            # The dispatcher prevents this. This is the last place that can answer the request.
            reason = f"the answer has {size} bytes; maxMessageSize is {limit}"
            return self._put(_message(self._shortened(answer, reason), is_text))
        accepted = self._outbox.put(_message(answer, is_text))
        outcome = accepted.result if accepted.called else None
        if not isinstance(outcome, Failure) or not outcome.check(OutboxFull):
            return accepted
        shorter = self._shortened(answer, f"the answer can't be kept: {outcome.getErrorMessage()}")
        if len(shorter.payload) >= size:
            return accepted
        accepted.addErrback(lambda _: None)
        # The refused message has ended the record: a repeated request gets the answer in it.
        return self._put(_message(Answer(shorter.payload, None, answer.waits_for_commit), is_text))

    def _shortened(self, answer: Answer, reason: str) -> Answer:
        """An error in place of ``answer``, or ``answer`` itself if none can be made."""
        shorter = self._shorten(answer.payload, reason)
        if shorter is None:
            return answer
        _log.error("an error replaces an answer: {reason}", reason=reason)
        return Answer(shorter, answer.record, answer.waits_for_commit)

    def _answer_not_accepted(self, failure: Failure) -> None:
        self._counters.increment("answers_lost")
        if failure.check(OutboxError):
            _log.error("an answer is lost: {reason}", reason=failure.getErrorMessage())
        else:
            _log.failure("an answer is lost because of a defect in the agent", failure)

    def _dispatcher_failed(self, failure: Failure, size: int) -> None:
        self._intake.concluded(size)
        self._counters.increment("dispatcher_failures")
        _log.failure("the dispatcher failed on a message; it is not answered", failure)

    def _put(self, message: OutgoingMessage) -> Deferred[int]:
        limit = self._settings.now.max_message_size_bytes
        if len(message.payload) > limit:
            size = len(message.payload)
            return fail(MessageTooLarge(f"{size} bytes; maxMessageSize is {limit}"))
        return self._outbox.put(message)

    def _is_text(self, content_type: ContentType) -> bool:
        frame_type = self._settings.now.frame_type
        return content_type is ContentType.JSON and frame_type is FrameType.TEXT


def _message(answer: Answer, is_text: bool) -> OutgoingMessage:
    return OutgoingMessage(
        payload=answer.payload,
        message_class=MessageClass.RESPONSE,
        is_text=is_text,
        record=answer.record,
        waits_for_commit=answer.waits_for_commit,
    )


def _is_utf8(payload: bytes) -> bool:
    """A text frame with anything else would end the connection (RFC 6455, section 8.1)."""
    if payload.isascii():
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
