"""Changes a running agent so that it follows other settings.

A reload is checked as a whole before anything is touched: faulty files, a plugin that can't be
loaded or a script that collides with a plugin leave the agent as it was, with every fault in the
log. So does a certificate without the key that belongs to it: of the two one is always renewed
first. Then only what differs is changed; the connection stays unless its address or the device's
identity changed.
"""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.logger import Logger

from oda.agent import Agent
from oda.assembly import (
    build_state_manager,
    event_content_type,
    standard_operations,
    undated_path,
)
from oda.config.changes import Changes, difference
from oda.config.loader import LoadedConfiguration, load
from oda.config.watch import ConfigurationWatcher
from oda.connector.tls import build_tls_options
from oda.errors import ConfigurationError, OdaError
from oda.extensions import load_plugins
from oda.settings import AgentSettings, OutboxKind, OutboxSettings
from oda.telemetry.collector import Collector
from oda.telemetry.poller import Poller

_log = Logger()

#: The connector's settings that name a file.
_TLS_FILES = ("ca_file", "cert_file", "key_file")
#: Fields of the connector that name a file whose content is in another field.
_SECRET_FILES = ("key_passphrase_file", "proxy_password_file")


class ReloadService(MultiService):
    """Follows the configuration directory: looks every ``interval_s`` seconds, and at SIGHUP.

    ``report(configuration)`` says in the log what was read. ``install_signal`` is
    ``signal.signal``; it is called when the service starts, in the main thread. ``digests`` are
    those of the configuration that the agent was made with: a certificate or key that was renewed
    in its place is noticed by them.
    """

    def __init__(
        self,
        agent: Agent,
        directory: Path,
        environ: Mapping[str, str],
        reactor: Any,
        report: Callable[[LoadedConfiguration], None] = lambda _: None,
        interval_s: float = 2.0,
        install_signal: Callable[[int, Any], Any] = signal.signal,
        digests: Mapping[Path, bytes] | None = None,
    ) -> None:
        super().__init__()
        self._agent = agent
        self._digests = digests
        self._directory = directory
        self._environ = environ
        self._reactor = reactor
        self._report = report
        self._install_signal = install_signal
        self._before: Any = None
        watcher = ConfigurationWatcher(
            directory, self.reload, reactor, interval_s, lambda: files_of(agent.settings)
        )
        watcher.setServiceParent(self)

    def startService(self) -> None:
        """Begin to watch, and to listen to SIGHUP."""
        super().startService()
        self._before = self._install_signal(
            signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload)
        )

    def stopService(self) -> Any:
        """End both; SIGHUP does again what it did before."""
        self._install_signal(signal.SIGHUP, self._before or signal.SIG_DFL)
        return super().stopService()

    def reload(self) -> Deferred[None]:
        """Read the directory and follow it; never fails, every fault is logged."""
        try:
            configuration = load(self._directory, self._environ)
        except ConfigurationError as error:
            self._agent.counters.increment("reloads", result="faulty")
            _log.error(
                "the configuration has {faults}; the agent goes on with the one before:",
                faults="1 fault" if len(error.faults) == 1 else f"{len(error.faults)} faults",
            )
            for fault in error.faults:
                _log.error("{fault}", fault=str(fault))
            return succeed(None)
        renewed = _renewed(configuration, self._digests)
        self._digests = configuration.digests
        changes = difference(self._agent.settings, configuration.settings)
        if renewed:
            # The settings are the same, what they name is not: TLS has to be built anew.
            changes = replace(
                changes,
                connector=changes.connector | renewed,
                reconnect=changes.reconnect | renewed,
            )
        if not changes:
            return succeed(None)
        self._report(configuration)
        applied = maybeDeferred(apply_settings, self._agent, configuration.settings, changes)
        return applied.addCallbacks(
            lambda _: self._agent.counters.increment("reloads", result="applied"),
            self._not_applied,
        )

    def _not_applied(self, failure: Any) -> None:
        self._agent.counters.increment("reloads", result="refused")
        if failure.check(OdaError, OSError, sqlite3.Error):
            _log.error(
                "the new configuration can't be used; the agent goes on with the one before:"
                " {reason}",
                reason=failure.getErrorMessage(),
            )
        else:
            _log.failure("a defect while the configuration was changed", failure)


def _renewed(
    configuration: LoadedConfiguration, before: Mapping[Path, bytes] | None
) -> frozenset[str]:
    """The connector's fields that name a file whose content has changed."""
    digests = configuration.digests
    files = {name: getattr(configuration.settings.connector, name) for name in _TLS_FILES}
    return frozenset(
        name
        for name, file in files.items()
        if before is not None and file in before and before[file] != digests.get(file)
    )


def files_of(settings: AgentSettings) -> Iterable[Path]:
    """The files besides the .cfg ones whose change is a change of the configuration."""
    files = [getattr(settings.connector, name) for name in (*_TLS_FILES, *_SECRET_FILES)]
    return [path for path in (*files, settings.device_info.api_key_file) if path is not None]


