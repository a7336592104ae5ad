"""Answers pings: properly, or as the fault in force requires."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from oda.platform.faults import Fault, PongMode

#: How many late pongs may wait; after that, the newest ping replaces the one before it.
MAX_LATE = 1000


class PongPolicy:
    """Answers the pings of one connection.

    ``send`` sends a pong, ``die`` ends the connection without a close frame.
    """

    def __init__(
        self, reactor: Any, send: Callable[[bytes], None], die: Callable[[], None]
    ) -> None:
        self._reactor = reactor
        self._send = send
        self._die = die
        self._newest = b""
        self._window: IDelayedCall | None = None
        self._late: deque[_LatePong] = deque()
        self._answers: dict[PongMode, Callable[[bytes, Fault], None]] = {
            PongMode.NORMAL: self._answer,
            PongMode.EARLY: self._answer,
            PongMode.DROP: lambda payload, fault: None,
            PongMode.EMPTY: lambda payload, fault: send(b""),
            PongMode.WRONG: lambda payload, fault: send(wrong_payload(payload)),
            PongMode.DIE: self._answer_and_die,
            PongMode.LATE: self._answer_late,
            PongMode.COALESCE: self._answer_newest,
        }

    def ping_received(self, payload: bytes, fault: Fault) -> None:
        """Answer a ping as ``fault.pong`` requires."""
        self._answers[fault.pong](payload, fault)

    def close(self) -> None:
        """The connection is gone: stop answering."""
        for late in self._late:
            late.call.cancel()
        if self._window is not None:
            self._window.cancel()
        self._late.clear()
        self._window = None

    def _answer(self, payload: bytes, fault: Fault) -> None:
        self._send(payload)

    def _answer_and_die(self, payload: bytes, fault: Fault) -> None:
        self._send(payload)
        self._die()

    def _answer_late(self, payload: bytes, fault: Fault) -> None:
        if len(self._late) >= MAX_LATE:
            self._late[-1].payload = payload
            return
        late = _LatePong(payload)
        late.call = self._reactor.callLater(fault.pong_delay_s, self._send_late, late)
        self._late.append(late)

    def _send_late(self, late: _LatePong) -> None:
        self._late.remove(late)  # the first one, unless the delay has changed
        self._send(late.payload)

    def _answer_newest(self, payload: bytes, fault: Fault) -> None:
        self._newest = payload
        if self._window is None:
            self._window = self._reactor.callLater(fault.pong_delay_s, self._close_window)

    def _close_window(self) -> None:
        self._window = None
        self._send(self._newest)


class _LatePong:
    """A delayed pong."""

    __slots__ = ("call", "payload")
    call: IDelayedCall

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


def wrong_payload(payload: bytes) -> bytes:
    """A payload of the same length (at least 1) that differs in every byte."""
    return bytes(byte ^ 0xFF for byte in payload) or b"?"
