"""What watches an agent from inside: how it is asked, by the monitor, the status command, systemd.

Knows the parts; the packages it joins know only what they are given.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import twisted
from oda import __version__
from oda.assembly import Parts
from oda.monitor.counters import Counters
from oda.monitor.latency import ReactorLatency
from oda.monitor.service import MonitorService
from oda.monitor.snapshot import Snapshot
from oda.monitor.status import build_status, status_line


class Supervision:
    """Looks at the ``parts`` of one agent; ``monitor`` is a service to be started with it."""

    def __init__(self, parts: Parts, counters: Counters, reactor: Any) -> None:
        self._parts = parts
        self._counters = counters
        self._reactor = reactor
        self._started_s = reactor.seconds()
        self._latency = ReactorLatency(reactor, counters)
        self.monitor = MonitorService(
            parts.settings.monitor, counters, self.look, self._latency, reactor
        )

    def look(self) -> Snapshot:
        """The agent as it is now."""
        parts = self._parts
        return Snapshot(
            version=__version__,
            python=platform.python_version(),
            twisted=twisted.__version__,
            device_id=parts.host_id,
            uptime_s=self._reactor.seconds() - self._started_s,
            now_ms=parts.wall_clock.now_ms(),
            connection=parts.connector.status(),
            outbox=parts.outbox.counts(),
            operations_unanswered=0 if parts.operations is None else parts.operations.unanswered,
            latency_s=self._latency.last_s,
            latency_max_s=self._latency.max_s,
            undated=len(parts.undated),
        )

    def status(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Answers the command ``status`` of the local socket."""
        return build_status(self.look(), self._counters)

    def describe(self) -> str:
        """The agent in one line."""
        snapshot = self.look()
        return status_line(snapshot.connection, snapshot.outbox.get("pending", 0))
