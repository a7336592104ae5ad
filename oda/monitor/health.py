"""Is the agent alive, does what it sends arrive, and is anything wrong with it? Pure.

*Live* means only that the process answers. *Ready* means that the connection is open, and that the
platform has answered the newest ping or still has time to. A platform that is known to give no
usable pongs counts as ready while the connection is open; ``acknowledges`` then says so. *Troubled*
means ready, although something is wrong (``oda.troubles``).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import msgspec

from oda.model import ConnectionStatus, LinkState
from oda.troubles import Trouble
from oda.wording import counted

#: A certificate that expires within this time is worth a warning, in milliseconds.
CERTIFICATE_WARNING_MS = 30 * 86_400_000

_NOT_OPEN = {
    LinkState.STOPPED: "the agent is stopped",
    LinkState.IDENTIFYING: "the device's id is not known yet",
    LinkState.CONNECTING: "the agent is connecting",
    LinkState.CLOSING: "the connection is being closed",
    LinkState.WAITING: "the agent is waiting to connect again",
}


class State(Enum):
    """The agent in one word; the value is what programs read."""

    READY = "ready"
    TROUBLED = "troubled"
    NOT_READY = "not_ready"


class Readiness(msgspec.Struct, frozen=True):
    """``reasons`` say why the agent is not ready; empty if it is. ``public_reasons`` are for
    unknown readers, and omit what the platform and the network have said."""

    ready: bool
    reasons: tuple[str, ...]
    public_reasons: tuple[str, ...]
    acknowledges: bool

    def state(self, troubles: Sequence[Trouble]) -> State:
        """The state, given the present troubles."""
        if not self.ready:
            return State.NOT_READY
        return State.TROUBLED if troubles else State.READY

    def body(self, connection: ConnectionStatus, troubles: Sequence[Trouble]) -> dict[str, Any]:
        """What ``/health`` and ``/health/ready`` answer. It shows only the kind of a trouble,
        because the text may be confidential."""
        return {
            "state": self.state(troubles).value,
            "ready": self.ready,
            "reasons": list(self.public_reasons),
            "connection": connection.state.value,
            "acknowledges": self.acknowledges,
            "troubles": list(dict.fromkeys(one.kind.value for one in troubles)),
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
        # A dead platform may still accept connections, and each would look healthy for a while.
        reasons.append("the platform has not answered a ping on this connection yet")
    elif acknowledges and (connection.ping_waits_s or 0.0) >= connection.pong_timeout_s:
        reasons.append(
            f"the platform has not answered a ping for {connection.ping_waits_s:.0f} s"
            f" (pongTimeout is {connection.pong_timeout_s:g} s)"
        )
    public = tuple(reasons)
    told = tuple(reason + detail for reason in reasons)
    return Readiness(not reasons, told, public, acknowledges)


class ExpiringCertificate(msgspec.Struct, frozen=True):
    """A certificate that has expired or expires soon, and for how long that has been so."""

    whose: str
    text: str
    lasts_s: float

    def __str__(self) -> str:
        return f"{self.whose} {self.text}"


def expiring_certificates(connection: ConnectionStatus, now_ms: int) -> list[ExpiringCertificate]:
    """Each certificate that has expired or expires soon."""
    found = []
    for whose, ends_ms in (
        ("the platform's certificate", connection.platform_certificate_ends_ms),
        ("the client's certificate (certFile)", connection.client_certificate_ends_ms),
    ):
        if ends_ms is None or ends_ms - now_ms > CERTIFICATE_WARNING_MS:
            continue
        days = (ends_ms - now_ms) // 86_400_000
        text = "has expired" if days < 0 else f"expires in {counted(days, 'day')}"
        lasts_s = (now_ms - ends_ms + CERTIFICATE_WARNING_MS) / 1000
        found.append(ExpiringCertificate(whose, text, lasts_s))
    return found
