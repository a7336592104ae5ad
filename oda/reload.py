"""Changes a running agent so that it follows new settings.

A reload is checked as a whole before anything changes. Faulty files, a plugin that can't be loaded
or a script that collides with a plugin leave the agent unchanged, and the log names every fault.
The same holds for a certificate without a matching key: the two are never renewed at the same
moment. Then the agent changes only what differs. It reconnects only if its address or the device's
identity has changed.
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

from oda.agent import Agent
from oda.assembly import (
    build_state_manager,
    configure_scripts,
    configured_operations,
    event_content_type,
    standard_operations,
    undated_path,
)
from oda.config.changes import Changes, difference
from oda.config.loader import LoadedConfiguration, load
from oda.config.watch import ConfigurationWatcher
from oda.connector.tls import build_tls_options
from oda.errors import ConfigurationError, OdaError, PluginError
from oda.extensions import load_plugins
from oda.log import Logger
from oda.logs.redaction import Redactor, secrets_of
from oda.settings import AgentSettings, OutboxKind, OutboxSettings
from oda.telemetry.collector import Collector
from oda.telemetry.poller import Poller
from oda.troubles import TroubleKind
from oda.wording import counted

_log = Logger()

#: The connector's settings that name a file.
_TLS_FILES = ("ca_file", "cert_file", "key_file")
#: Fields of the connector that name a file whose content another field holds.
_SECRET_FILES = ("key_passphrase_file", "proxy_password_file")


class ReloadService(MultiService):
    """Follows the configuration directory: checks it every ``interval_s`` seconds, and at SIGHUP,
    which also ends a wait before the next connection attempt.

    ``report(configuration)`` logs what was read. ``install_signal`` is ``signal.signal``, called in
    the main thread when the service starts. ``digests`` are those of the agent's initial
    configuration; they show when a certificate or key was renewed in place.
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
            directory, self._noticed, reactor, interval_s, lambda: files_of(agent.settings)
        )
        watcher.setServiceParent(self)

    def startService(self) -> None:
        """Start to watch the directory, and to handle SIGHUP."""
        super().startService()
        self._before = self._install_signal(
            signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._hung_up)
        )

    def stopService(self) -> Any:
        """Stop watching, and restore the earlier handler of SIGHUP."""
        self._install_signal(signal.SIGHUP, self._before or signal.SIG_DFL)
        return super().stopService()

    def _hung_up(self) -> None:
        """At SIGHUP, use the present configuration, and don't wait for the end of a back-off."""
        self._noticed()
        self._agent.parts.connector.connect_now()

    def _noticed(self) -> Deferred[None]:
        """Somebody has changed the directory. An update has its own files read once all of them
        are new, or old again."""
        if self._agent.update.is_changing_configuration:
            _log.info("an update changes the configuration: it is read at the end of that")
            return succeed(None)
        return self.reload()

    def reload(self) -> Deferred[None]:
        """Read the directory and follow it; never fails, and logs every fault."""
        try:
            configuration = load(self._directory, self._environ)
        except ConfigurationError as error:
            self._agent.counters.increment("reloads", result="faulty")
            _log.error(
                "the configuration has {faults}; the agent keeps its old settings:",
                faults=counted(len(error.faults), "fault"),
            )
            for fault in error.faults:
                _log.error("{fault}", fault=str(fault))
            self._not_used(f"{counted(len(error.faults), 'fault')}, the first: {error.faults[0]}")
            return succeed(None)
        self._agent.parts.troubles.end(TroubleKind.CONFIGURATION)
        renewed = _renewed(configuration, self._digests)
        self._digests = configuration.digests
        changes = difference(self._agent.settings, configuration.settings)
        if renewed:
            # The settings are the same, but the files they name have changed: build TLS anew.
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
            self._not_used(failure.getErrorMessage())
            _log.error(
                "the new configuration can't be used; the agent keeps its old settings: {reason}",
                reason=failure.getErrorMessage(),
            )
        else:
            _log.failure("a defect while the agent changed its configuration", failure)

    def _not_used(self, why: str) -> None:
        text = f"the agent goes on with the one before: {why}"
        self._agent.parts.troubles.report(TroubleKind.CONFIGURATION, text)


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
    """The files other than .cfg files that belong to the configuration."""
    files = [getattr(settings.connector, name) for name in (*_TLS_FILES, *_SECRET_FILES)]
    return [path for path in (*files, settings.device_info.api_key_file) if path is not None]


