"""Limits what a WebSocket peer can make this side keep in memory, on either side.

Autobahn keeps every piece of a message that arrives, and a pong for every ping. The agent, the
stand-in platform and the recording proxy are all built on Autobahn, so all of them use this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: The longest request or answer of the upgrade (or of CONNECT), in bytes.
MAX_HANDSHAKE_BYTES = 64 * 1024

#: This many consecutive pieces are joined into one.
_JOINED = 256


class Pieces(list[bytes]):
    """The received pieces of a message or a frame, as the list that Autobahn expects.

    In a list, a piece of two bytes costs forty bytes and an empty one eight, until the message
    ends. So this list joins consecutive pieces and leaves empty ones out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._joined = 0

    def append(self, piece: bytes) -> None:
        if not piece:
            return
        super().append(piece)
        if len(self) - self._joined >= _JOINED:
            self[self._joined :] = [b"".join(self[self._joined :])]
            self._joined += 1

    def extend(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self.append(piece)


class BoundedReception:
    """A mixin before an Autobahn protocol: it keeps no more than one message and one handshake.

    A message costs what it holds, whatever the size of its pieces. A handshake without an end is
    abandoned. After the end of a connection nothing is kept, however long the peer leaves the last
    bytes unread.
    """

    # Autobahn's names.
    data: Any
    state: Any
    transport: Any
    message_data: Any
    frame_data: Any
    STATE_CLOSED: Any
    STATE_CONNECTING: Any
    STATE_PROXY_CONNECTING: Any

    def _dataReceived(self, data: bytes) -> None:
        """Autobahn's own entry point, called after Twisted's."""
        if self.state == self.STATE_CLOSED:
            return
        super()._dataReceived(data)  # type: ignore[misc]
        if (
            self.state in (self.STATE_CONNECTING, self.STATE_PROXY_CONNECTING)
            and len(self.data) > MAX_HANDSHAKE_BYTES
        ):
            self.handshake_is_endless()

    def handshake_is_endless(self) -> None:
        """More than ``MAX_HANDSHAKE_BYTES`` have arrived without an end."""
        self.transport.abortConnection()

    def onMessageBegin(self, isBinary: bool) -> None:
        super().onMessageBegin(isBinary)  # type: ignore[misc]
        self.message_data = Pieces()

    def onMessageFrameBegin(self, length: int) -> None:
        super().onMessageFrameBegin(length)  # type: ignore[misc]
        self.frame_data = Pieces()


class NewestPong:
    """Decides which pings to answer: every one while the transport accepts writes, else the newest.

    Only the newest ping needs an answer (RFC 6455, section 5.5.3). A peer that sends pings and
    reads nothing must not fill the memory with pongs.
    """

    def __init__(self) -> None:
        self._takes = True
        self._waiting: bytes | None = None

    def may_go(self, payload: bytes) -> bool:
        """Whether this pong may be sent now. If not, it replaces the pong that waits."""
        if not self._takes:
            self._waiting = payload
        return self._takes

    def writable_changed(self, takes: bool) -> bytes | None:
        """The transport's buffer is full (False) or empty again (True). Returns a pong to send."""
        self._takes = takes
        if not takes:
            return None
        payload, self._waiting = self._waiting, None
        return payload
