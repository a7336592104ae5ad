"""The monitor measures the reactor, checks certificates, and can serve metrics and health."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall

from oda.log import Logger
from oda.monitor.counters import Counters
from oda.monitor.health import expiring_certificates
from oda.monitor.latency import ReactorLatency
from oda.monitor.snapshot import Snapshot
from oda.settings import MonitorSettings
from oda.troubles import TroubleKind, Troubles

_log = Logger()

#: How soon after the start, and how often, certificates are checked, in seconds.
_FIRST_LOOK_S = 60.0
_CERTIFICATES_EVERY_S = 86_400.0
#: Seconds until a port that is in use is tried again.
LISTEN_AGAIN_S = 10.0


class MonitorService(Service):
    """``look()`` returns the present state of the agent. If the port is in use, the monitor logs
    that once and tries again; the agent keeps running."""

    name = "monitor"

    def __init__(
        self,
        settings: MonitorSettings,
        counters: Counters,
        look: Callable[[], Snapshot],
        latency: ReactorLatency,
        reactor: Any,
        troubles: Troubles | None = None,
    ) -> None:
        self._troubles = troubles or Troubles(reactor.seconds)
        self._settings = settings
        self._counters = counters
        self._look = look
        self._latency = latency
        self._reactor = reactor
        self._port: Any = None
        self._again: IDelayedCall | None = None
        self._is_failing = False
        self._first_look: Any = None
        self._certificates = LoopingCall(self._look_at_certificates)
        self._certificates.clock = reactor

    @property
    def address(self) -> tuple[str, int] | None:
        """Where the monitor listens; None while it doesn't."""
        if self._port is None:
            return None
        host = self._port.getHost()
        return host.host, host.port

    def startService(self) -> None:
        """Start measuring and, if a port is configured, listening."""
        super().startService()
        self._latency.start()
        self._first_look = self._reactor.callLater(
            _FIRST_LOOK_S, self._certificates.start, _CERTIFICATES_EVERY_S
        )
        self._listen()

    def stopService(self) -> Deferred[None]:
        """Fires with None when the port is closed and no timer is left."""
        super().stopService()
        self._latency.stop()
        if self._first_look is not None and self._first_look.active():
            self._first_look.cancel()
        if self._certificates.running:
            self._certificates.stop()
        return self._close()

    def reconfigure(self, settings: MonitorSettings) -> Deferred[None]:
        """Listen somewhere else, or no more; fires with None when that is done."""
        before, self._settings = self._settings, settings
        if (before.port, before.interface) == (settings.port, settings.interface):
            return succeed(None)
        closed = self._close()
        closed.addCallback(lambda _: self._listen() if self.running else None)
        return closed

    def _listen(self) -> None:
        self._again = None
        settings = self._settings
        if settings.port is None:
            return
        # Imported here: an agent without a monitor must not pay for it.
        from oda.monitor.web import build_site

        site = build_site(self._counters, self._look, self._reactor)
        try:
            self._port = self._reactor.listenTCP(settings.port, site, interface=settings.interface)
        except (CannotListenError, OSError) as error:
            reason = str(getattr(error, "socketError", error))
            self._troubles.report(
                TroubleKind.MONITOR_PORT,
                f"no metrics at {settings.interface}:{settings.port}: {reason}",
            )
            if not self._is_failing:
                self._is_failing = True
                _log.error(
                    "can't serve metrics and health at {interface}:{port} (monitorInterface and"
                    " monitorPort of es.amplia.oda.monitor.cfg): {reason}; trying again every"
                    " {period_s:g} s",
                    interface=settings.interface,
                    port=settings.port,
                    reason=reason,
                    period_s=LISTEN_AGAIN_S,
                )
            self._again = self._reactor.callLater(LISTEN_AGAIN_S, self._listen)
            return
        self._is_failing = False
        self._troubles.end(TroubleKind.MONITOR_PORT)
        _log.info(
            "metrics and health at http://{interface}:{port}/metrics and /health/ready",
            interface=settings.interface,
            port=settings.port,
        )

    def _close(self) -> Deferred[None]:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._is_failing = False
        self._troubles.end(TroubleKind.MONITOR_PORT)
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        return maybeDeferred(port.stopListening).addCallback(lambda _: None)

    def _look_at_certificates(self) -> None:
        snapshot = self._look()
        for ending in expiring_certificates(snapshot.connection, snapshot.now_ms):
            _log.warn("{warning}", warning=str(ending))
