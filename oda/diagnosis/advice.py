"""What to do about an attempt to connect that failed. Pure."""

from __future__ import annotations

from twisted.internet.error import (
    ConnectionRefusedError,
    NoRouteError,
    TCPTimedOutError,
    TimeoutError,
)

from oda.connector.outcome import REDIRECTIONS, Outcome

_BY_STATUS = {
    401: "the platform doesn't accept the API key: see apiKey and apiKeyFile; a platform that wants"
    " it as a query parameter needs auth=query",
    403: "the platform knows the key, but not for this device: see deviceId, and the device's state"
    " at the platform",
    404: "see 'path' (the platform's documentation says /south/v80/sessions), and whether the"
    " device is known there under this id",
    426: "the port speaks another version of HTTP or WebSocket: see 'port'",
    429: "the platform has had too many attempts: wait, then try again",
    503: "the platform is overloaded or in maintenance: try again later",
}
_BY_PROXY_STATUS = {
    403: "the proxy doesn't let this device through to the platform: see 'host' and 'port', and the"
    " proxy's rules",
    407: "the proxy wants to know who the agent is: see proxyUser and proxyPasswordFile",
}


def advise_tcp(error: BaseException, port_key: str) -> str:
    """For a TCP connection that could not be made; ``port_key`` names the key of its port."""
    if isinstance(error, ConnectionRefusedError):
        return f"nobody listens there: see '{port_key}', and whether the platform is running"
    if isinstance(error, NoRouteError):
        return "this machine has no way to that network: see its network settings"
    if isinstance(error, TCPTimedOutError | TimeoutError):
        return "nothing came back: a firewall on the way, a wrong address, or a machine that is off"
    return "see this machine's network settings"


def advise_tls(text: str) -> str:
    """For a TLS handshake that failed with this text of OpenSSL, by what it speaks of."""
    lowered = text.lower()
    if "wrong version number" in lowered or "unknown protocol" in lowered:
        return "what answers there speaks no TLS: see 'port', or set secure=false"
    if "certificate required" in lowered or "handshake failure" in lowered:
        return "the platform wants a certificate of the device: see certFile and keyFile"
    if "unsupported protocol" in lowered or "protocol version" in lowered:
        return "the platform offers no TLS 1.2 or newer, which this agent insists on"
    if "alert" in lowered and ("certificate" in lowered or "unknown ca" in lowered):
        return "the platform doesn't accept the device's certificate: see certFile and keyFile"
    return "what answers there may speak no TLS (secure=false), or is no platform: see 'port'"


def advise_upgrade(outcome: Outcome, secure: bool) -> str:
    """For a WebSocket that did not come to be."""
    if outcome.proxy_status is not None:
        return _BY_PROXY_STATUS.get(
            outcome.proxy_status, "see 'proxyHost' and 'proxyPort', and the proxy's own log"
        )
    status = outcome.http_status
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if outcome.hint:
        return outcome.hint.strip(" ()")
    if status in REDIRECTIONS:
        return "the platform points to another address: see 'host', 'port', 'path' and 'secure'"
    if status is not None:
        return "what answers there is a web server, but no WebSocket at this path: see 'path'"
    if "TLS failed" in outcome.reason:
        return advise_tls(outcome.reason)
    if not secure:
        return "what answers there may want TLS (secure=true), or is no platform: see 'port'"
    return "what answers there is perhaps no platform: see 'port' and 'path'"
