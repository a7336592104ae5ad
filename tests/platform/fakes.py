"""Fakes that record, for the platform's parts."""

from __future__ import annotations

from zope.interface import implementer

from oda.interfaces import IWallClock


@implementer(IWallClock)
class FixedClock:
    """A wall clock that stands still until it is moved."""

    def __init__(self, now_ms: int = 1_000_000) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms


class RecordingPipe:
    """A ``Pipe`` that writes down what was asked of it."""

    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []

    def send_message(self, payload: bytes, is_text: bool) -> None:
        self.done.append(("message", payload, is_text))

    def send_pong(self, payload: bytes) -> None:
        self.done.append(("pong", payload))

    def send_close(self, code: int, reason: str) -> None:
        self.done.append(("close", code, reason))

    def hang_up(self) -> None:
        self.done.append(("hang up",))

    def abort(self) -> None:
        self.done.append(("abort",))

    def set_reading(self, frozen: bool, bytes_per_s: int | None) -> None:
        self.done.append(("reading", frozen, bytes_per_s))

    def set_max_message(self, max_bytes: int) -> None:
        self.done.append(("max", max_bytes))
