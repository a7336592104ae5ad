"""How a connection (or the attempt at one) ended, and what follows from it.

Pure data. ``backoff`` asks for the lane, the outbox for whether acknowledged rows are replayed,
the log for a sentence. ``LANES`` is the one place that decides how eagerly to connect again.
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


class Cause(Enum):
    """Who or what ended a connection, or an attempt at one."""

    #: The agent closed the connection: no pong came, a defect, other settings.
    AGENT = "agent"
    #: The agent closed the connection because the platform broke the protocol.
    BREACH = "breach"
    #: The device's own network: timed out, unreachable, another interface or address.
    NETWORK = "network"
    #: FIN or RST of the other side, without a close frame.
    DROPPED = "dropped"
    #: A close frame of the platform. The number is its code.
    CLOSED = "closed"
    #: An answer to the upgrade that was no upgrade. The number is its HTTP status.
    REFUSED = "refused"
    #: An attempt that failed before any answer to the upgrade: name, TCP, proxy, TLS, time limit.
    FAILED = "failed"


class Lane(Enum):
    """How eagerly to connect again; ``backoff`` says what each of them means in seconds."""

    #: At once: nobody else has the same reason to connect at this moment.
    PROMPT = "prompt"
    #: The platform may have ended the connections of all its devices, without a word of it.
    SPREAD = "spread"
    #: The platform has told all its devices to go.
    CROWD = "crowd"
    #: The same, or it refuses this device: haste does not help.
    SLOW = "slow"


_ANY: frozenset[int] = frozenset()

#: The lane for each cause; the first row that fits counts. The numbers are close codes (RFC 6455,
#: section 7.4.1, and the IANA registry) or HTTP statuses; no numbers stand for all of them.
LANES: tuple[tuple[Cause, frozenset[int], Lane], ...] = (
    (Cause.AGENT, _ANY, Lane.PROMPT),
    (Cause.NETWORK, _ANY, Lane.PROMPT),
    (Cause.FAILED, _ANY, Lane.PROMPT),  # the window goes on doubling from what it was
    (Cause.DROPPED, _ANY, Lane.SPREAD),
    (Cause.BREACH, _ANY, Lane.SPREAD),  # one wrong message may have been sent to all devices
    (Cause.CLOSED, frozenset({1001, 1012}), Lane.CROWD),  # going away, service restart
    (Cause.CLOSED, frozenset({1008, 1013}), Lane.SLOW),  # policy violation, try again later
    # What this device has sent was not acceptable: no matter of other devices.
    (Cause.CLOSED, frozenset({1002, 1003, 1007, 1009, 1010}), Lane.PROMPT),
    (Cause.CLOSED, _ANY, Lane.SPREAD),
    (Cause.REFUSED, frozenset({401, 403, 429, 503}), Lane.SLOW),
    (Cause.REFUSED, _ANY, Lane.PROMPT),
)


class Outcome(msgspec.Struct, frozen=True):
    """The end of one attempt or connection.

    ``was_open`` says whether the WebSocket had been open. ``close_code`` is the peer's, 1006
    without a close frame. ``http_status`` is what the upgrade was answered with, ``retry_after_s``
    the wait that answer asked for. ``by_us``: the agent was the first to close. ``by_network``: the
    device's own network ended the connection.
    """

    reason: str
    was_open: bool = False
    close_code: int = NO_CLOSE_FRAME
    http_status: int | None = None
    retry_after_s: float | None = None
    by_us: bool = False
    by_network: bool = False

    @property
    def cause(self) -> Cause:
        """What ended it."""
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
        number = self.close_code if self.http_status is None else self.http_status
        return next(
            lane
            for row, numbers, lane in LANES
            if row is cause and (not numbers or number in numbers)
        )

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
