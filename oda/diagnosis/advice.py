"""What to do about a failed attempt to connect. Pure."""

from __future__ import annotations

from twisted.internet.error import (
    ConnectionRefusedError,
    NoRouteError,
    TCPTimedOutError,
    TimeoutError,
)

from oda.connector.outcome import REDIRECTIONS, Outcome

_BY_STATUS = {
    401: "the platform doesn't accept the API key: check apiKey and apiKeyFile; a platform that"
    " expects the key as a query parameter needs auth=query",
    403: "the platform knows the key, but not for this device: check deviceId, and the device's"
    " state at the platform",
    404: "check 'path' (the platform's documentation says /south/v80/sessions), and whether the"
    " platform knows the device under this id",
    426: "the port speaks another version of HTTP or WebSocket: check 'port'",
    429: "the platform has had too many attempts: wait, then try again",
    503: "the platform is overloaded or in maintenance: try again later",
}
_BY_PROXY_STATUS = {
    403: "the proxy doesn't let this device through to the platform: check 'host' and 'port', and"
    " the proxy's rules",
    407: "the proxy requires authentication: check proxyUser and proxyPasswordFile",
}


def advise_tcp(error: BaseException, port_key: str) -> str:
    """Advice for a failed TCP connection; ``port_key`` names the key of its port."""
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens there: check '{port_key}', and whether the platform is running"
    if isinstance(error, NoRouteError):
        return "this machine has no route to that network: check its network settings"
    if isinstance(error, TCPTimedOutError | TimeoutError):
        return "nothing came back: a firewall in between, a wrong address, or a machine that is off"
    return "check this machine's network settings"


def advise_tls(text: str) -> str:
    """Advice for a failed TLS handshake, by the words in OpenSSL's text."""
    lowered = text.lower()
    if "wrong version number" in lowered or "unknown protocol" in lowered:
        return "the peer doesn't speak TLS: check 'port', or set secure=false"
    if "certificate required" in lowered or "handshake failure" in lowered:
        return "the platform requires a certificate of the device: set certFile and keyFile"
    if "unsupported protocol" in lowered or "protocol version" in lowered:
        return "the platform doesn't offer TLS 1.2 or newer, which this agent requires"
    if "alert" in lowered and ("certificate" in lowered or "unknown ca" in lowered):
        return "the platform doesn't accept the device's certificate: check certFile and keyFile"
    return "the peer may not speak TLS (secure=false), or may not be the platform: check 'port'"


def advise_upgrade(outcome: Outcome, secure: bool) -> str:
    """Advice for a WebSocket that did not open."""
    if outcome.proxy_status is not None:
        return _BY_PROXY_STATUS.get(
            outcome.proxy_status, "check 'proxyHost' and 'proxyPort', and the proxy's own log"
        )
    status = outcome.http_status
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if outcome.hint:
        return outcome.hint.strip(" ()")
    if status in REDIRECTIONS:
        return "the platform points to another address: check 'host', 'port', 'path' and 'secure'"
    if status is not None:
        return "the peer is a web server without a WebSocket at this path: check 'path'"
    if "TLS failed" in outcome.reason:
        return advise_tls(outcome.reason)
    if not secure:
        return "the peer may expect TLS (secure=true), or may not be the platform: check 'port'"
    return "the peer may not be the platform: check 'port' and 'path'"
