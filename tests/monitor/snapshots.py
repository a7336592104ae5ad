"""An agent that is well, and one that differs from it in what a test is about."""

from __future__ import annotations

from typing import Any

import msgspec

from oda.model import ConnectionStatus, LinkState
from oda.monitor.snapshot import Snapshot

NOW_MS = 1_700_000_000_000
URL = "ws://platform.example:9955/south/v80/sessions/dev-1"

CONNECTION = ConnectionStatus(state=LinkState.OPEN, url=URL, since_s=61.0, pong_timeout_s=30.0)
SNAPSHOT = Snapshot(
    version="1.2.3",
    python="3.11.0",
    twisted="26.10.0",
    device_id="dev-1",
    uptime_s=93_784.0,
    now_ms=NOW_MS,
    connection=CONNECTION,
    outbox={"waiting": 3, "in_flight": 2, "lingering": 1, "dead": 0, "bytes": 2048},
    operations_unanswered=4,
    latency_s=0.001,
    latency_max_s=0.25,
)


def connection(**changes: Any) -> ConnectionStatus:
    return msgspec.structs.replace(CONNECTION, **changes)


def snapshot(**changes: Any) -> Snapshot:
    return msgspec.structs.replace(SNAPSHOT, **changes)
