"""Assembles the parts of an agent and connects them to each other.

This module has no behaviour of its own: ``oda.agent`` starts and stops the parts, and
``oda.reload`` changes them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.built import BUILT_MS
from oda.codecs import CodecRegistry, check_value, default_registry, is_plain
from oda.codecs.limits import ARRIVING
from oda.connector.service import ConnectorService
from oda.datastreams.host import HostDatastreams, build_datastreams
from oda.datastreams.scripts import ScriptRunner
from oda.datastreams.synchronisation import is_synchronised
from oda.errors import EncodeError, PluginError, ReadingFailed
from oda.interfaces import (
    ICodec,
    ICounters,
    IDating,
    IDeviceInfoProvider,
    IDispatcher,
    IOperation,
    IStateManager,
    ITimeSource,
    IWallClock,
)
from oda.log import Logger
from oda.model import Answer, ContentType
from oda.monotonic import since_boot_s
from oda.operations.answer import AnswerWriter
from oda.operations.discover import Discover
from oda.operations.dispatcher import OperationDispatcher
from oda.operations.get_device_parameters import GetDeviceParameters
from oda.operations.refresh_info import RefreshInfo
from oda.operations.set_clock_equipment import SetClockEquipment
from oda.operations.set_device_parameters import SetDeviceParameters
from oda.operations.synchronize_clock import SynchronizeClock
from oda.outbox.clock import Uptime, this_machine
from oda.outbox.outbox import Outbox, make_outbox
from oda.settings import AgentSettings, OutboxKind, OutboxPolicy, OutboxSettings, ScriptEffect
from oda.telemetry.collector import Collector
from oda.telemetry.dating import Dating
from oda.telemetry.dispatcher import EventDispatcher
from oda.telemetry.poller import Poller
from oda.telemetry.realtime import RealtimeStateManager
from oda.telemetry.undated import UndatedEvents
from oda.troubles import Troubles

if TYPE_CHECKING:
    from oda.telemetry.inmemory import InMemoryStateManager

_log = Logger()

#: Makes the outbox; has the signature of ``build_outbox``.
MakeOutbox = Callable[[AgentSettings, Any, IWallClock, ICounters], Outbox]

#: Readings that wait for the right time may take this part of what the outbox may hold.
UNDATED_SHARE = 4

_SYSTEM_RANDOM = SystemRandom()


@dataclass
class Parts:
    """The parts of one agent. ``operations`` is None where a component replaces the dispatcher;
    ``scripts`` runs the commands of operations; ``configured`` are the operations whose handlers
    depend on the configuration;
    ``host_id`` is "" until the device info has supplied the id; ``is_running`` is True between the
    agent's start and its stop."""

    settings: AgentSettings
    reactor: Any
    wall_clock: IWallClock
    counters: ICounters
    codecs: CodecRegistry
    host: HostDatastreams
    outbox: Outbox
    connector: ConnectorService
    events: EventDispatcher
    state: RealtimeStateManager | InMemoryStateManager
    poller: Poller
    collector: Collector
    operations: OperationDispatcher | None
    undated: UndatedEvents
    scripts: ScriptRunner
    troubles: Troubles
    host_id: str = ""
    is_running: bool = False
    configured: Sequence[IOperation] = ()

    def stop_scripts(self) -> Deferred[Any]:
        """End the scripts of readings and operations; fires when they have ended."""
        return gatherResults([self.host.stop(), self.scripts.stop()])

    def kill_scripts(self) -> None:
        """Kill the scripts that have not ended in time: none outlives the agent."""
        self.host.kill_scripts()
        self.scripts.kill_rest()

    def started(self) -> None:
        """All parts of the agent have started."""
        self.is_running = True
        self.take_up_interrupted()

    def identified(self, device_id: str) -> None:
        """Take note of the device's id, which is new or has changed."""
        self.host_id = device_id
        self.host.registry.host_id = device_id
        self.events.set_host_id(device_id)
        self.take_up_interrupted()

    def take_up_interrupted(self) -> None:
        """Resume the operations that an earlier process left unfinished, or answer them.

        Called when the agent has started, each time the device info supplies the id, and when the
        journal learns of such operations late. An operation that continues is resumed once the
        agent runs, whether the id is known or not: the id may depend on it. The others are answered
        once the id is known, because an answer names the device.
        """
        if self.operations is None:
            return
        if self.is_running:
            for answered, content_type in self.operations.resume_interrupted():
                answered.addCallback(self._put_answer, content_type)
        if self.host_id:
            for answer, content_type in self.operations.answer_interrupted():
                self._put_answer(answer, content_type)

    def _put_answer(self, answer: Answer | None, content_type: ContentType) -> None:
        if answer is not None:
            accepted = maybeDeferred(self.connector.uplink_response, answer, content_type)
            accepted.addErrback(self._interrupted_not_accepted)

    def _interrupted_not_accepted(self, failure: Failure) -> None:
        self.counters.increment("answers_lost")
        _log.error(
            "lost the answer to an interrupted operation: {reason}",
            reason=failure.getErrorMessage(),
        )