def apply_settings(agent: Agent, settings: AgentSettings, changes: Changes) -> Deferred[None]:
    """Make ``agent`` follow ``settings``, touching only what ``changes`` names.

    Raises ``OdaError`` (``OSError``, ``sqlite3.Error``) and changes nothing when it can't be done.
    The Deferred fires with None when a replaced source has stopped.
    """
    parts = agent.parts
    before = parts.settings
    if settings.connector.secure and changes.reconnect:
        build_tls_options(settings.connector)  # for what it raises: nothing was touched yet
    components = load_plugins(changes.plugins_added, parts.reactor)
    if changes.device_info or changes.scripts:
        parts.host.configure(settings.device_info)
    new_state = parts.state
    try:
        if changes.state_manager_replaced:
            new_state = build_state_manager(
                settings,
                parts.host,
                parts.events,
                parts.reactor,
                parts.wall_clock,
                parts.counters,
                parts.undated.dating,
            )
        elif changes.state_manager and settings.state_manager is not None:
            new_state.reconfigure(settings.state_manager)
    except BaseException:
        parts.host.configure(before.device_info)
        raise
    parts.settings = settings
    waiting: list[Deferred[Any]] = []
    if changes.connector or changes.device_info or changes.reconnect:
        parts.connector.reconfigure(settings.connector, reconnect=bool(changes.reconnect))
    if changes.outbox:
        _follow_outbox(agent, settings.outbox, changes.outbox)
    if changes.connector or changes.dispatcher:
        parts.events.set_output(
            parts.codecs.codec(event_content_type(settings)),
            settings.dispatcher.reduced_output,
            settings.connector.max_message_size_bytes,
        )
    if changes.dispatcher_schedules:
        parts.events.set_schedules(settings.dispatcher.schedules)
    if changes.dispatcher or changes.clock_operations or changes.state_manager_replaced:
        _change_operations(agent, settings, new_state)
    if changes.state_manager_replaced:
        _replace_state(agent, new_state)
    else:
        parts.poller.set_schedules(settings.poller.schedules)
        parts.collector.set_schedules(settings.collector.schedules)
    if changes.monitor:
        waiting.append(agent.supervision.monitor.reconfigure(settings.monitor))
    waiting.append(agent.exchange_plugins(changes.plugins_removed, components))
    _log.info("configuration changed: {what}", what=", ".join(changes.components()))
    return gatherResults(waiting).addCallback(lambda _: None)


def _follow_outbox(agent: Agent, settings: OutboxSettings, changed: frozenset[str]) -> None:
    """Move the outbox where only its place changed; the rest waits for the next start.

    Nobody waits for the move: a disk that fails holds it up, and no other change.
    """
    is_in_file = settings.kind is OutboxKind.DURABLE and agent.parts.outbox.is_durable
    if "path" in changed and is_in_file:
        moved = agent.parts.outbox.move(settings.path)
        beside = undated_path(settings)
        if beside is not None:
            moved.addCallback(lambda _: agent.parts.undated.move(beside))
        moved.addErrback(
            lambda failure: _log.error(
                "{reason}; it stays where it is. The next start begins another one at outboxPath,"
                " and 'oda outbox import' takes this one over",
                reason=failure.getErrorMessage(),
            )
        )
        changed -= {"path"}
    if changed:
        _log.warn("changed outbox settings take effect at the next start of the agent")
    if "kind" in changed and agent.parts.outbox.is_durable is not (
        settings.kind is OutboxKind.DURABLE
    ):
        _log.warn("what waits in the outbox by then stays there; 'oda outbox import' takes it over")


def _change_operations(agent: Agent, settings: AgentSettings, state: Any) -> None:
    operations = agent.parts.operations
    if operations is None:
        return
    dispatcher = settings.dispatcher
    operations.configure(dispatcher.operation_timeout_s, dispatcher.max_concurrent_operations)
    for operation in standard_operations(
        settings, state, agent.parts.wall_clock, agent.parts.reactor, agent.parts.counters
    ):
        operations.remove(operation.name)
        operations.add(operation)


def _replace_state(agent: Agent, state: Any) -> None:
    """Read and collect through another state manager from now on.

    The one before publishes what it has kept: the realtime manager would have published it when it
    came. That may last until the device id is known, which the reload does not wait for.
    """
    parts, settings = agent.parts, agent.parts.settings
    old = parts.state
    parts.poller.stop()
    parts.collector.stop()
    parts.state = state
    parts.poller = Poller(parts.reactor, state, parts.counters, settings.poller.schedules)
    parts.collector = Collector(parts.reactor, state, parts.counters, settings.collector.schedules)
    if agent.running:
        state.start()
        parts.collector.start()
        parts.poller.start()
    old.retire()
