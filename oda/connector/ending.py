"""Why a connection ended, in one sentence a person can act on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from oda.connector.outcome import (
    NO_CLOSE_FRAME,
    NO_STATUS,
    PROTOCOL_ERROR,
    Outcome,
    parse_retry_after,
)

#: What of a text of the platform is repeated in the log, in characters.
_MAX_QUOTED = 160


def describe_end(protocol: Any, reason: Failure, without_key: Callable[[str], str]) -> Outcome:
    """The ``Outcome`` of a ``PlatformProtocol`` whose transport was lost because of ``reason``.

    ``without_key`` takes the API key out of a text: the platform may repeat it in its words.
    """

    def quote(text: str) -> str:
        # In this order: a key that was cut in two would not be found.
        return "".join(c if c.isprintable() else "?" for c in without_key(text)[:_MAX_QUOTED])

    if not protocol.was_open:
        return _describe_refusal(protocol, reason, quote)
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
    return Outcome(reason=text, was_open=True, close_code=code)


def _describe_refusal(protocol: Any, reason: Failure, quote: Callable[[str], str]) -> Outcome:
    headers = getattr(protocol, "http_headers", None) or {}
    status, phrase = _parse_status(getattr(protocol, "http_status_line", None))
    if status is not None and status != 101:
        text = f"the platform refused the connection with HTTP status {status}"
        if phrase:
            text += f" ('{quote(phrase)}')"
        retry_after_s = parse_retry_after(headers.get("retry-after"))
        return Outcome(reason=text, http_status=status, retry_after_s=retry_after_s)
    if protocol.own_reason is not None:
        return Outcome(reason=protocol.own_reason)
    if protocol.refusal is not None:
        return Outcome(reason=quote(protocol.refusal))
    return Outcome(reason=_describe_transport(reason))


def _parse_status(line: str | None) -> tuple[int | None, str]:
    """The status and phrase of ``HTTP/1.x status phrase``; (None, "") when it is none."""
    parts = (line or "").split(maxsplit=2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/"):
        return None, ""
    if not (len(parts[1]) == 3 and parts[1].isascii() and parts[1].isdigit()):
        return None, ""
    return int(parts[1]), parts[2] if len(parts) > 2 else ""


def _describe_transport(reason: Failure) -> str:
    """A failure of the transport as one short sentence."""
    if reason.check(ConnectionDone):
        return "the other side closed the TCP connection"
    if reason.check(ConnectionAborted):
        return "the agent dropped the TCP connection"
    if reason.check(ConnectionLost):
        return "the TCP connection broke"
    error: BaseException = reason.value  # type: ignore[assignment]
    module = type(error).__module__
    if module.startswith(("OpenSSL", "service_identity")):
        return f"TLS failed: {_describe_tls(error)}"
    lines = reason.getErrorMessage().splitlines()
    return lines[0].rstrip(".") if lines and lines[0] else type(error).__name__


def _describe_tls(error: BaseException) -> str:
    """What pyOpenSSL and service_identity mean; their own texts are data structures."""
    if type(error).__module__.startswith("service_identity"):
        return "the certificate is not for this host"
    causes = error.args[0] if error.args and isinstance(error.args[0], list) else []
    said = [cause[-1] for cause in causes if cause and cause[-1]]
    return ", ".join(said) if said else "the other side ended it"
