"""Sends the bytes of an operation to the device: unchanged, twice, overtaken or damaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from oda.platform.faults import OperationsMode
from oda.platform.mangling import damage
from oda.platform.sessions import Session

#: How long a request waits to be overtaken.
_REORDER_WAIT_S = 1.0


class _Held:
    """A request that waits for the next one of its device."""

    def __init__(self, session: Session, payload: bytes, is_text: bool, timer: IDelayedCall):
        self.session = session
        self.payload = payload
        self.is_text = is_text
        self.timer = timer


class OperationDelivery:
    """Sends requests as the ``OperationsMode`` in force for their device requires."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._held: dict[str, _Held] = {}
        self._damaged = 0
        self._ways: dict[OperationsMode, Callable[[Session, bytes, bool], None]] = {
            OperationsMode.NORMAL: self._send,
            OperationsMode.DUPLICATE: self._send_twice,
            OperationsMode.REORDER: self._send_reordered,
            OperationsMode.MALFORMED: self._send_damaged,
        }

    def send(self, session: Session, payload: bytes, is_text: bool, mode: OperationsMode) -> None:
        """Send a request over an open session."""
        if mode is not OperationsMode.REORDER:
            self._release(session.device)
        self._ways[mode](session, payload, is_text)

    def close(self) -> None:
        """Stop sending."""
        for held in self._held.values():
            if held.timer.active():
                held.timer.cancel()
        self._held.clear()

    def _send(self, session: Session, payload: bytes, is_text: bool) -> None:
        session.send(payload, is_text)

    def _send_twice(self, session: Session, payload: bytes, is_text: bool) -> None:
        session.send(payload, is_text)
        session.send(payload, is_text)

    def _send_damaged(self, session: Session, payload: bytes, is_text: bool) -> None:
        bad = damage(payload, self._damaged)
        self._damaged += 1
        # invalid UTF-8 in a text frame would be a WebSocket fault, not one of the operation
        session.send(bad, is_text and _is_utf8(bad))

    def _send_reordered(self, session: Session, payload: bytes, is_text: bool) -> None:
        if session.device in self._held:
            session.send(payload, is_text)
            self._release(session.device)
            return
        timer = self._reactor.callLater(_REORDER_WAIT_S, self._release, session.device)
        self._held[session.device] = _Held(session, payload, is_text, timer)

    def _release(self, device: str) -> None:
        held = self._held.pop(device, None)
        if held is None:
            return
        if held.timer.active():
            held.timer.cancel()
        if held.session.is_open:
            held.session.send(held.payload, held.is_text)


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
