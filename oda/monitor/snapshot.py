"""The agent at one moment: what health, status and metrics are made of. Pure data."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from oda.model import ConnectionStatus


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """``outbox`` is what ``IOutbox.counts`` says. Times are seconds, ``*_ms`` milliseconds.

    ``device_id`` is "" until the device info has given it. ``latency_s`` is how late the reactor
    served the newest measurement, ``latency_max_s`` the worst of the last minutes. ``undated``
    datapoints wait until the clock is right.
    """

    version: str
    python: str
    twisted: str
    device_id: str
    uptime_s: float
    now_ms: int
    connection: ConnectionStatus
    outbox: Mapping[str, int]
    operations_unanswered: int
    latency_s: float
    latency_max_s: float
    undated: int = 0
