"""Observes an agent for the monitor, the status command and systemd.

This module knows the parts of the agent; the packages that it connects know only their arguments.
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
    """Observes the ``parts`` of one agent; ``monitor`` is a service to start with the agent."""

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
        """The state of the agent now."""
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
        )

    def status(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Answer the command ``status`` of the local socket."""
        return build_status(self.look(), self._counters)

    def reconnect(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Answers the command ``reconnect`` of the local socket: whether a pause was ended, and
        the connection as it was before."""
        before = self._parts.connector.status()
        ended = self._parts.connector.connect_now()
        return {
            "ended_pause": ended,
            "state": before.state.value,
            "url": before.url,
            "retry_in_s": before.retry_in_s,
            "last_end": before.last_end,
        }

    def describe(self) -> str:
        """The state of the agent in one line."""
        snapshot = self.look()
        return status_line(snapshot.connection, snapshot.outbox.get("pending", 0))
