"""Runs a coroutine on the reactor, for commands that end by themselves or on Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import click
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import globalLogBeginner
from twisted.python.failure import Failure

from oda.connector.resolution import install_resolver
from oda.errors import OdaError
from oda.logs.lines import LogFormat
from oda.logs.observer import AgentLog
from oda.monotonic import install_monotonic_clock
from oda.settings import ComponentLogLevel, LogLevel, MonitorSettings

_T = TypeVar("_T")

#: Twisted's messages about its own start and end are no use to the user of a command.
_LEVELS = MonitorSettings(log_levels=(ComponentLogLevel(component="twisted", level=LogLevel.WARN),))


def begin_log(settings: MonitorSettings = _LEVELS) -> AgentLog:
    """Send the log to standard error; the caller must flush it (everything) at the end."""
    log = AgentLog(sys.stderr, LogFormat.TEXT, time.monotonic, settings)
    globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
    return log


def run(
    main: Callable[[Any], Coroutine[Any, Any, _T]],
    at_end: Callable[[], Awaitable[None]],
) -> _T | None:
    """The result of ``main(reactor)``; None when Ctrl-C or SIGTERM came first.

    The log goes to standard error. ``at_end`` is awaited in any case. An ``OdaError``, ``OSError``
    or ``CannotListenError`` of ``main`` becomes a ``ClickException``.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    install_monotonic_clock(reactor)
    install_resolver(reactor)
    log = begin_log()
    results: list[Any] = []

    async def end() -> None:
        await at_end()

    def start() -> None:
        running = Deferred.fromCoroutine(main(reactor))
        running.addBoth(results.append)
        running.addBoth(lambda _: reactor.stop() if reactor.running else None)

    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(end()))
    reactor.callWhenRunning(start)
    reactor.run()
    log.flush(everything=True)
    if not results:
        return None
    (result,) = results
    if isinstance(result, Failure):
        if result.check(OdaError, OSError, CannotListenError):
            raise click.ClickException(str(result.value)) from None
        result.raiseException()
    answer: _T = result
    return answer