@implementer(IDeviceInfoProvider)
class AnnouncingDeviceInfo:
    """Passes on what ``inner`` returns, and calls ``identified`` with each device id."""

    def __init__(self, inner: IDeviceInfoProvider, identified: Callable[[str], None]) -> None:
        self._inner = inner
        self._identified = identified

    def device_id(self) -> Deferred[str]:
        """See ``IDeviceInfoProvider.device_id``."""

        def announce(device_id: Any) -> str:
            # Telemetry that waits for an id can now be published.
            known = _checked_id(device_id)
            self._identified(known)
            return known

        return maybeDeferred(lambda: self._inner.device_id()).addCallback(announce)

    def api_key(self) -> str:
        """See ``IDeviceInfoProvider.api_key``."""
        return self._inner.api_key()

    def serial_number(self) -> Any:
        """See ``IDeviceInfoProvider.serial_number``."""
        return self._inner.serial_number()

    def software(self) -> Any:
        """See ``IDeviceInfoProvider.software``."""
        return self._inner.software()


def _checked_id(device_id: object) -> str:
    """Check that every message can carry this device id. Raises ``ReadingFailed`` otherwise."""
    if type(device_id) is not str or not device_id:
        kind = "an empty text" if device_id == "" else type(device_id).__name__
        raise ReadingFailed(f"the device info gave no device id: {kind}")
    try:
        check_value(device_id, "device id")
    except EncodeError as error:
        raise ReadingFailed(str(error)) from None
    return device_id