def apply_settings(agent: Agent, settings: AgentSettings, changes: Changes) -> Deferred[None]:
    """Make ``agent`` follow ``settings``; changes only what ``changes`` names.

    Raises ``OdaError`` (``OSError``, ``sqlite3.Error``) and changes nothing when that is
    impossible. The Deferred fires with None once a replaced source has stopped.
    """
    parts = agent.parts
    before = parts.settings
    if settings.connector.secure and changes.reconnect:
        build_tls_options(settings.connector)  # raises before anything has changed
    _check_operations(agent, settings)
    components = load_plugins(changes.plugins_added, parts.reactor, troubles=parts.troubles)
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
                parts.troubles,
                parts.undated.dating,
            )
        elif changes.state_manager and settings.state_manager is not None:
            new_state.reconfigure(settings.state_manager)
    except BaseException:
        parts.host.configure(before.device_info)
        raise
    parts.settings = settings
    parts.troubles.clean = Redactor(secrets_of(settings)).clean
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
    if changes.operations or changes.device_info:
        configure_scripts(parts.scripts, settings)
    if (
        changes.dispatcher
        or changes.clock_operations
        or changes.operations
        or changes.state_manager_replaced
    ):
        _change_operations(agent, settings, new_state)
    if changes.state_manager_replaced:
        _replace_state(agent, new_state)
    else:
        parts.poller.set_schedules(settings.poller.schedules)
        parts.collector.set_schedules(settings.collector.schedules)
    if changes.monitor:
        agent.follow_log_levels(settings.monitor)
        waiting.append(agent.supervision.monitor.reconfigure(settings.monitor))
    waiting.append(agent.exchange_plugins(changes.plugins_removed, components))
    _log.info("configuration changed: {what}", what=", ".join(changes.components()))
    return gatherResults(waiting).addCallback(lambda _: None)


def _follow_outbox(agent: Agent, settings: OutboxSettings, changed: frozenset[str]) -> None:
    """Move the outbox if its place has changed; other changes wait for the next start.

    The reload does not wait for the move: a failing disk delays only the move itself.
    """
    is_in_file = settings.kind is OutboxKind.DURABLE and agent.parts.outbox.is_durable
    if "path" in changed and is_in_file:
        moved = agent.parts.outbox.move(settings.path)
        beside = undated_path(settings)
        if beside is not None:
            moved.addCallback(lambda _: agent.parts.undated.move(beside))
        moved.addErrback(
            lambda failure: _log.error(
                "{reason}; the outbox stays where it is. The next start begins a new one at"
                " outboxPath; 'oda outbox import' then takes this one over",
                reason=failure.getErrorMessage(),
            )
        )
        changed -= {"path"}
    if changed:
        _log.warn("changed outbox settings take effect at the next start of the agent")
    if "kind" in changed and agent.parts.outbox.is_durable is not (
        settings.kind is OutboxKind.DURABLE
    ):
        _log.warn(
            "messages that still wait in the outbox at the next start stay in it;"
            " 'oda outbox import' takes them over"
        )


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
    for operation in agent.parts.configured:
        operations.remove(operation.name)
    agent.parts.configured = configured_operations(agent.parts, settings, state)
    for operation in agent.parts.configured:
        operations.add(operation)


def _check_operations(agent: Agent, settings: AgentSettings) -> None:
    """Raise ``PluginError`` for a configured operation that a component handles already."""
    operations = agent.parts.operations
    if operations is None:
        return
    own = {operation.name for operation in agent.parts.configured}
    for operation in configured_operations(agent.parts, settings, agent.parts.state):
        if operation.name in operations.operation_names and operation.name not in own:
            raise PluginError(
                f"the operation {operation.name} is handled twice: by {operation!r} and by a plugin"
            )


def _replace_state(agent: Agent, state: Any) -> None:
    """Read and collect through another state manager from now on.

    The old manager publishes the values it has stored, as the realtime manager would have done at
    once. This may take until the device id is known, and the reload does not wait for it.
    """
    parts, settings = agent.parts, agent.parts.settings
    old = parts.state
    parts.poller.stop()
    parts.collector.stop()
    parts.state = state
    together = (parts.reactor, state, parts.counters)
    parts.poller = Poller(*together, settings.poller.schedules, parts.troubles)
    parts.collector = Collector(*together, settings.collector.schedules, parts.troubles)
    if agent.running:
        state.start()
        parts.collector.start()
        parts.poller.start()
    old.retire()
