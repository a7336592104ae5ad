"""How pings are answered: properly, or as the fault in force says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from oda.platform.faults import Fault, PongMode


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
        self._late: set[IDelayedCall] = set()
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
        """Answer a ping as ``fault.pong`` says."""
        self._answers[fault.pong](payload, fault)

    def close(self) -> None:
        """The connection is gone: answer nothing more."""
        for call in (*self._late, *([self._window] if self._window else [])):
            call.cancel()
        self._late.clear()
        self._window = None

    def _answer(self, payload: bytes, fault: Fault) -> None:
        self._send(payload)

    def _answer_and_die(self, payload: bytes, fault: Fault) -> None:
        self._send(payload)
        self._die()

    def _answer_late(self, payload: bytes, fault: Fault) -> None:
        def answer() -> None:
            self._late.discard(call)
            self._send(payload)

        call = self._reactor.callLater(fault.pong_delay_s, answer)
        self._late.add(call)

    def _answer_newest(self, payload: bytes, fault: Fault) -> None:
        self._newest = payload
        if self._window is None:
            self._window = self._reactor.callLater(fault.pong_delay_s, self._close_window)

    def _close_window(self) -> None:
        self._window = None
        self._send(self._newest)


def wrong_payload(payload: bytes) -> bytes:
    """A payload of the same length (at least 1) that differs in every byte."""
    return bytes(byte ^ 0xFF for byte in payload) or b"?"