def build_parts(
    settings: AgentSettings,
    components: Iterable[object],
    reactor: Any,
    wall_clock: IWallClock,
    counters: ICounters,
    environ: Mapping[str, str],
    make_outbox: MakeOutbox | None = None,
    random: Callable[[], float] = _SYSTEM_RANDOM.random,
    random_bytes: Callable[[int], bytes] = os.urandom,
    dating: Dating | None = None,
    troubles: Troubles | None = None,
) -> Parts:
    """The parts for ``settings``. ``components`` are those that the parts need or that replace
    built-in ones: codecs, dispatcher, device info.

    ``make_outbox`` replaces ``build_outbox``; ``random`` returns floats in [0, 1), and
    ``random_bytes(n)`` returns n random bytes. The simulation of the tests replaces all three.
    ``dating`` replaces the one that asks this machine. The parts report what is wrong with them to
    ``troubles``.

    Raises ``PluginError`` when two components claim the same place.
    """
    components = tuple(components)
    troubles = troubles or Troubles(reactor.seconds)
    codecs = default_registry(ARRIVING)
    for component in components:
        if ICodec.providedBy(component):
            codecs.add(component)
    replaced_identity = _only(components, IDeviceInfoProvider)
    parts: Parts
    if dating is None:
        dating = build_dating(wall_clock, lambda: parts.settings.dispatcher.time_sync)
    host = build_datastreams(
        settings.device_info,
        reactor,
        wall_clock,
        environ,
        Path.cwd(),
        identity=replaced_identity,
        may_set_clock=lambda: parts.settings.dispatcher.allow_set_clock,
        counters=counters,
        dating=dating,
        clock_was_set=dating.clock_was_set,
        troubles=troubles,
    )
    outbox = (make_outbox or build_outbox)(settings, reactor, wall_clock, counters)
    outbox.troubles = troubles
    dispatcher = _only(components, IDispatcher)
    device_info = replaced_identity or host.device_info

    def send_partial(payload: bytes, content_type: ContentType) -> Deferred[int]:
        return parts.connector.uplink_response(payload, content_type)

    def max_message_bytes() -> int:
        return parts.settings.connector.max_message_size_bytes

    writer = AnswerWriter(codecs, lambda: parts.host_id, max_message_bytes, is_plain)
    operations = None
    if dispatcher is None:
        dispatcher = operations = OperationDispatcher(
            codecs=codecs,
            host_id=lambda: parts.host_id,
            operations=(),
            journal=outbox.journal,
            send_partial=send_partial,
            clock=reactor,
            counters=counters,
            timeout_s=settings.dispatcher.operation_timeout_s,
            max_concurrent=settings.dispatcher.max_concurrent_operations,
            max_answer_bytes=max_message_bytes,
            is_plain=is_plain,
            has_room=lambda: outbox.answer_bytes() < settings.outbox.max_bytes // 4,
        )
    connector = ConnectorService(
        settings.connector,
        settings.outbox,
        outbox,
        AnnouncingDeviceInfo(device_info, lambda device_id: parts.identified(device_id)),
        dispatcher,
        codecs,
        counters,
        reactor,
        random,
        random_bytes,
        writer.shorten,
        troubles=troubles,
    )
    undated = UndatedEvents(
        reactor,
        dating,
        counters,
        undated_path(settings.outbox),
        settings.outbox.max_bytes // UNDATED_SHARE,
        settings.outbox.policy is OutboxPolicy.REFUSE,
    )
    events = EventDispatcher(
        reactor,
        connector,
        codecs.codec(event_content_type(settings)),
        check_value,
        wall_clock,
        counters,
        reduced=settings.dispatcher.reduced_output,
        max_message_bytes=settings.connector.max_message_size_bytes,
        schedules=settings.dispatcher.schedules,
        window_s=settings.outbox.commit_window_s,
        undated=undated,
    )
    state = build_state_manager(
        settings, host, events, reactor, wall_clock, counters, troubles, dating
    )
    parts = Parts(
        settings=settings,
        reactor=reactor,
        wall_clock=wall_clock,
        counters=counters,
        codecs=codecs,
        host=host,
        outbox=outbox,
        connector=connector,
        events=events,
        state=state,
        poller=Poller(reactor, state, counters, settings.poller.schedules, troubles),
        collector=Collector(reactor, state, counters, settings.collector.schedules, troubles),
        operations=operations,
        undated=undated,
        scripts=ScriptRunner(
            reactor,
            Path.cwd(),
            environ,
            set_session=shutil.which("setsid"),
            counters=counters,
            troubles=troubles,
            everything="all scripts of operations",
        ),
        troubles=troubles,
    )
    configure_scripts(parts.scripts, settings)
    if operations is not None:
        for operation in standard_operations(settings, state, wall_clock, reactor, counters):
            operations.add(operation)
        parts.configured = configured_operations(parts, settings, state)
        for operation in parts.configured:
            operations.add(operation)
        outbox.journal.subscribe(parts.take_up_interrupted)
    return parts


def build_outbox(
    settings: AgentSettings, reactor: Any, wall_clock: IWallClock, counters: ICounters
) -> Outbox:
    """The outbox, with its journal: on disk or in memory."""
    return make_outbox(settings.outbox, reactor, wall_clock, counters)


def build_dating(wall_clock: IWallClock, must_sync: Callable[[], bool]) -> Dating:
    """What knows whether the time of day of this machine can be believed."""
    machine = Uptime(this_machine().boot_id or os.urandom(8).hex(), since_boot_s)
    return Dating(wall_clock, machine.boot_id, machine.now_ms, BUILT_MS, must_sync, is_synchronised)


def undated_path(settings: OutboxSettings) -> Path | None:
    """Where readings wait for the right time: beside the outbox. None for memory."""
    if settings.kind is not OutboxKind.DURABLE:
        return None
    path = settings.path
    return path.with_name(f"{path.stem}-undated{path.suffix}")


