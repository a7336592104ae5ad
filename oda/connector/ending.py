"""Why a connection ended, in one sentence a person can act on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from oda.connector.handshake import Head, hint_at_scheme
from oda.connector.outcome import (
    MESSAGE_TOO_BIG,
    NO_CLOSE_FRAME,
    NO_STATUS,
    PROTOCOL_ERROR,
    REFUSAL_CODES,
    Outcome,
    parse_retry_after,
)
from oda.model import ContentType
from oda.settings import ConnectorSettings, FrameType
from oda.verification import describe_tls

#: What an operator should look at, by the status the upgrade was refused with.
_HINTS = {
    401: " (is the API key right?)",
    403: " (may this device connect with this API key?)",
    404: " (is 'path' right, and the device known?)",
}
_PROXY_HINTS = {
    403: " (may this device connect to the platform through the proxy?)",
    407: " (see proxyUser and proxyPasswordFile)",
}
#: How servers say over HTTP that the device has shown no certificate: most with 400, nginx's own
#: are 495 and 496.
_CERTIFICATE_STATUS = frozenset({400, 495, 496})
_CERTIFICATE_HINT = " (does the platform want a certificate of the device? see certFile)"
REDIRECTIONS = frozenset({301, 302, 303, 307, 308})
#: What of a text of the platform is repeated in the log, in characters.
_MAX_QUOTED = 160


def describe_end(
    protocol: Any,
    reason: Failure,
    without_key: Callable[[str], str],
    settings: ConnectorSettings,
) -> Outcome:
    """The ``Outcome`` of a ``PlatformProtocol`` whose transport was lost because of ``reason``.

    ``without_key`` takes the API key out of a text: the platform may repeat it in its words.
    ``settings`` are those that the connection was made with.
    """

    def quote(text: str) -> str:
        # In this order: a key that was cut in two would not be found.
        return "".join(c if c.isprintable() else "?" for c in without_key(text)[:_MAX_QUOTED])

    if not protocol.was_open:
        return _describe_refusal(protocol, reason, quote, settings)
    if protocol.failedByMe:
        said = (protocol.localCloseReason or b"").decode("utf-8", "replace")
        return Outcome(
            reason=f"the platform broke the protocol ({protocol.localCloseCode}): {said}",
            was_open=True,
            close_code=PROTOCOL_ERROR,
            by_us=True,
        )
    code = protocol.remoteCloseCode
    if code is None:
        # Autobahn calls it clean when a close frame has come.
        code = NO_STATUS if protocol.wasClean else NO_CLOSE_FRAME
    # Whoever closed first counts: the agent also drops a connection that the platform has closed
    # and then does not end.
    if protocol.own_reason is not None and (protocol.closedByMe or code == NO_CLOSE_FRAME):
        return Outcome(reason=protocol.own_reason, was_open=True, close_code=code, by_us=True)
    if code == NO_CLOSE_FRAME:
        fault = protocol.route.fault()
        text = _describe_transport(reason)
        if fault is not None:
            text += f" ({fault})"
        return Outcome(reason=text, was_open=True, by_network=fault is not None)
    if code == NO_STATUS:
        text = "closed by the platform without a code"
    else:
        text = f"closed by the platform with code {code}"
        if protocol.remoteCloseReason:
            text += f" ('{quote(protocol.remoteCloseReason)}')"
    hint = ""
    if code in REFUSAL_CODES - {MESSAGE_TOO_BIG} and protocol.sent_binary:
        hint = _hint_at_frames(settings)
    return Outcome(reason=text, was_open=True, close_code=code, hint=hint)


def _describe_refusal(
    protocol: Any, reason: Failure, quote: Callable[[str], str], settings: ConnectorSettings
) -> Outcome:
    answer: Head | None = protocol.answer
    if answer is not None and answer.status not in (None, 101):
        hint = _HINTS.get(answer.status or 0, "")
        text = _describe_status("the platform refused the connection", answer, quote)
        location = answer.headers.get("location")
        if answer.status in REDIRECTIONS and location is not None:
            text += f" and points to '{quote(location)}'"
            hint = " (redirects are not followed: see 'host', 'port', 'path' and 'secure')"
            to_set = hint_at_scheme(
                location, settings.secure, settings.host, settings.port, protocol.factory.resource
            )
            if to_set:
                hint = f" (redirects are not followed: set {to_set})"
        if answer.status in _CERTIFICATE_STATUS and _may_miss_a_certificate(settings):
            hint = _CERTIFICATE_HINT
        return Outcome(
            reason=text, http_status=answer.status, retry_after_s=_retry_after(answer), hint=hint
        )
    answer = protocol.proxy_answer
    if answer is not None and answer.status is not None and not 200 <= answer.status < 300:
        return Outcome(
            reason=_describe_status("the proxy refused CONNECT", answer, quote),
            proxy_status=answer.status,
            retry_after_s=_retry_after(answer),
            hint=_PROXY_HINTS.get(answer.status, ""),
        )
    if protocol.own_reason is not None:
        return Outcome(reason=protocol.own_reason)
    if protocol.refusal is not None:
        return Outcome(reason=quote(protocol.refusal))
    text = _describe_transport(reason)
    wants = "certificate required" in text and _may_miss_a_certificate(settings)
    return Outcome(reason=text, hint=_CERTIFICATE_HINT if wants else "")


def _describe_status(what: str, answer: Head, quote: Callable[[str], str]) -> str:
    text = f"{what} with HTTP status {answer.status}"
    return f"{text} ('{quote(answer.phrase)}')" if answer.phrase else text


def _retry_after(answer: Head) -> float | None:
    return parse_retry_after(answer.headers.get("retry-after"), answer.headers.get("date"))


def _may_miss_a_certificate(settings: ConnectorSettings) -> bool:
    return settings.secure and settings.cert_file is None


def _hint_at_frames(settings: ConnectorSettings) -> str:
    if settings.content_type is not ContentType.JSON:
        return " (does the platform want JSON? see contentType)"
    if settings.frame_type is FrameType.BINARY:
        return " (does the platform want JSON in text frames? see frameType)"
    return ""


def _describe_transport(reason: Failure) -> str:
    """A failure of the transport as one short sentence."""
    if reason.check(ConnectionDone):
        return "the other side closed the TCP connection"
    if reason.check(ConnectionAborted):
        return "the agent dropped the TCP connection"
    if reason.check(ConnectionLost):
        return "the TCP connection broke"
    error: BaseException = reason.value  # type: ignore[assignment]
    about_tls = describe_tls(error)
    if about_tls is not None:
        return f"TLS failed: {about_tls}"
    lines = reason.getErrorMessage().splitlines()
    return lines[0].rstrip(".") if lines and lines[0] else type(error).__name__
