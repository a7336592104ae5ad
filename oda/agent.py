"""The agent as a Twisted service: its life cycle, and its API for embedders.

Start order: open the store, connect, publish, read. Stop order: stop reading, hand over pending
values, deliver and acknowledge, close the socket, close the store. A plain ``MultiService`` would
stop its children without waiting for one before it stops the next.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks, maybeDeferred
from twisted.python.failure import Failure

from oda.assembly import Parts, build_parts
from oda.boundary import foreign_code, reason_of
from oda.connector.peer import PeerClass
from oda.connector.resolution import install_resolver
from oda.datastreams.clock import SystemWallClock
from oda.datastreams.scripts import hand_on
from oda.errors import DatastreamTaken, OdaError, PluginError
from oda.extensions import load_plugins
from oda.interfaces import (
    ICodec,
    IDatastreamGetter,
    IDatastreamSetter,
    IDatastreamSource,
    IDeviceInfoProvider,
    IDispatcher,
    IInstaller,
    IOperation,
    IOperationRoute,
    IWallClock,
)
from oda.local_control import build_control, usual_directory
from oda.log import Logger, limit_log
from oda.logs.components import LevelRules
from oda.logs.redaction import Redactor, secrets_of
from oda.model import Event, LinkState
from oda.monitor.counters import Counters
from oda.monotonic import install_monotonic_clock
from oda.settings import AgentSettings, MonitorSettings, PluginSettings
from oda.stopping import (
    CONNECTION_BY_S,
    EVENTS_S,
    HURRIED_OUTBOX_S,
    OUTBOX_BY_S,
    SCRIPTS_BY_S,
    SOURCES_BY_S,
    STOP_S,
    Stopping,
)
from oda.supervision import Supervision
from oda.threads import in_own_thread
from oda.troubles import TroubleKind, Troubles
from oda.update.operation import Update

_log = Logger()

#: Seconds that a source is given to stop.
STOP_SOURCE_S = SOURCES_BY_S

#: The kinds of component that the agent needs while it assembles its parts.
_BUILT_IN = (ICodec, IDispatcher, IDeviceInfoProvider)


class Agent(MultiService):
    """An ODA agent: ``Agent(settings).setServiceParent(application)``.

    ``settings`` come from ``oda.config.loader.load`` or from code. ``components`` are objects
    that provide ``IDatastreamGetter``, ``IDatastreamSetter``, ``IDatastreamSource``,
    ``IOperation``, ``IOperationRoute``, ``IInstaller``, ``ICodec``, ``IDispatcher`` or
    ``IDeviceInfoProvider``.
    The agent uses a component for every interface it provides; a dispatcher or a device info
    replaces the built-in one. ``reactor`` None means the default reactor, whose timers the agent
    moves to the monotonic clock. ``assemble`` has the signature of ``oda.assembly.build_parts``.

    ``control`` makes the agent answer ``oda status``, ``oda send`` and ``oda outbox``: True for the
    commands without ``--conf``, a directory for those with ``--conf DIRECTORY``. While the agent
    runs, the log lines of its modules follow the levels of the settings (``logLevel``).

    Raises ``PluginError`` when a plugin in the settings can't be loaded, a component provides
    no interface that the agent knows, or two components claim the same place. Raises
    ``DatastreamTaken`` when two components claim the same datastream.
    """

    def __init__(
        self,
        settings: AgentSettings,
        components: Iterable[object] = (),
        reactor: Any = None,
        wall_clock: IWallClock | None = None,
        environ: Mapping[str, str] | None = None,
        assemble: Callable[..., Parts] = build_parts,
        control: bool | Path = False,
    ) -> None:
        super().__init__()
        if reactor is None:
            from twisted.internet import reactor
        install_monotonic_clock(reactor)
        install_resolver(reactor)
        self.counters = Counters(reactor.seconds)
        self._sources: list[Any] = []
        self._stopping: Stopping | None = None
        self._waits_for_source: dict[Deferred[None], Callable[[], None]] = {}
        troubles = Troubles(reactor.seconds)
        troubles.clean = Redactor(secrets_of(settings)).clean
        self._plugins = load_plugins(settings.plugins, reactor, troubles=troubles)
        added = [*chain.from_iterable(self._plugins.values()), *components]
        self.parts: Parts = assemble(
            settings,
            added,
            reactor,
            SystemWallClock() if wall_clock is None else wall_clock,
            self.counters,
            os.environ if environ is None else environ,
            troubles=troubles,
        )
        self.update = self._make_update(added, reactor, environ)
        self.supervision = Supervision(self.parts, self.counters, reactor)
        self.supervision.monitor.setServiceParent(self)
        self._unlimit_log: Callable[[], None] = lambda: None
        if control:
            directory = usual_directory() if control is True else Path(control)
            build_control(self, directory).setServiceParent(self)
        for component in added:
            self._place(component)

    @property
    def settings(self) -> AgentSettings:
        """The settings in force."""
        return self.parts.settings

    @property
    def is_connected(self) -> bool:
        """True while the WebSocket is open."""
        return self.parts.connector.is_connected

    def _make_update(
        self, components: Iterable[object], reactor: Any, environ: Mapping[str, str] | None
    ) -> Update:
        """The operation UPDATE, added to the others."""
        parts = self.parts
        identity: Any = next(
            (one for one in components if IDeviceInfoProvider.providedBy(one)),
            parts.host.device_info,
        )
        update = Update(
            reactor,
            lambda: parts.settings,
            lambda: identity.api_key(),
            lambda: hand_on(os.environ if environ is None else environ),
            parts.wall_clock.now_ms,
            partial(in_own_thread, reactor),
            self._watch_connection,
        )
        if parts.operations is not None:
            parts.operations.stand_in(update, lambda: update.is_allowed)
        return update

    def _watch_connection(self) -> Callable[[], bool]:
        """Says whether the connection is open, and something was acknowledged since now."""
        before = self.counters.count("messages_acknowledged")

        def is_acknowledged() -> bool:
            status = self.parts.connector.status()
            if status.state is not LinkState.OPEN or not status.is_proven:
                return False
            if status.peer_class == PeerClass.PONG.value:
                return self.counters.count("messages_acknowledged") > before
            # It answers no pings: what was written counts as delivered.
            return not status.unacknowledged and not self.parts.outbox.answer_bytes()

        return is_acknowledged

    # -- for embedders -----------------------------------------------------------------------

    def publish(self, events: Event | Sequence[Event]) -> Deferred[None]:
        """Accept events for delivery in the order given: either all of them or none.

        The Deferred fires with None once they are accepted. It fails with ``EventRejected`` when
        an event can't be published (then none of this call is accepted), with ``OutboxClosed`` when
        the agent is stopping, or with ``OutboxFull``.
        """
        return self.parts.events.publish(events)

    def add(self, component: object) -> None:
        """Use a getter, setter, source, operation or route from now on.

        Raises ``PluginError`` or ``DatastreamTaken`` as the constructor does. Also raises
        ``PluginError`` for a codec, dispatcher or device info: only the constructor takes these.
        """
        if any(interface.providedBy(component) for interface in _BUILT_IN):
            raise PluginError(f"{component!r} can only be given to the constructor")
        self._place(component)

    def remove(self, component: object) -> Deferred[None]:
        """Stop using a component. Fires with None once its source, if it is one, has stopped."""
        if IDatastreamGetter.providedBy(component):
            self.parts.host.registry.remove_getter(component)
        if IDatastreamSetter.providedBy(component):
            self.parts.host.registry.remove_setter(component)
        if IOperation.providedBy(component) and self.parts.operations is not None:
            self.parts.operations.remove_handler(component)
        if IOperationRoute.providedBy(component) and self.parts.operations is not None:
            self.parts.operations.route = None
        if IInstaller.providedBy(component):
            self.update.installers.remove(component)
        if any(source is component for source in self._sources):
            self._sources = [source for source in self._sources if source is not component]
            if self.running:
                return self._stop_source(component)
        return maybeDeferred(lambda: None)

    def follow_log_levels(self, settings: MonitorSettings) -> None:
        """Log what these levels ask for, from now until the agent has stopped. The levels are those
        of the agent's modules: what else writes to the log is not limited."""
        self._unlimit_log()
        self._unlimit_log = limit_log(LevelRules(settings).wants)

    def exchange_plugins(
        self,
        removed: Iterable[PluginSettings],
        components: Mapping[str, Sequence[object]],
    ) -> Deferred[None]:
        """Remove the components of some plugins and add those of others.

        The agent can't exchange codecs, dispatchers and device infos while it runs, and logs that.
        It also logs each component that it can't remove or use, and goes on with the others,
        because the settings that name them are already in force. Fires with None once the removed
        sources have stopped.
        """
        stopped: list[Deferred[None]] = []
        for plugin in removed:
            self.parts.troubles.end(TroubleKind.PLUGIN, plugin.name)
            for component in self._plugins.pop(plugin.name, ()):
                if self._is_built_in(component, plugin.name):
                    continue
                try:
                    with foreign_code:
                        stopped.append(self.remove(component))
                except Exception:  # noqa: BLE001 - one component must not block the others
                    _log.failure(
                        "plugin {plugin}: {component} can't be removed",
                        plugin=plugin.name,
                        component=type(component).__name__,
                    )
        for name, created in components.items():
            used = self._plugins[name] = []
            for component in created:
                if self._is_built_in(component, name):
                    continue
                try:
                    self._place(component)
                except OdaError as error:
                    self.parts.troubles.report(TroubleKind.PLUGIN, str(error), name)
                    _log.error(
                        "plugin {plugin}: {reason}; the rest of the plugin is used",
                        plugin=name,
                        reason=str(error),
                    )
                else:
                    used.append(component)
        return gatherResults(stopped).addCallback(lambda _: None)

    @staticmethod
    def _is_built_in(component: object, plugin: str) -> bool:
        if not any(interface.providedBy(component) for interface in _BUILT_IN):
            return False
        _log.warn(
            "plugin {plugin}: its codec, dispatcher or device info changes at the next start",
            plugin=plugin,
        )
        return True

    # -- the service -------------------------------------------------------------------------

    def startService(self) -> None:
        """Start everything; the agent connects in the background.

        Raises ``OutboxError`` when another process uses this agent's outbox.
        """
        parts = self.parts
        parts.outbox.open()
        self.follow_log_levels(self.settings.monitor)
        super().startService()
        parts.state.start()
        self.update.start()
        parts.connector.startService()
        parts.events.start()
        parts.collector.start()
        parts.poller.start()
        for source in self._sources:
            self._start_source(source)
        parts.started()

    @inlineCallbacks
    def stopService(self) -> Any:
        """Stop in order; fires with None once every part of the agent has stopped.

        The agent first delivers what it has accepted and can deliver within a few seconds. The
        Deferred fires at the latest ``STOP_S`` seconds after the call, whatever hangs; the log then
        says what the agent did not wait for, and what is lost.
        """
        parts = self.parts
        parts.is_running = False
        stopping = self._stopping = Stopping(parts.reactor)
        parts.poller.stop()
        parts.collector.stop()
        yield stopping.step("a source", self._stop_sources, SOURCES_BY_S, self._give_up_sources)
        # While the disk fails, nothing confirms acceptance. The events in the outbox are delivered
        # without that, or the end of the outbox logs what is lost.
        yield stopping.step(
            "publishing", parts.events.stop, stopping.passed_s + EVENTS_S, _wait_no_longer
        )
        self.update.stop()
        if parts.operations is not None:
            parts.operations.stop()
        connector = parts.connector
        yield stopping.step(
            "the connection", connector.stopService, CONNECTION_BY_S, connector.hurry
        )
        yield stopping.step(
            "the outbox", parts.outbox.close, OUTBOX_BY_S, parts.outbox.abandon, HURRIED_OUTBOX_S
        )
        yield stopping.step("the state manager", lambda: parts.state.stop(), STOP_S)
        yield stopping.step("a script", parts.stop_scripts, SCRIPTS_BY_S, parts.kill_scripts)
        yield stopping.step("a service of the agent", super().stopService, STOP_S)
        self._stopping = None
        self._unlimit_log()

    def hurry(self) -> None:
        """Let ``stopService``, called before or later, wait only a moment for the disk. Undelivered
        messages stay in the outbox."""
        self.parts.connector.hurry()
        if self._stopping is not None:
            self._stopping.hurry()

    # -- inside ------------------------------------------------------------------------------

    def _place(self, component: object) -> None:
        """Register a component for each of its interfaces. Turns any error of the component's own
        code into a ``PluginError``."""
        try:
            with foreign_code:
                self._put(component)
        except (PluginError, DatastreamTaken):
            raise
        except Exception as error:
            reason = reason_of(error)
            raise PluginError(f"{type(component).__name__} can't be used: {reason}") from error

    def _put(self, component: object) -> None:
        known = any(interface.providedBy(component) for interface in _BUILT_IN)
        if IDatastreamGetter.providedBy(component):
            self.parts.host.registry.add_getter(component)
            known = True
        if IDatastreamSetter.providedBy(component):
            self.parts.host.registry.add_setter(component)
            known = True
        if IOperation.providedBy(component):
            if self.parts.operations is None:
                raise PluginError(
                    f"{component!r}: operations need the built-in dispatcher, but it is replaced"
                )
            self.parts.operations.add(component)
            known = True
        if IOperationRoute.providedBy(component):
            self._put_route(component)
            known = True
        if IInstaller.providedBy(component):
            self.update.installers.add(component)
            known = True
        if IDatastreamSource.providedBy(component):
            self._sources.append(component)
            if self.running:
                self._start_source(component)
            known = True
        if not known:
            raise PluginError(f"{component!r} provides no interface that the agent uses")

    def _put_route(self, route: Any) -> None:
        operations = self.parts.operations
        if operations is None:
            raise PluginError(
                f"{route!r}: a route needs the built-in dispatcher, but it is replaced"
            )
        if operations.route is not None:
            raise PluginError(
                f"only one IOperationRoute can be used, but {operations.route!r} and"
                f" {route!r} both provide it"
            )
        operations.route = route

    def _received(self, events: Sequence[Event]) -> Deferred[None]:
        return self.parts.state.received(events)

    def _start_source(self, source: Any) -> None:
        # A lambda, because the attribute may be a property that raises.
        started = maybeDeferred(lambda: source.start(self._received))
        started.addErrback(_report, "start", source)

    def _stop_sources(self) -> Deferred[Any]:
        return gatherResults([self._stop_source(source) for source in self._sources])

    def _give_up_sources(self) -> None:
        for give_up in list(self._waits_for_source.values()):
            give_up()

    def _stop_source(self, source: Any) -> Deferred[None]:
        """Fires once the source has stopped, at the latest after ``STOP_SOURCE_S``."""
        stopped: Deferred[None] = Deferred()

        def conclude(_: object) -> None:
            self._waits_for_source.pop(stopped, None)
            if timer.active():
                timer.cancel()
            if not stopped.called:
                stopped.callback(None)

        def give_up() -> None:
            _log.error(
                "the source {source} has not stopped in time; the agent stops without it",
                source=source,
            )
            conclude(None)

        timer = self.parts.reactor.callLater(STOP_SOURCE_S, give_up)
        self._waits_for_source[stopped] = give_up
        maybeDeferred(lambda: source.stop()).addErrback(_report, "stop", source).addBoth(conclude)
        return stopped


def _wait_no_longer() -> None:
    """Stop waiting: the end of the outbox answers the callers that have published."""


def _report(failure: Failure, verb: str, source: object) -> None:
    _log.failure("the source {source} failed to {verb}", failure, source=source, verb=verb)
