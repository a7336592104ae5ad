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
from oda.datastreams.clock import EARLIEST_MS, LATEST_MS
from oda.model import Event, LinkState
from oda.monitor.counters import Counters
from oda.monitor.health import expiring_certificates
from oda.monitor.latency import ReactorLatency
from oda.monitor.service import MonitorService
from oda.monitor.snapshot import Snapshot
from oda.monitor.status import build_status, status_line
from oda.troubles import TroubleKind


class Supervision:
    """Observes the ``parts`` of one agent; ``monitor`` is a service to start with the agent."""

    def __init__(self, parts: Parts, counters: Counters, reactor: Any) -> None:
        self._parts = parts
        self._counters = counters
        self._reactor = reactor
        self._started_s = reactor.seconds()
        self._latency = ReactorLatency(reactor, counters)
        self.monitor = MonitorService(
            parts.settings.monitor, counters, self.look, self._latency, reactor, parts.troubles
        )

    def look(self) -> Snapshot:
        """The state of the agent now."""
        parts = self._parts
        self._report()
        return Snapshot(
            version=__version__,
            python=platform.python_version(),
            twisted=twisted.__version__,
            device_id=parts.host_id,
            uptime_s=self._reactor.seconds() - self._started_s,
            now_ms=parts.wall_clock.now_ms(),
            now_s=self._reactor.seconds(),
            connection=parts.connector.status(),
            outbox=parts.outbox.counts(),
            operations_unanswered=0 if parts.operations is None else parts.operations.unanswered,
            latency_s=self._latency.last_s,
            latency_max_s=self._latency.max_s,
            undated=len(parts.undated),
            troubles=parts.troubles.current(),
        )

    def _report(self) -> None:
        """Report the troubles that need no watching, because they can be read at any time."""
        troubles = self._parts.troubles
        connection = self._parts.connector.status()
        now_ms = self._parts.wall_clock.now_ms()
        ending = {one.whose: one for one in expiring_certificates(connection, now_ms)}
        troubles.set(TroubleKind.CERTIFICATE, {whose: one.text for whose, one in ending.items()})
        for whose, one in ending.items():
            troubles.report(TroubleKind.CERTIFICATE, one.text, whose, one.lasts_s)
        if connection.state is LinkState.OPEN and connection.peer_class != "pong":
            troubles.report(
                TroubleKind.PONGS,
                "the platform answers no pings: deliveries are not acknowledged",
                lasts_s=connection.since_s,
            )
        else:
            troubles.end(TroubleKind.PONGS)
        undated = self._parts.undated
        if not undated.dating.is_right():
            troubles.report(
                TroubleKind.CLOCK,
                f"the clock is not right ({undated.dating.why()}); datapoints that wait for it:"
                f" {len(undated)}",
            )
        elif EARLIEST_MS <= now_ms <= LATEST_MS:
            troubles.end(TroubleKind.CLOCK)
        else:
            troubles.report(
                TroubleKind.CLOCK,
                "the time of day is one at which this version can't run: datapoints get wrong"
                " times, and certificates may not be valid",
            )

    def status(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Answer the command ``status`` of the local socket."""
        return build_status(self.look(), self._counters)

    def reconnect(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Answer the command ``reconnect`` of the local socket: whether it ended a wait, and the
        earlier state of the connection."""
        before = self._parts.connector.status()
        ended = self._parts.connector.connect_now()
        return {
            "ended_pause": ended,
            "state": before.state.value,
            "url": before.url,
            "retry_in_s": before.retry_in_s,
            "last_end": before.last_end,
        }

    def explain_waiting(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Answers the command ``explain-waiting``: why a datapoint of ``datastream`` and ``device``
        is not accepted yet. ``hopeless``: nothing that is under way will accept it."""
        text, hopeless = self._why_it_waits(
            Event(str(arguments.get("datastream", "")), None, str(arguments.get("device", "")))
        )
        return {"text": text, "hopeless": hopeless}

    def _why_it_waits(self, event: Event) -> tuple[str, bool]:
        parts = self._parts
        wrong = {one.kind: one.text for one in parts.troubles.current()}
        disk = wrong.get(TroubleKind.DISK)
        if not parts.host_id:
            reason = wrong.get(TroubleKind.IDENTITY, "it is being read")
            return f"the device's id is not known yet: {reason}", False
        if disk is not None and not parts.connector.is_connected:
            return f"{disk}; and there is no connection, over which it could be sent", True
        if disk is not None:
            return f"{disk}; the agent accepts it once the platform has read it", False
        line = parts.events.collected_by(event)
        if line is not None:
            return (
                f"the dispatcher collects {event.datastream_id} and publishes it every"
                f" {line.period_s:g} s",
                False,
            )
        window_s = parts.settings.outbox.commit_window_s
        if parts.outbox.busy_s > 1.0:
            return f"the disk has not answered for {parts.outbox.busy_s:.0f} s", False
        return f"it is written with others within {window_s:g} s (outboxCommitWindow)", False

    def describe(self) -> str:
        """The state of the agent in one line."""
        snapshot = self.look()
        waiting = snapshot.outbox.get("waiting", 0)
        return status_line(snapshot.connection, waiting, snapshot.troubles)
