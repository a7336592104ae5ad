"""The process of ``twistd oda-websocket``: its configuration, its log, the agent and its sockets.

Separate from ``oda.tap``, so that a process can prepare itself before it imports this module.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import maybeDeferred
from twisted.logger import ILogObserver
from twisted.python.components import Componentized

from oda import __version__
from oda.agent import Agent
from oda.config.checks import plaintext_warning
from oda.config.connection import PREFIX
from oda.config.loader import LoadedConfiguration, find_directory, load
from oda.errors import OdaError, OutboxError
from oda.garbage import GarbageService, memory_returner
from oda.last_resort import LastResort
from oda.local_control import build_control
from oda.log import Logger
from oda.logs.destination import default_format, open_destination
from oda.logs.lines import LogFormat
from oda.logs.observer import AgentLog
from oda.logs.redaction import secrets_of
from oda.logs.service import LogService
from oda.monitor.systemd import build_notifier
from oda.outbox.inspection import find_leftovers
from oda.private_files import check_directory
from oda.reload import ReloadService
from oda.settings import OutboxSettings
from oda.threads import leave_threads_behind
from oda.update.configuration import LiveConfiguration
from oda.update.recovery import recover_files
from oda.upkeep import import_command
from oda.zombies import build_reaper

_log = Logger(namespace="oda.agent")  # to the reader of the log the process is the agent


class AgentProcess(MultiService):
    """The agent and the rest of its process; makes ``observer`` the application's log.
    Calls ``at_start`` once everything has started.

    The signal that stops the process lets the agent deliver what it can within some seconds. A
    second signal during that time calls ``hurry`` through ``in_reactor``, the reactor's
    ``callFromThread``. ``install_signal`` is ``signal.signal``; ``twistd`` are twistd's options.
    """

    def __init__(
        self,
        observer: AgentLog | None,
        at_start: Callable[[], None] = lambda: None,
        hurry: Callable[[], None] = lambda: None,
        in_reactor: Callable[..., Any] = lambda call, *details: call(*details),
        install_signal: Callable[[int, Any], Any] = signal.signal,
        twistd: MutableMapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._twistd = {} if twistd is None else twistd
        self._observer = observer
        self._at_start = at_start
        self._hurry = hurry
        self._in_reactor = in_reactor
        self._install_signal = install_signal

    def setServiceParent(self, parent: Any) -> None:
        """twistd calls this with the application, before it starts to log."""
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)

    def startService(self) -> None:
        """Start everything. If another agent uses the same outbox (both would send every message),
        raises ``SystemExit`` with status 1, or as a daemon ``OutboxError``."""
        try:
            super().startService()
        except Exception as error:
            self._remove_pid_file()
            if not isinstance(error, OutboxError):
                raise
            # twistd now logs standard error too: a line there would appear twice.
            _log.critical("oda-websocket can't start: {reason}", reason=str(error))
            if self._twistd.get("statusPipe") is not None:
                # The command that started the daemon waits at this pipe. twistd writes to it only
                # for an ``Exception``, which SystemExit is not.
                raise
            raise SystemExit(1) from None
        self._at_start()

    def _remove_pid_file(self) -> None:
        """Before anybody learns that the start failed. twistd removes the file of a daemon only
        after it has told the command that started the daemon."""
        pid_file = self._twistd.get("pidfile")
        if pid_file:
            Path(pid_file).unlink(missing_ok=True)
            self._twistd["pidfile"] = ""  # or twistd would log that the file is gone

    def stopService(self) -> Any:
        """Stop everything; fires with None once all of it has stopped."""
        # Twisted's own handlers would stop the reactor a second time, which is an error.
        before = {
            number: self._install_signal(number, self._signalled)
            for number in (signal.SIGTERM, signal.SIGINT)
        }

        def restore(result: object) -> object:
            for number, handler in before.items():
                self._install_signal(number, handler)
            return result

        return maybeDeferred(super().stopService).addBoth(restore)

    def _signalled(self, number: int, _frame: Any) -> None:
        self._in_reactor(self._stop_at_once, signal.Signals(number).name)

    def _stop_at_once(self, name: str) -> None:
        _log.info("received {signal} again: stopping at once", signal=name)
        self._hurry()


def build_process(options: Mapping[str, Any], twistd: MutableMapping[str, Any]) -> AgentProcess:
    """The agent's process as a service, from the ``options`` of ``oda.tap`` and those of
    ``twistd``.

    Raises ``SystemExit`` with status 1 when the configuration can't be used, after writing every
    fault to standard error.
    """
    forbid_core_files()
    try:
        directory = find_directory(options["conf"])
        continuing = recover_files(directory)
        configuration = load(directory, os.environ)
        check_pid_file(twistd.get("pidfile"))
        destination = open_destination(twistd, sys.stdout)
        log = _build_log(options, destination)
        follow = _follow(log)
        follow(configuration)
        agent = Agent(configuration.settings)
    except (OdaError, OSError) as error:
        sys.stderr.write(f"oda-websocket can't start:\n{error}\n")
        raise SystemExit(1) from None
    leave_threads_behind(agent.parts.reactor)
    process = AgentProcess(
        log,
        lambda: tell_leftovers(agent.settings.outbox, directory),
        agent.hurry,
        agent.parts.reactor.callFromThread,
        twistd=twistd,
    )
    if log is not None:
        LogService(log, destination, agent.parts.reactor).setServiceParent(process)
    agent.setServiceParent(process)
    reload = ReloadService(
        agent,
        directory,
        os.environ,
        agent.parts.reactor,
        follow,
        digests=configuration.digests,
    )
    reload.setServiceParent(agent)
    agent.update.use_configuration(
        LiveConfiguration(directory, os.environ, reload.reload, lambda: agent.settings), continuing
    )
    build_control(agent, directory).setServiceParent(agent)
    notifier = build_notifier(os.environ, agent.supervision.describe, agent.parts.reactor)
    if notifier is not None:
        notifier.setServiceParent(agent)
    reaper = build_reaper(os.getpid(), agent.parts.reactor)
    if reaper is not None:
        reaper.setServiceParent(process)
    agent.parts.reactor.callWhenRunning(_watch_the_end, agent.parts.reactor, twistd)
    GarbageService(agent.parts.reactor, memory_returner()).setServiceParent(process)
    return process


def _watch_the_end(reactor: Any, twistd: MutableMapping[str, Any]) -> None:
    """Start the last resort once the reactor has installed its signal handlers, after this call."""
    name = twistd.get("pidfile")
    resort = LastResort(Path(name).absolute() if name else None)
    reactor.callLater(0, resort.watch)


def forbid_core_files() -> None:
    """Forbid core files: they would hold the API key. Child processes inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def check_pid_file(name: str | None) -> None:
    """Raises ``OSError`` where twistd could not write its PID file: twistd itself would end with a
    traceback and without the reason. ``name`` is its option, None or "" for no file."""
    if not name:
        return
    path = Path(name).absolute()
    try:
        if not path.parent.is_dir():
            raise FileNotFoundError(f"there is no directory {path.parent}")
        if not path.exists():
            check_directory(path.parent)
        elif not os.access(path, os.W_OK, effective_ids=True):
            raise PermissionError(f"this user may not write {path}")
    except OSError as error:
        raise OSError(f"--pidfile: {error}") from None


