"""How fast a connection is read: at will, so many bytes per second, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

#: A slow reader takes a helping this often.
_HELPING_EVERY_S = 0.05


class ReadingGate:
    """Stands between a transport and its protocol.

    ``feed`` gets the bytes that may be read; ``pause`` and ``resume`` stop and start the transport,
    so that the peer feels it through TCP.
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
        self._helping: IDelayedCall | None = None
        self._bytes_per_s: int | None = None
        self._credit = 0.0
        self._is_paused = False
        self.is_frozen = False

    def set(self, frozen: bool, bytes_per_s: int | None) -> None:
        """Change the speed; what was held back meanwhile comes at the new speed."""
        self.is_frozen = frozen
        self._bytes_per_s = bytes_per_s
        self._serve()

    def received(self, data: bytes) -> None:
        """The transport has delivered bytes."""
        if not self.is_frozen and self._bytes_per_s is None and not self._held:
            self._feed(data)
            return
        self._held += data
        self._serve()

    def close(self) -> None:
        """The connection is gone: forget what was held back."""
        self.is_frozen = True
        self._held.clear()
        self._cancel_helping()

    def _serve(self) -> None:
        if self.is_frozen:
            self._cancel_helping()
            self._stop_transport()
        elif self._bytes_per_s is None:
            self._cancel_helping()
            held, self._held = bytes(self._held), bytearray()
            self._feed(held)
            self._start_transport()
        elif self._helping is None and self._held:
            self._stop_transport()
            self._helping = self._reactor.callLater(_HELPING_EVERY_S, self._help)
        elif not self._held:
            self._start_transport()

    def _help(self) -> None:
        self._helping = None
        if self._bytes_per_s is None:
            return
        self._credit += self._bytes_per_s * _HELPING_EVERY_S
        helping = bytes(self._held[: int(self._credit)])
        self._credit -= len(helping)
        del self._held[: len(helping)]
        if not self._held:
            self._credit = 0.0
        if helping:
            self._feed(helping)
        self._serve()

    def _cancel_helping(self) -> None:
        if self._helping is not None:
            self._helping.cancel()
            self._helping = None

    def _stop_transport(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._pause()

    def _start_transport(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._resume()
