"""How a connection, or an attempt, ended: as data that decides what follows, and as one sentence
that an operator can act on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from email.utils import mktime_tz, parsedate_to_datetime, parsedate_tz
from enum import Enum
from typing import Any

import msgspec
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from oda.connector.handshake import Head, hint_at_scheme
from oda.model import ContentType
from oda.settings import ConnectorSettings, FrameType
from oda.verification import describe_tls

# -- the outcome ---------------------------------------------------------------------------------


#: The only closes with which the platform says that it has finished in good order and has kept
#: what it had read (RFC 6455, section 7.4.1: normal closure, going away).
ORDERLY_CODES = frozenset({1000, 1001})
#: Closes with which the peer says that a message was unacceptable (RFC 6455, section 7.4.1).
REFUSAL_CODES = frozenset({1003, 1007, 1008, 1009})

#: Both sides had sent what they wanted to send (RFC 6455, section 7.4.1).
NORMAL_CLOSURE = 1000
#: Codes that never travel (RFC 6455, section 7.4.1): a close frame without a code, and a
#: connection that ended without a close frame.
NO_STATUS = 1005
NO_CLOSE_FRAME = 1006
#: A connection that the agent closed because the peer broke the protocol.
PROTOCOL_ERROR = 1002
#: A message is too large for the peer.
MESSAGE_TOO_BIG = 1009
#: The platform's own peer failed (IANA registry).
BAD_GATEWAY = 1014


class Cause(Enum):
    """Who or what ended a connection or an attempt."""

    #: The agent closed the connection: no pong arrived, a defect, other settings.
    AGENT = "agent"
    #: The agent closed the connection because the platform broke the protocol.
    BREACH = "breach"
    #: The device's own network: timed out, unreachable, another interface or address.
    NETWORK = "network"
    #: FIN or RST of the other side, without a close frame.
    DROPPED = "dropped"
    #: A close frame of the platform. The number is its code.
    CLOSED = "closed"
    #: The platform refused the upgrade. The number is its HTTP status.
    REFUSED = "refused"
    #: The proxy refused CONNECT. The number is its HTTP status.
    PROXY = "proxy"
    #: An attempt that failed before any answer to the upgrade: name, TCP, proxy, TLS, time limit.
    FAILED = "failed"


class Lane(Enum):
    """How eagerly to connect again; ``reconnect`` gives the seconds for each lane."""

    #: At once: no other device has the same reason to connect at this moment.
    PROMPT = "prompt"
    #: The platform may have ended the connections of all its devices without a word.
    SPREAD = "spread"
    #: The platform has told all its devices to go.
    CROWD = "crowd"
    #: The same, or the platform refuses this device: haste does not help.
    SLOW = "slow"


_ANY: frozenset[int] = frozenset()

#: The lane for each cause; the first row that matches counts. The numbers are close codes (RFC
#: 6455, section 7.4.1, and the IANA registry) or HTTP statuses; no numbers stand for all of them.
LANES: tuple[tuple[Cause, frozenset[int], Lane], ...] = (
    (Cause.AGENT, _ANY, Lane.PROMPT),
    (Cause.NETWORK, _ANY, Lane.PROMPT),
    (Cause.FAILED, _ANY, Lane.PROMPT),  # the window keeps doubling
    (Cause.DROPPED, _ANY, Lane.SPREAD),
    (Cause.BREACH, _ANY, Lane.SPREAD),  # one wrong message may have been sent to all devices
    (Cause.CLOSED, frozenset({1001, 1012}), Lane.CROWD),  # going away, service restart
    (Cause.CLOSED, frozenset({1008, 1013}), Lane.SLOW),  # policy violation, try again later
    # Something that this device sent was not acceptable, which does not concern other devices.
    (Cause.CLOSED, frozenset({1002, 1003, 1007, 1009, 1010}), Lane.PROMPT),
    (Cause.CLOSED, _ANY, Lane.SPREAD),
    (Cause.REFUSED, frozenset({401, 403, 429, 503}), Lane.SLOW),
    (Cause.REFUSED, _ANY, Lane.PROMPT),
    (Cause.PROXY, frozenset({403, 407, 429, 503}), Lane.SLOW),
    (Cause.PROXY, _ANY, Lane.PROMPT),
)


class Outcome(msgspec.Struct, frozen=True):
    """The end of one attempt or connection.

    ``was_open`` says whether the WebSocket had been open. ``close_code`` is the peer's, 1006
    without a close frame. ``http_status`` is the status with which the platform refused the
    upgrade, ``proxy_status`` the one with which a proxy refused CONNECT; ``retry_after_s`` is the
    wait that the answer asked for. ``by_us``: the agent was the first to close. ``by_network``: the
    device's own network ended the connection. ``hint`` says what the operator should check: a text
    to append to ``reason``, or empty.
    """

    reason: str
    was_open: bool = False
    close_code: int = NO_CLOSE_FRAME
    http_status: int | None = None
    retry_after_s: float | None = None
    by_us: bool = False
    by_network: bool = False
    proxy_status: int | None = None
    hint: str = ""

    @property
    def cause(self) -> Cause:
        """What ended the connection or attempt."""
        if self.proxy_status is not None:
            return Cause.PROXY
        if self.http_status is not None:
            return Cause.REFUSED
        if not self.was_open:
            return Cause.FAILED
        if self.by_us:
            return Cause.BREACH if self.close_code == PROTOCOL_ERROR else Cause.AGENT
        if self.close_code != NO_CLOSE_FRAME:
            return Cause.CLOSED
        return Cause.NETWORK if self.by_network else Cause.DROPPED

    @property
    def lane(self) -> Lane:
        """How eagerly to connect again, see ``LANES``."""
        cause = self.cause
        number = self.proxy_status or self.http_status or self.close_code
        return next(
            lane
            for row, numbers, lane in LANES
            if row is cause and (not numbers or number in numbers)
        )

    @property
    def replay(self) -> bool:
        """True when messages that a pong acknowledged may still have been lost."""
        return self.was_open and self.close_code not in ORDERLY_CODES

    @property
    def label(self) -> str:
        """A word for counters: one of few values, none of them chosen by the peer."""
        if self.http_status is not None:
            return f"http_{self.http_status}"
        if self.proxy_status is not None:
            return f"proxy_{self.proxy_status}"
        if not self.was_open:
            return "connect_failed"
        if self.by_us:
            return "closed_by_agent"
        return f"close_{self.close_code}"


def parse_retry_after(
    text: str | None, date: str | None = None, limit_s: float = 3600.0
) -> float | None:
    """The wait that a ``Retry-After`` header asks for, in seconds, at most ``limit_s``; None if it
    asks for none (RFC 9110, section 10.2.3).

    If the header is a date, ``date`` (the header ``Date`` of the same answer) gives the present
    time: the device's own clock may be wrong.
    """
    text = (text or "").strip()
    if text.isascii() and text.isdecimal():
        return min(float(text), limit_s)
    until, now = _parse_date(text), _parse_date(date or "")
    if until is None or now is None:
        return None
    return min(max(until - now, 0.0), limit_s)


def _parse_date(text: str) -> float | None:
    """An HTTP date (RFC 9110, section 5.6.7) in seconds since the epoch; None for anything else."""
    try:
        parsedate_to_datetime(text)  # raises if there is no such day or hour
        found = parsedate_tz(text)
        # One of the three forms names no zone; all of them are in UTC.
        return None if found is None else float(mktime_tz((*found[:9], found[9] or 0)))
    except (ValueError, IndexError, TypeError, OverflowError):
        return None


# -- the sentence --------------------------------------------------------------------------------


#: What the operator should check, by the status with which the upgrade was refused.
_HINTS = {
    401: " (is the API key right?)",
    403: " (may this device connect with this API key?)",
    404: " (is 'path' right, and the device known?)",
}
_PROXY_HINTS = {
    403: " (may this device connect to the platform through the proxy?)",
    407: " (see proxyUser and proxyPasswordFile)",
}
#: The statuses with which servers say that the device has shown no certificate: most use 400,
#: nginx its own 495 and 496.
_CERTIFICATE_STATUS = frozenset({400, 495, 496})
_CERTIFICATE_HINT = " (does the platform want a certificate of the device? see certFile)"
REDIRECTIONS = frozenset({301, 302, 303, 307, 308})
#: How much of the platform's text is repeated in the log, in characters.
_MAX_QUOTED = 160
#: The rest of a longer text is not searched for the key.
_MAX_SEARCHED = 16 * 1024


def describe_end(
    protocol: Any,
    reason: Failure,
    without_key: Callable[[str], str],
    settings: ConnectorSettings,
) -> Outcome:
    """The ``Outcome`` of a ``PlatformProtocol`` whose transport was lost because of ``reason``.

    ``without_key`` masks the API key in a text: the platform may repeat the key in its words.
    ``settings`` are those that the connection was made with.
    """

    def quote(text: str) -> str:
        # In this order: the key would not be found once it was cut in two. The first limit keeps
        # the search from taking long over megabytes.
        clean = without_key(text[:_MAX_SEARCHED])[:_MAX_QUOTED]
        return "".join(c if c.isprintable() else "?" for c in clean)

    if not protocol.was_open:
        return _describe_refusal(protocol, reason, quote, settings)
    if protocol.failedByMe:
        said = (protocol.localCloseReason or b"").decode("utf-8", "replace")
        return Outcome(
            reason=f"the platform broke the protocol ({protocol.localCloseCode}): {quote(said)}",
            was_open=True,
            close_code=PROTOCOL_ERROR,
            by_us=True,
        )
    code = protocol.remoteCloseCode
    if code is None:
        # Autobahn calls the end clean when a close frame has arrived.
        code = NO_STATUS if protocol.wasClean else NO_CLOSE_FRAME
    # The first to close counts: the agent also drops a connection that the platform has closed but
    # does not end.
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


def describe_connect_failure(reason: Failure) -> str:
    """Why a TCP connection failed: in the system's words, without Twisted's additions."""
    number = getattr(reason.value, "osError", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number)
    return str(reason.getErrorMessage()).rstrip(".")
