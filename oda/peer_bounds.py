"""What the other side of a WebSocket can make this side keep, whichever side this is.

Autobahn keeps as many pieces of a message as arrive, and as many pongs as are asked for. The agent,
the stand-in platform and the recording proxy all stand on Autobahn, so all of them use these.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: A request or an answer of the upgrade (or of CONNECT) longer than this is none, in bytes.
MAX_HANDSHAKE_BYTES = 64 * 1024

#: So many pieces that came one after the other are joined to one.
_JOINED = 256


class Pieces(list[bytes]):
    """What has arrived of a message or a frame, for Autobahn, which keeps a list.

    A piece of two bytes costs forty in a list, and an empty one eight, for as long as the message
    lasts: pieces that came one after the other are joined, and empty ones left out.
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
    """Put before an Autobahn protocol: it keeps no more than one message and one handshake hold.

    A message costs what it holds, however it is cut. A handshake without an end is given up. Behind
    the end of a connection nothing is kept, however long the other side leaves the last bytes
    unread.
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
        """Autobahn's own entry, behind the one of Twisted."""
        if self.state == self.STATE_CLOSED:
            return
        super()._dataReceived(data)  # type: ignore[misc]
        if (
            self.state in (self.STATE_CONNECTING, self.STATE_PROXY_CONNECTING)
            and len(self.data) > MAX_HANDSHAKE_BYTES
        ):
            self.handshake_is_endless()

    def handshake_is_endless(self) -> None:
        """More than ``MAX_HANDSHAKE_BYTES`` have come, and no end."""
        self.transport.abortConnection()

    def onMessageBegin(self, isBinary: bool) -> None:
        super().onMessageBegin(isBinary)  # type: ignore[misc]
        self.message_data = Pieces()

    def onMessageFrameBegin(self, length: int) -> None:
        super().onMessageFrameBegin(length)  # type: ignore[misc]
        self.frame_data = Pieces()


class NewestPong:
    """Which ping is answered: each one while the network takes what is written, later the newest.

    Only the newest ping needs an answer (RFC 6455, section 5.5.3): whoever pings and reads nothing
    must not fill the memory with pongs.
    """

    def __init__(self) -> None:
        self._takes = True
        self._waiting: bytes | None = None

    def may_go(self, payload: bytes) -> bool:
        """Whether a pong may be sent now. One that may not waits, in the place of an older one."""
        if not self._takes:
            self._waiting = payload
        return self._takes

    def writable_changed(self, takes: bool) -> bytes | None:
        """The transport's buffer is full (False) or empty again (True): the pong to send now."""
        self._takes = takes
        if not takes:
            return None
        payload, self._waiting = self._waiting, None
        return payload
