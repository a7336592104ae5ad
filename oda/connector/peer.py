"""What kind of platform is at the other end, as far as pings are concerned.

RFC 6455 obliges a peer to answer pings, yet servers exist that answer none, or with another
payload. What is learnt is kept across connections: a platform that has answered once and then
stays silent is dead; one that has never answered, on two connections in a row, is taken to be of
the other kind, and the agent goes on without proofs, saying so.
"""

from __future__ import annotations

from enum import Enum

from twisted.logger import Logger

_log = Logger()

#: How many connections without any answer make a peer one that doesn't answer.
_SILENT_CONNECTIONS = 2


class PeerClass(Enum):
    """How the peer answers pings."""

    PONG = "pong"
    NONE = "none"
    UNUSABLE = "unusable"


class Peer:
    """The memory of one platform's behaviour; ``peer_class`` is PONG until shown otherwise."""

    def __init__(self) -> None:
        self.peer_class = PeerClass.PONG
        self._has_answered = False
        self._has_answered_here = False
        self._silences = 0

    def connected(self) -> None:
        """A new connection begins."""
        self._has_answered_here = False

    def answered(self) -> None:
        """A matching pong has come."""
        self._has_answered = self._has_answered_here = True
        self._silences = 0
        if self.peer_class is not PeerClass.PONG:
            self.peer_class = PeerClass.PONG
            _log.info("the platform answers pings: deliveries are acknowledged again")

    def missed(self, saw_foreign_pong: bool) -> PeerClass:
        """No matching pong came in time; returns what the peer is taken for now.

        PONG means: it should have answered, the connection is dead.
        """
        if self.peer_class is not PeerClass.PONG:
            return self.peer_class
        if saw_foreign_pong and not self._has_answered_here:
            # Otherwise they are unsolicited (RFC 6455 allows that) and the connection is dead.
            self._become(PeerClass.UNUSABLE, "answers pings with another payload")
        elif not self._has_answered:
            self._silences += 1
            if self._silences >= _SILENT_CONNECTIONS:
                self._become(PeerClass.NONE, "never answers pings")
        return self.peer_class

    def _become(self, peer_class: PeerClass, behaviour: str) -> None:
        self.peer_class = peer_class
        _log.warn(
            "the platform {behaviour}: deliveries can't be acknowledged, messages count as"
            " delivered once they are written to the network",
            behaviour=behaviour,
        )
