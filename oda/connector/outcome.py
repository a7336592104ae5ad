"""How a connection (or the attempt at one) ended, and what follows from it.

Pure data. ``backoff`` asks for the lane, the outbox for whether acknowledged rows are replayed,
the log for a sentence.
"""

from __future__ import annotations

from enum import Enum

import msgspec

#: Closes after which the platform may not have kept what it had read (RFC 6455, section 7.4, and
#: the IANA registry: no close frame, internal error, service restart, try again later).
REPLAY_CODES = frozenset({1006, 1011, 1012, 1013})
#: Closes by which the peer says that a message was unacceptable (RFC 6455, section 7.4.1).
REFUSAL_CODES = frozenset({1003, 1007, 1008, 1009})

#: Both sides had said what they wanted to say (RFC 6455, section 7.4.1).
NORMAL_CLOSURE = 1000
#: Codes that never travel (RFC 6455, section 7.4.1): a close frame without a code, and a
#: connection that ended without a close frame.
NO_STATUS = 1005
NO_CLOSE_FRAME = 1006
#: A connection that the agent closed because the peer broke the protocol.
PROTOCOL_ERROR = 1002


#: What an operator should look at, by the status the upgrade was refused with.
_HINTS = {
    401: " (is the API key right?)",
    403: " (may this device connect with this API key?)",
    404: " (is 'path' right, and the device known?)",
}


class Lane(Enum):
    """How eagerly to connect again."""

    NORMAL = "normal"
    CROWD = "crowd"
    SLOW = "slow"


class Outcome(msgspec.Struct, frozen=True):
    """The end of one attempt or connection.

    ``was_open`` says whether the WebSocket had been open. ``close_code`` is the peer's, 1006
    without a close frame. ``http_status`` is what the upgrade was answered with, ``retry_after_s``
    the wait that answer asked for.
    """

    reason: str
    was_open: bool = False
    close_code: int = NO_CLOSE_FRAME
    http_status: int | None = None
    retry_after_s: float | None = None
    by_us: bool = False

    @property
    def lane(self) -> Lane:
        """Refused credentials and an overloaded platform are not helped by haste; a platform that
        goes away or restarts (RFC 6455, section 7.4.1; 1012 in the IANA registry) says so to all
        its devices at once."""
        if self.http_status in (401, 403, 429, 503) or self.close_code in (1008, 1013):
            return Lane.SLOW
        if self.was_open and self.close_code in (1001, 1012) and not self.by_us:
            return Lane.CROWD
        return Lane.NORMAL

    @property
    def replay(self) -> bool:
        """True when messages that a pong acknowledged may still have been lost."""
        return self.was_open and self.close_code in REPLAY_CODES

    @property
    def hint(self) -> str:
        """What an operator should look at; empty, or a text to be put behind ``reason``."""
        return _HINTS.get(self.http_status or 0, "")

    @property
    def label(self) -> str:
        """A word for counters: few different values, none of them made by the peer."""
        if self.http_status is not None:
            return f"http_{self.http_status}"
        if not self.was_open:
            return "connect_failed"
        if self.by_us:
            return "closed_by_agent"
        return f"close_{self.close_code}"


def parse_retry_after(text: str | None, limit_s: float = 3600.0) -> float | None:
    """Seconds to wait according to a ``Retry-After`` header, at most ``limit_s``.

    Only the form in seconds is read (RFC 9110, section 10.2.3); the form with a date would need a
    clock that the device may not have.
    """
    if text is None or not text.strip().isdecimal():
        return None
    return min(float(text.strip()), limit_s)