def _build_log(options: Mapping[str, Any], destination: Any) -> AgentLog | None:
    """The log of this process; None where twistd's options choose another log."""
    if destination is None:
        if options["log-format"] is not None:
            raise OdaError("--log-format has no effect together with --logger or --syslog")
        return None
    if options["log-format"] is not None:
        log_format = LogFormat(options["log-format"])
    else:
        log_format = default_format(sys.stdout, destination, os.environ)
    return AgentLog(destination, log_format, time.monotonic)


def _follow(log: AgentLog | None) -> Callable[[LoadedConfiguration], None]:
    """A function that handles every configuration after it was read and before it is used."""

    def follow(configuration: LoadedConfiguration) -> None:
        settings = configuration.settings
        if log is not None:
            log.configure(settings.monitor, secrets_of(settings))
        report(configuration)

    return follow


def report(configuration: LoadedConfiguration) -> None:
    """Log what was read, what was ignored, and what is doubtful."""
    _log.info(
        "oda {version}: configuration read from {directory}: {files}",
        version=__version__,
        directory=str(configuration.directory),
        files=", ".join(map(_short, configuration.read)) or "no file",
    )
    if configuration.ignored:
        _log.info(
            "ignored the files of components that this agent doesn't have: {files}",
            files=", ".join(map(_short, configuration.ignored)),
        )
    for note in configuration.notes:
        _log.info("{note}", note=note)
    if warning := plaintext_warning(configuration.settings.connector):
        _log.warn("{warning}", warning=warning)
    for warning in configuration.warnings:
        _log.warn("{warning}", warning=warning)


def tell_leftovers(settings: OutboxSettings, directory: Path) -> None:
    """Log the messages that wait in an outbox at an earlier place, where no agent sends them.
    Called once the agent has its own outbox."""
    for leftover in find_leftovers(settings):
        _log.warn(
            "{leftover}. If it was this agent's: {command}",
            leftover=str(leftover),
            command=import_command(leftover.path, directory),
        )


def _short(file: str) -> str:
    """The name of a file without the prefix and suffix that all files share."""
    return file.removeprefix(PREFIX).removesuffix(".cfg")
