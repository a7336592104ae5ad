"""How fast a connection is read: without limit, at a number of bytes per second, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

#: A slow reader reads a portion this often, in seconds.
HELPING_EVERY_S = 0.05


class ReadingGate:
    """Stands between a transport and its protocol.

    ``feed`` gets the bytes that may be read; ``pause`` and ``resume`` stop and start the transport,
    so that the peer notices it through TCP. Changing the speed never calls ``feed`` at once, in the
    middle of the message whose handler changed it.
    """

    def __init__(
        self,
        reactor: Any,
        feed: Callable[[bytes], None],
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._feed = feed
        self._pause = pause
        self._resume = resume
        self._held = bytearray()
        self._next_helping: IDelayedCall | None = None
        self._bytes_per_s: int | None = None
        self._credit = 0.0
        self._is_paused = False
        self._is_closed = False
        self.is_frozen = False

    def set(self, frozen: bool, bytes_per_s: int | None) -> None:
        """Change the speed; bytes held back so far follow at the new speed.

        ``bytes_per_s`` None means no limit.
        """
        was_frozen, self.is_frozen = self.is_frozen, frozen
        self._bytes_per_s = bytes_per_s
        if self._is_closed:
            return
        self._cancel_helping()
        if frozen:
            self._stop_transport()
        elif was_frozen or self._held:
            self._next_helping = self._reactor.callLater(0, self._help)

    def received(self, data: bytes) -> None:
        """The transport has delivered bytes."""
        if self._is_closed:
            return
        is_open = not self.is_frozen and self._bytes_per_s is None
        if is_open and self._next_helping is None:
            self._feed(data)
            return
        self._held += data
        self._stop_transport()
        if self._next_helping is None and not self.is_frozen:
            self._next_helping = self._reactor.callLater(HELPING_EVERY_S, self._help)

    def close(self) -> None:
        """The connection is gone: drop the bytes held back."""
        self._is_closed = True
        self._held.clear()
        self._cancel_helping()

    def _help(self) -> None:
        self._next_helping = None
        self._feed(self._helping())
        # the bytes may have changed the speed or ended the connection
        if self.is_frozen or self._is_closed or self._next_helping is not None:
            return
        if self._held:
            self._next_helping = self._reactor.callLater(HELPING_EVERY_S, self._help)
        else:
            self._credit = 0.0
            self._start_transport()

    def _helping(self) -> bytes:
        """The bytes that may be read now. Even no bytes wake a protocol that was frozen."""
        if self._bytes_per_s is None:
            size = len(self._held)
        else:
            self._credit += self._bytes_per_s * HELPING_EVERY_S
            size = min(len(self._held), int(self._credit))
            self._credit -= size
        helping = bytes(self._held[:size])
        del self._held[:size]
        return helping

    def _cancel_helping(self) -> None:
        if self._next_helping is not None:
            self._next_helping.cancel()
            self._next_helping = None

    def _stop_transport(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._pause()

    def _start_transport(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._resume()
