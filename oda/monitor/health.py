"""Is the agent alive, and does what it sends arrive? Pure.

*Live* means only that the process answers. *Ready* means that the connection is open, and that the
platform has answered the newest ping or still has time to. A platform that is known to give no
usable pongs counts as ready while the connection is open; ``acknowledges`` then says so.
"""

from __future__ import annotations

from typing import Any

import msgspec

from oda.model import ConnectionStatus, LinkState

#: A certificate that expires within this time is worth a warning, in milliseconds.
CERTIFICATE_WARNING_MS = 30 * 86_400_000

_NOT_OPEN = {
    LinkState.STOPPED: "the agent is stopped",
    LinkState.IDENTIFYING: "the device's id is not known yet",
    LinkState.CONNECTING: "it is connecting",
    LinkState.CLOSING: "the connection is being closed",
    LinkState.WAITING: "it waits before it connects again",
}


class Readiness(msgspec.Struct, frozen=True):
    """``reasons`` say why the agent is not ready; empty if it is. ``public_reasons`` are for
    unknown readers, and omit what the platform and the network have said."""

    ready: bool
    reasons: tuple[str, ...]
    public_reasons: tuple[str, ...]
    acknowledges: bool

    def body(self, connection: ConnectionStatus) -> dict[str, Any]:
        """What ``/health/ready`` answers."""
        return {
            "ready": self.ready,
            "reasons": list(self.public_reasons),
            "connection": connection.state.value,
            "acknowledges": self.acknowledges,
        }


def judge(connection: ConnectionStatus) -> Readiness:
    """Whether messages sent now would arrive, as far as the agent can know."""
    acknowledges = connection.peer_class == "pong"
    reasons = []
    detail = ""
    if connection.state is not LinkState.OPEN:
        reasons.append(_NOT_OPEN[connection.state])
        if connection.last_end:
            detail = f" ({connection.last_end})"
    elif acknowledges and not connection.is_proven:
        # A dead platform may still accept connections, and each would look well for a while.
        reasons.append("the platform has not answered a ping on this connection yet")
    elif acknowledges and (connection.ping_waits_s or 0.0) >= connection.pong_timeout_s:
        reasons.append(
            f"the platform has not answered a ping for {connection.ping_waits_s:.0f} s"
            f" (pongTimeout is {connection.pong_timeout_s:g} s)"
        )
    public = tuple(reasons)
    told = tuple(reason + detail for reason in reasons)
    return Readiness(not reasons, told, public, acknowledges)


def certificate_warnings(connection: ConnectionStatus, now_ms: int) -> list[str]:
    """A sentence for each certificate that has expired or expires soon."""
    warnings = []
    for whose, ends_ms in (
        ("the platform's certificate", connection.platform_certificate_ends_ms),
        ("the client's certificate (certFile)", connection.client_certificate_ends_ms),
    ):
        if ends_ms is None or ends_ms - now_ms > CERTIFICATE_WARNING_MS:
            continue
        days = (ends_ms - now_ms) // 86_400_000
        warnings.append(f"{whose} has expired" if days < 0 else f"{whose} expires in {days} days")
    return warnings
