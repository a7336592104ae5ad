"""The acknowledgement barrier: a ping that proves what the peer has read.

WebSocket keeps order and a pong repeats its ping's payload (RFC 6455, sections 5.4 and 5.5.3). A
ping that is sent after message number n, and answered, therefore proves that the peer's WebSocket
layer has read the messages up to n. The payload says whose ping it is, a random number of this
connection, and n, so that a pong of another connection, an unsolicited one, or a mangled one can't
acknowledge anything. It is printable ASCII: servers exist that take it for a text. At most one ping
is outstanding, because a peer may answer only the newest.

Pure: bytes and numbers in, bytes and numbers out.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from enum import Enum

MAGIC = b"ODA1"
EPOCH_BYTES = 8


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
        self._outstanding: bytes | None = None
        self._mark = 0
        self._abandoned: tuple[bytes, int] | None = None

    @property
    def is_outstanding(self) -> bool:
        """True while a ping has not been answered."""
        return self._outstanding is not None

    @property
    def unproven(self) -> int:
        """How many messages were sent that no outstanding or answered ping covers."""
        return self.sent - self._mark

    def ping(self) -> bytes:
        """The payload of a new ping that covers everything sent so far.

        Raises ``RuntimeError`` while another is outstanding.
        """
        if self._outstanding is not None:
            raise RuntimeError("a ping is outstanding already")
        self._mark = self.sent
        self._outstanding = b"%b%d" % (self._prefix, self.sent)
        return self._outstanding

    def pong_received(self, payload: bytes) -> Pong:
        """Account for a pong; afterwards ``acknowledged`` says what is proven."""
        if self._outstanding is not None and payload == self._outstanding:
            self._outstanding = self._abandoned = None
            self.acknowledged = self._mark
            return Pong.MATCHES
        if self._abandoned is not None and payload == self._abandoned[0]:
            self.acknowledged = self._abandoned[1]
            self._abandoned = None
            return Pong.LATE
        return Pong.FOREIGN

    def abandon(self) -> None:
        """Give up waiting for the outstanding pong. Should it still come before the next ping has
        been given up as well, it is ``LATE``, and proves what it would have proven."""
        if self._outstanding is not None:
            self._abandoned = (self._outstanding, self._mark)
            self._outstanding = None
