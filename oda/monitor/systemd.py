"""Reports the agent's state to systemd (sd_notify); nothing here requires systemd.

The service manager names a datagram socket in ``NOTIFY_SOCKET``, where it reads lines like
``READY=1``. ``WATCHDOG_USEC`` is the longest time that it waits for the next ``WATCHDOG=1`` (manual
pages sd_notify(3) and sd_watchdog_enabled(3)). Only a timer of the reactor feeds the watchdog, so a
reactor that serves no timers does not feed it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall

from oda.log import Logger

_log = Logger()

#: How often the status line is checked, in seconds.
_STATUS_EVERY_S = 5.0


class NotifySocket:
    """Sends notifications. A socket that can't be reached is logged once and does no other harm.

    ``address`` is the value of ``NOTIFY_SOCKET``: a path, or ``@`` and a name of the abstract
    namespace.
    """

    def __init__(self, address: str) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._has_failed = False

    def send(self, **assignments: str) -> None:
        """Send ``NAME=value`` lines in one datagram."""
        lines = "\n".join(f"{name}={value}" for name, value in assignments.items())
        try:
            self._socket.sendto(lines.encode(), self._address)
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                _log.warn("NOTIFY_SOCKET can't be reached: {reason}", reason=str(error))

    def close(self) -> None:
        """Send no more."""
        self._socket.close()


def watchdog_interval_s(environ: Mapping[str, str], pid: int) -> float | None:
    """How often to feed the watchdog: twice within its time; None if there is no watchdog."""
    meant_for = environ.get("WATCHDOG_PID", "")
    if meant_for and meant_for != str(pid):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        return None
    return int(text) / 2_000_000


class SystemdNotifier(Service):
    """READY=1 once the reactor runs, STATUS= when it changes, WATCHDOG=1 while the reactor lives,
    STOPPING=1 when the shutdown begins.

    Ready means that the agent runs, not that it is connected: units that wait for the agent must
    not wait for the network. ``describe()`` returns the status line.
    """

    name = "systemd"

    def __init__(
        self,
        notify: NotifySocket,
        watchdog_s: float | None,
        describe: Callable[[], str],
        reactor: Any,
    ) -> None:
        self._notify = notify
        self._watchdog_s = watchdog_s
        self._describe = describe
        self._reactor = reactor
        self._said = ""
        self._status = LoopingCall(self._say_status)
        self._watchdog = LoopingCall(self._feed)
        self._status.clock = self._watchdog.clock = reactor

    def startService(self) -> None:
        """Start as soon as the reactor runs."""
        super().startService()
        self._reactor.callWhenRunning(self._running)
        self._reactor.addSystemEventTrigger("before", "shutdown", self._stopping)

    def stopService(self) -> None:
        """Send no more."""
        super().stopService()
        for loop in (self._status, self._watchdog):
            if loop.running:
                loop.stop()
        self._notify.close()

    def _running(self) -> None:
        if not self.running:
            return
        self._notify.send(READY="1")
        self._status.start(_STATUS_EVERY_S)
        if self._watchdog_s is not None:
            self._watchdog.start(self._watchdog_s)

    def _feed(self) -> None:
        self._notify.send(WATCHDOG="1")

    def _say_status(self) -> None:
        status = self._describe().replace("\n", " ")
        if status != self._said:
            self._said = status
            self._notify.send(STATUS=status)

    def _stopping(self) -> None:
        if self.running:
            self._notify.send(STOPPING="1")


def build_notifier(
    environ: Mapping[str, str], describe: Callable[[], str], reactor: Any, pid: int | None = None
) -> SystemdNotifier | None:
    """The notifier that ``environ`` asks for, None if it asks for none."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return None
    watchdog_s = watchdog_interval_s(environ, os.getpid() if pid is None else pid)
    return SystemdNotifier(NotifySocket(address), watchdog_s, describe, reactor)
