"""Maintains the log while the agent runs: writes suppressed lines in time, and reopens the file at
SIGUSR1."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall

from oda.log import Logger
from oda.logs.observer import AgentLog

_log = Logger()

_FLUSH_EVERY_S = 10.0


class LogService(Service):
    """``destination`` has ``reopen()`` if it is a file. ``install_signal`` is ``signal.signal``; it
    is called in the main thread when the service starts."""

    name = "log"

    def __init__(
        self,
        log: AgentLog,
        destination: Any,
        reactor: Any,
        install_signal: Callable[[int, Any], Any] = signal.signal,
    ) -> None:
        self._agent_log = log
        self._destination = destination
        self._reactor = reactor
        self._install_signal = install_signal
        self._loop = LoopingCall(log.flush)
        self._loop.clock = reactor

    def startService(self) -> None:
        """Start the timer, and handle SIGUSR1."""
        super().startService()
        self._loop.start(_FLUSH_EVERY_S, now=False)
        if hasattr(self._destination, "reopen"):
            self._install_signal(
                signal.SIGUSR1, lambda *_: self._reactor.callFromThread(self._reopen)
            )

    def stopService(self) -> None:
        """Write everything that was suppressed."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        self._agent_log.flush(everything=True)

    def _reopen(self) -> None:
        try:
            self._destination.reopen()
        except OSError as error:
            _log.error("the log file can't be reopened: {reason}", reason=str(error))
        else:
            _log.info("the log file was reopened (SIGUSR1)")
