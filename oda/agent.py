"""The agent as a Twisted service: its life, and what an embedder can ask of it.

Its life is one sequence each way. Start: keep, connect, publish, read. Stop: read no more, hand
over what is on its way, deliver and acknowledge, close the socket, close the store. A
``MultiService`` alone would stop its children without waiting for one before the next.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks, maybeDeferred
from twisted.logger import Logger
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
from oda.model import Event, LinkState
from oda.monitor.counters import Counters
from oda.monotonic import install_monotonic_clock
from oda.settings import AgentSettings, PluginSettings
from oda.supervision import Supervision
from oda.threads import in_own_thread
from oda.update.operation import Update

_log = Logger()

#: Seconds that a source is given to stop.
STOP_SOURCE_S = 5.0

#: What a component may be that is used while the parts are put together.
_BUILT_IN = (ICodec, IDispatcher, IDeviceInfoProvider)


class Agent(MultiService):
    """An ODA agent: ``Agent(settings).setServiceParent(application)``.

    ``settings`` come from ``oda.config.loader.load`` or are made in code. ``components`` are
    objects providing ``IDatastreamGetter``, ``IDatastreamSetter``, ``IDatastreamSource``,
    ``IOperation``, ``IOperationRoute``, ``IInstaller``, ``ICodec``, ``IDispatcher`` or
    ``IDeviceInfoProvider``: each is used for every one of these that it provides; the last two
    replace the built-in ones.
    ``reactor`` None means the default one, whose timers are put on the monotonic clock.
    ``assemble`` is called as ``oda.assembly.build_parts`` is.

    Raises ``PluginError`` when a plugin of the settings can't be loaded, a component provides
    nothing the agent knows, or two claim the same place; ``DatastreamTaken`` likewise.
    """

    def __init__(
        self,
        settings: AgentSettings,
        components: Iterable[object] = (),
        reactor: Any = None,
        wall_clock: IWallClock | None = None,
        environ: Mapping[str, str] | None = None,
        assemble: Callable[..., Parts] = build_parts,
    ) -> None:
        super().__init__()
        if reactor is None:
            from twisted.internet import reactor
        install_monotonic_clock(reactor)
        install_resolver(reactor)
        self.counters = Counters()
        self._sources: list[Any] = []
        self._plugins = load_plugins(settings.plugins, reactor)
        added = [*chain.from_iterable(self._plugins.values()), *components]
        self.parts: Parts = assemble(
            settings,
            added,
            reactor,
            SystemWallClock() if wall_clock is None else wall_clock,
            self.counters,
            os.environ if environ is None else environ,
        )
        self.update = self._make_update(added, reactor, environ)
        self.supervision = Supervision(self.parts, self.counters, reactor)
        self.supervision.monitor.setServiceParent(self)
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
            hand_on(os.environ if environ is None else environ),
            parts.wall_clock.now_ms,
            partial(in_own_thread, reactor),
            self._watch_connection,
        )
        if parts.operations is not None:
            parts.operations.add(update)
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
        """Accept events for delivery, all or none, in the order given.

        The Deferred fires with None once they are accepted. It fails with ``EventRejected`` when
        one can't be published (the others of the call are not accepted either), with
        ``OutboxClosed`` when the agent is stopping, or with ``OutboxFull``.
        """
        return self.parts.events.publish(events)

    def add(self, component: object) -> None:
        """Use a getter, setter, source, operation or route from now on.

        Raises ``PluginError`` or ``DatastreamTaken`` as the constructor does, also for a codec,
        dispatcher or device info: these are given to the constructor.
        """
        if any(interface.providedBy(component) for interface in _BUILT_IN):
            raise PluginError(f"{component!r} can only be given to the constructor")
        self._place(component)

    def remove(self, component: object) -> Deferred[None]:
        """Stop using what ``add`` added. Fires with None when a source has stopped."""
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

    def exchange_plugins(
        self,
        removed: Iterable[PluginSettings],
        components: Mapping[str, Sequence[object]],
    ) -> Deferred[None]:
        """Remove the components of some plugins and add those of others.

        Codecs, dispatchers and device infos can't be exchanged while the agent runs: that is said
        in the log. So is what can't be removed or used; the others are, as the settings that name
        them are in force. Fires with None when the sources that went have stopped.
        """
        stopped: list[Deferred[None]] = []
        for plugin in removed:
            for component in self._plugins.pop(plugin.name, ()):
                if self._is_built_in(component, plugin.name):
                    continue
                try:
                    with foreign_code:
                        stopped.append(self.remove(component))
                except Exception:  # noqa: BLE001 - one component must not keep the others
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
        """Start everything; the connection is made in the background.

        Raises ``OutboxError`` when another process uses the outbox of this agent.
        """
        parts = self.parts
        parts.outbox.open()
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
        """Stop in order; fires with None when nothing of the agent is left running.

        What is accepted and can be delivered within a few seconds is delivered.
        """
        parts = self.parts
        parts.is_running = False
        parts.poller.stop()
        parts.collector.stop()
        yield gatherResults([self._stop_source(source) for source in self._sources])
        yield parts.events.stop()
        self.update.stop()
        if parts.operations is not None:
            parts.operations.stop()
        yield parts.connector.stopService()
        yield parts.outbox.close()
        yield maybeDeferred(parts.state.stop)
        yield parts.host.stop()
        yield maybeDeferred(super().stopService)

    # -- inside ------------------------------------------------------------------------------

    def _place(self, component: object) -> None:
        """Put a component where its interfaces say it belongs. Whatever its own code raises on the
        way is a ``PluginError``."""
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
                    f"{component!r}: operations need the built-in dispatcher, which is replaced"
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
                f"{route!r}: a route needs the built-in dispatcher, which is replaced"
            )
        if operations.route is not None:
            raise PluginError(
                f"only one IOperationRoute can be used, but there are {operations.route!r} and"
                f" {route!r}"
            )
        operations.route = route

    def _received(self, events: Sequence[Event]) -> Deferred[None]:
        return self.parts.state.received(events)

    def _start_source(self, source: Any) -> None:
        # A lambda, as the attribute may be a property that raises.
        started = maybeDeferred(lambda: source.start(self._received))
        started.addErrback(_report, "start", source)

    def _stop_source(self, source: Any) -> Deferred[None]:
        """Fires when it has stopped, at the latest after ``STOP_SOURCE_S``."""
        stopped: Deferred[None] = Deferred()

        def conclude(_: object) -> None:
            if timer.active():
                timer.cancel()
            if not stopped.called:
                stopped.callback(None)

        def give_up() -> None:
            _log.error(
                "the source {source} has not stopped within {limit_s:g} s; nobody waits for it",
                source=source,
                limit_s=STOP_SOURCE_S,
            )
            stopped.callback(None)

        timer = self.parts.reactor.callLater(STOP_SOURCE_S, give_up)
        maybeDeferred(lambda: source.stop()).addErrback(_report, "stop", source).addBoth(conclude)
        return stopped


def _report(failure: Failure, verb: str, source: object) -> None:
    _log.failure("the source {source} could not {verb}", failure, source=source, verb=verb)