def event_content_type(settings: AgentSettings) -> ContentType:
    """The format of telemetry: the dispatcher's own, else the connector's."""
    return settings.dispatcher.event_content_type or settings.connector.content_type


def build_state_manager(
    settings: AgentSettings,
    host: HostDatastreams,
    events: EventDispatcher,
    reactor: Any,
    wall_clock: IWallClock,
    counters: ICounters,
    troubles: Troubles | None = None,
    dating: IDating | None = None,
) -> RealtimeStateManager | InMemoryStateManager:
    """The in-memory state manager if its file is present, else the realtime one."""
    if settings.state_manager is None:
        return RealtimeStateManager(host.access, events, reactor, troubles)
    # Imported here because most agents don't use it.
    from oda.telemetry.inmemory import InMemoryStateManager

    return InMemoryStateManager(
        reactor,
        host.access,
        host.registry,
        events,
        settings.state_manager,
        check_value,
        wall_clock,
        counters,
        boot_id=this_machine().boot_id,
        dating=dating,
    )


def standard_operations(
    settings: AgentSettings,
    state: IStateManager,
    wall_clock: IWallClock,
    reactor: Any,
    counters: ICounters,
) -> list[IOperation]:
    """The operations every agent has."""
    usual_clock = settings.dispatcher.clock_datastream
    set_clock = settings.set_clock.clock_datastream or usual_clock
    synchronized_clock = settings.synchronize_clock.clock_datastream or usual_clock

    def open_source(source: str) -> ITimeSource:
        from oda.datastreams.timesource import open_time_source  # imported late: rarely used

        return open_time_source(source, reactor)

    return [
        RefreshInfo(state, check_value, counters),
        GetDeviceParameters(state, check_value),
        SetDeviceParameters(state),
        SetClockEquipment(state, wall_clock, set_clock),
        SynchronizeClock(
            state,
            open_source,
            wall_clock,
            settings.dispatcher.time_source,
            synchronized_clock,
            settings.dispatcher.time_sources,
        ),
    ]


def configure_scripts(scripts: ScriptRunner, settings: AgentSettings) -> None:
    """Let the runner of the operations' scripts follow the settings."""
    own = settings.operations
    scripts.scripts_directory = settings.device_info.path if own.path is None else own.path
    scripts.timeout_s = own.script_timeout_s
    scripts.max_output_bytes = own.script_max_output_bytes


def configured_operations(
    parts: Parts, settings: AgentSettings, state: IStateManager
) -> list[IOperation]:
    """The operations that the configuration asks for, and DISCOVER, which lists them."""
    operations = parts.operations
    if operations is None:
        return []
    own = settings.operations
    found: list[IOperation] = [
        Discover(parts.host.registry, lambda: operations.operation_names, lambda: parts.host_id)
    ]
    if not (own.scripts or own.reboot_command or own.restart_command):
        return found
    # Imported here, as most agents have none.
    from oda.operations.restart import Surroundings, reboot_equipment, restarting_script
    from oda.operations.script_operation import ScriptOperation

    around = Surroundings(
        runner=parts.scripts,
        state=state,
        wall_clock=parts.wall_clock,
        clock=parts.reactor,
        host_id=lambda: parts.host_id,
        boot_id=lambda: this_machine().boot_id,
        script_timeout_s=own.script_timeout_s,
        restart_timeout_s=own.restart_timeout_s,
        read_after=own.read_after_restart,
        is_right=parts.undated.dating.is_right,
    )
    if own.reboot_command or own.restart_command:
        found.append(reboot_equipment(own, around))
    for script in own.scripts:
        if script.effect is ScriptEffect.NONE:
            found.append(ScriptOperation(script, parts.scripts, around.host_id))
        else:
            found.append(restarting_script(script, around))
    return found


def _only(components: Iterable[object], interface: Any) -> Any:
    """The one component that provides ``interface``, None if there is none."""
    found = [component for component in components if interface.providedBy(component)]
    if len(found) > 1:
        names = " and ".join(repr(component) for component in found)
        raise PluginError(f"only one {interface.__name__} can be used, but there are {names}")
    return found[0] if found else None
