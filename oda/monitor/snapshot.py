"""The agent at one moment: the data for health, status and metrics. Pure data."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from oda.model import ConnectionStatus
from oda.troubles import Trouble


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """``outbox`` is the result of ``IOutbox.counts``. Times are seconds, ``*_ms`` milliseconds.

    ``now_s`` is on the monotonic clock, as are the times of ``troubles``. ``device_id`` is "" until
    the device info has provided it. ``latency_s`` is how late the reactor was at the newest
    measurement, ``latency_max_s`` the worst of the last minutes. ``undated`` datapoints wait until
    the clock is right.
    """

    version: str
    python: str
    twisted: str
    device_id: str
    uptime_s: float
    now_ms: int
    now_s: float = 0.0
    connection: ConnectionStatus
    outbox: Mapping[str, int]
    operations_unanswered: int
    latency_s: float
    latency_max_s: float
    undated: int = 0
    troubles: tuple[Trouble, ...] = ()
