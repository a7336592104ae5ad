"""The acknowledgement barrier: pings that prove what the peer has read.

WebSocket keeps order and a pong repeats its ping's payload (RFC 6455, sections 5.4 and 5.5.3). A
ping that is sent after message number n, and answered, therefore proves that the peer's WebSocket
layer has read the messages up to n. The payload says whose ping it is, a random number of this
connection, and n, so that a pong of another connection, an unsolicited one, or a mangled one can't
acknowledge anything. It is printable ASCII: servers exist that take it for a text. A peer may
answer only the newest of several pings (section 5.5.3): a pong proves what its ping covers, and
with it answers all pings before.

Pure: bytes and numbers in, bytes and numbers out.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections import deque
from enum import Enum
from typing import NamedTuple

MAGIC = b"ODA1"
EPOCH_BYTES = 8


class _Ping(NamedTuple):
    payload: bytes
    mark: int
    sent_s: float


class Pong(Enum):
    """What a pong is worth."""

    MATCHES = "matches"
    LATE = "late"
    FOREIGN = "foreign"


class AckBarrier:
    """The barrier of one connection.

    ``sent`` counts the messages sent on it, ``acknowledged`` those a pong has proven. Invariant:
    acknowledged <= mark of the newest ping <= sent.
    """

    def __init__(self, epoch: bytes) -> None:
        if len(epoch) != EPOCH_BYTES:
            raise ValueError(f"the epoch must be {EPOCH_BYTES} bytes")
        self._prefix = b"%b-%b-" % (MAGIC, urlsafe_b64encode(epoch).rstrip(b"="))
        self.sent = 0
        self.acknowledged = 0
        self.ping_sent_s = 0.0
        self._outstanding: deque[_Ping] = deque()
        self._mark = 0
        self._abandoned: _Ping | None = None

    @property
    def outstanding(self) -> int:
        """How many pings have not been answered."""
        return len(self._outstanding)

    @property
    def is_outstanding(self) -> bool:
        """True while a ping has not been answered."""
        return bool(self._outstanding)

    @property
    def unproven(self) -> int:
        """How many messages were sent that no outstanding or answered ping covers."""
        return self.sent - self._mark

    def ping(self, now_s: float = 0.0) -> bytes:
        """The payload of a new ping that covers everything sent so far.

        Raises ``RuntimeError`` while another that covers the same is outstanding: their pongs
        could not be told apart.
        """
        if self._outstanding and self._outstanding[-1].mark == self.sent:
            raise RuntimeError("a ping that covers the same is outstanding already")
        self._mark = self.sent
        payload = b"%b%d" % (self._prefix, self.sent)
        self._outstanding.append(_Ping(payload, self.sent, now_s))
        return payload

    def pong_received(self, payload: bytes) -> Pong:
        """Account for a pong; afterwards ``acknowledged`` says what is proven, and for one that
        matches ``ping_sent_s`` when its ping was sent."""
        for ping in reversed(self._outstanding):
            if payload == ping.payload:
                while self._outstanding.popleft() is not ping:
                    pass
                self._abandoned = None
                self.acknowledged = ping.mark
                self.ping_sent_s = ping.sent_s
                return Pong.MATCHES
        late = self._abandoned
        if late is not None and payload == late.payload:
            self.acknowledged = late.mark
            self._abandoned = None
            return Pong.LATE
        return Pong.FOREIGN

    def abandon(self) -> None:
        """Give up waiting for outstanding pongs. Should that of the newest still come before the
        next ping has been given up as well, it is ``LATE``, and proves what it would have
        proven."""
        if self._outstanding:
            self._abandoned = self._outstanding[-1]
            self._outstanding.clear()
