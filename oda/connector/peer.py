"""What the agent knows of the platform at one address: whether its pongs prove anything, and how
much silence a connection to it survives. ``Peers`` keeps both as long as the process runs.

RFC 6455 obliges a peer to answer pings, yet some servers answer none, or with another payload. Once
a platform has answered, the agent expects answers (``Peer``): if one is missing, the connection is
dead. A platform that has never answered, on two connections in a row, gives no pongs; the agent
continues without proofs and logs that. Pongs that answer no ping of the agent say nothing (RFC
6455, section 5.5.3, allows them). A missing pong also says nothing if the network explains it,
because the ping has not left the device.

Load balancers, proxies and NATs end idle connections. Many do so without notice, and only the next
ping finds out. When two connections in a row to one address end after about the same time of
silence, the agent pings twice as often as that from then on, but not more often than every
``FLOOR_S`` (``Silence``). The configured ``keepAliveInterval`` is the upper limit.
"""

from __future__ import annotations

from enum import Enum

from oda.log import Logger

_log = Logger()


# -- silence -------------------------------------------------------------------------------------


#: Shortest interval between pings that ``Silence`` chooses, in seconds.
FLOOR_S = 15.0
#: An end after less silence than this had another reason, in seconds.
_LEAST_S = 20.0
#: Two silences are about the same when they differ by no more than this fraction.
_LIKENESS = 0.2


class Silence:
    """What the agent knows of one address. ``keep_alive_s`` is the longest time that should pass
    between two pings, None where it has learnt nothing."""

    def __init__(self) -> None:
        self.keep_alive_s: float | None = None
        self._before_s: float | None = None

    def interval_s(self, configured_s: float) -> float:
        """How often to ping, with ``configured_s`` as the upper limit."""
        return configured_s if self.keep_alive_s is None else min(configured_s, self.keep_alive_s)

    def ended(self, silence_s: float | None, configured_s: float) -> None:
        """A connection has ended without notice after ``silence_s``, or (None) in another way."""
        before_s, self._before_s = self._before_s, silence_s
        if silence_s is None or silence_s < _LEAST_S:
            self._before_s = None
            return
        if before_s is None or abs(before_s - silence_s) > _LIKENESS * max(before_s, silence_s):
            return
        learnt_s = max(FLOOR_S, min(before_s, silence_s) / 2)
        if learnt_s >= self.interval_s(configured_s):
            return
        self.keep_alive_s = learnt_s
        self._before_s = None
        _log.warn(
            "two connections in a row ended after {silence:.0f} s of silence: the agent pings every"
            " {interval:.0f} s instead of every {configured:.0f} s",
            silence=silence_s,
            interval=learnt_s,
            configured=configured_s,
        )


# -- peers ---------------------------------------------------------------------------------------


#: Number of connections without any answer after which a peer counts as one without pongs.
_SILENT_CONNECTIONS = 2
#: Maximum number of remembered addresses; a name server may give new ones for ever.
_MAX_ADDRESSES = 64


class PeerClass(Enum):
    """How the peer answers pings."""

    PONG = "pong"
    NONE = "none"
    UNUSABLE = "unusable"


class Peer:
    """The observed behaviour of one platform; ``peer_class`` is PONG until shown otherwise.
    ``silence`` knows how long a silent connection to the platform lives."""

    def __init__(self) -> None:
        self.silence = Silence()
        self.peer_class = PeerClass.PONG
        self._has_answered = False
        self._silences = 0

    def answered(self) -> None:
        """A matching pong has arrived."""
        self._has_answered = True
        self._silences = 0
        if self.peer_class is not PeerClass.PONG:
            self.peer_class = PeerClass.PONG
            _log.info("the platform answers pings: deliveries are acknowledged again")

    def missed(self, saw_foreign_pong: bool, is_explained: bool = False) -> PeerClass:
        """No matching pong arrived in time. Returns the class of the peer from now on.
        ``is_explained``: the peer may not have got the ping.

        PONG means that the peer should have answered: the connection is dead.
        """
        if self.peer_class is not PeerClass.PONG or self._has_answered or is_explained:
            return self.peer_class
        self._silences += 1
        if self._silences >= _SILENT_CONNECTIONS:
            if saw_foreign_pong:
                self._become(PeerClass.UNUSABLE, "answers pings with another payload")
            else:
                self._become(PeerClass.NONE, "never answers pings")
        return self.peer_class

    def _become(self, peer_class: PeerClass, behaviour: str) -> None:
        self.peer_class = peer_class
        _log.warn(
            "the platform {behaviour}: it can't acknowledge deliveries; messages count as"
            " delivered once they are written to the network",
            behaviour=behaviour,
        )


class Peers:
    """The peers by their address, the most recently used last."""

    def __init__(self) -> None:
        self._by_address: dict[object, Peer] = {}

    def at(self, address: object) -> Peer:
        """The peer at ``address`` (anything that can be compared)."""
        peer = self._by_address.pop(address, None) or Peer()
        self._by_address[address] = peer
        if len(self._by_address) > _MAX_ADDRESSES:
            del self._by_address[next(iter(self._by_address))]
        return peer
