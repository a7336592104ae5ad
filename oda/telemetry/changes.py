"""Which of the values that a line of the poller reads are worth a datapoint. Pure.

A value is compared with the one that was last published, not with the one that was last read: a
value that drifts slowly leaves the deadband in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from zope.interface import implementer

from oda.interfaces import IChangeFilter
from oda.model import DatastreamValue
from oda.settings import OnChange

#: Ticks of the clock vary by a little; a silence is over when so much of it is left, in seconds.
_ROUNDING_S = 0.05


class _Published(NamedTuple):
    value: Any
    at_s: float


@implementer(IChangeFilter)
class ChangeFilter:
    """Passes a value that differs enough from the last one that it passed, and any value after
    the maximum silence. ``seconds`` is a monotonic clock."""

    def __init__(self, settings: OnChange, seconds: Callable[[], float]) -> None:
        self._settings = settings
        self._seconds = seconds
        self._published: dict[tuple[str, str | None], _Published] = {}

    def passes(self, value: DatastreamValue) -> bool:
        """Whether to publish the value, which then counts as published."""
        key = value.device_id, value.feed
        last, now_s = self._published.get(key), self._seconds()
        if last is not None and not self._is_due(last, value.value, now_s):
            return False
        self._published[key] = _Published(value.value, now_s)
        return True

    def forget(self, device_id: str) -> None:
        """A value of this device was not accepted: the next one passes."""
        for key in [key for key in self._published if key[0] == device_id]:
            del self._published[key]

    def _is_due(self, last: _Published, value: Any, now_s: float) -> bool:
        silence_s = self._settings.max_silence_s
        if silence_s and now_s - last.at_s >= silence_s - _ROUNDING_S:
            return True
        if _is_number(value) and _is_number(last.value):
            if self._settings.deadband:
                return bool(abs(value - last.value) > self._settings.deadband)
            return bool(value != last.value)
        # 1 and true are equal in Python, and different to the platform.
        return _is_number(value) is not _is_number(last.value) or bool(value != last.value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
