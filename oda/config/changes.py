"""The difference between two settings: what a reload must change, and what it must leave alone.

Pure. Schedules and scripts are compared line by line, so that a timer that stays in the
configuration keeps its phase; everything else is compared field by field.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, fields
from typing import Generic, TypeVar

import msgspec

from oda.settings import AgentSettings, PluginSettings, Schedule, ScriptSettings

Line = TypeVar("Line", bound=Hashable)

#: Fields of the connector that decide where it connects and as whom. A change of another field
#: takes effect without a new connection, or with the next one.
RECONNECT_FIELDS = frozenset(
    {
        "host",
        "port",
        "path",
        "secure",
        "ca_file",
        "cert_file",
        "key_file",
        "key_passphrase_file",
        "key_passphrase",
        "skip_verify",
        "auth",
        "origin",
        "proxy_host",
        "proxy_port",
        "proxy_user",
        "proxy_password_file",
        "proxy_password",
    }
)
#: Fields of the device info that make a new identity.
IDENTITY_FIELDS = frozenset({"device_id", "api_key"})
SERIAL_NUMBER = "device.serialNumber"


@dataclass(frozen=True)
class LineChanges(Generic[Line]):
    """Lines of a file. A line whose value changed is removed and added."""

    added: tuple[Line, ...] = ()
    removed: tuple[Line, ...] = ()
    kept: tuple[Line, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


@dataclass(frozen=True)
class Changes:
    """What changed; falsy when nothing did.

    ``connector``, ``outbox``, ``device_info``, ``dispatcher``, ``state_manager``, ``monitor``,
    ``clock_operations`` and ``update`` are the names of the changed settings fields (without
    ``schedules`` and ``scripts``).
    ``reconnect`` holds the fields of connector and device info that require a new connection; if it
    is empty, the connection stays. ``state_manager_replaced``: the file was added or removed, which
    requires the other kind of manager.
    """

    connector: frozenset[str]
    outbox: frozenset[str]
    device_info: frozenset[str]
    dispatcher: frozenset[str]
    state_manager: frozenset[str]
    state_manager_replaced: bool
    reconnect: frozenset[str]
    scripts: LineChanges[ScriptSettings]
    dispatcher_schedules: LineChanges[Schedule]
    poller_schedules: LineChanges[Schedule]
    collector_schedules: LineChanges[Schedule]
    plugins_added: tuple[PluginSettings, ...]
    plugins_removed: tuple[PluginSettings, ...]
    monitor: frozenset[str] = frozenset()
    clock_operations: frozenset[str] = frozenset()
    update: frozenset[str] = frozenset()
    operations: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))

    def components(self) -> tuple[str, ...]:
        """The names of the components that changed, for a log line."""
        changed = {
            "connector": self.connector,
            "outbox": self.outbox,
            "device info": self.device_info or self.scripts,
            "dispatcher": self.dispatcher or self.dispatcher_schedules,
            "clock operations": self.clock_operations,
            "update": self.update,
            "operations by script": self.operations,
            "poller": self.poller_schedules,
            "collector": self.collector_schedules,
            "state manager": self.state_manager or self.state_manager_replaced,
            "monitor": self.monitor,
            "plugins": self.plugins_added or self.plugins_removed,
        }
        return tuple(name for name, change in changed.items() if change)


def difference(old: AgentSettings, new: AgentSettings) -> Changes:
    """What has to be done to an agent that runs with ``old`` so that it runs with ``new``."""
    connector = _changed(old.connector, new.connector)
    device_info = _changed(old.device_info, new.device_info) - {"scripts"}
    scripts = _compare(old.device_info.scripts, new.device_info.scripts)
    both = old.state_manager is not None and new.state_manager is not None
    return Changes(
        connector=connector,
        outbox=_changed(old.outbox, new.outbox),
        device_info=device_info,
        dispatcher=_changed(old.dispatcher, new.dispatcher) - {"schedules"},
        state_manager=_changed(old.state_manager, new.state_manager) if both else frozenset(),
        state_manager_replaced=(old.state_manager is None) != (new.state_manager is None),
        reconnect=(connector & RECONNECT_FIELDS)
        | (device_info & IDENTITY_FIELDS)
        | _changed_serial_number(new, scripts, device_info),
        scripts=scripts,
        dispatcher_schedules=_compare(old.dispatcher.schedules, new.dispatcher.schedules),
        poller_schedules=_compare(old.poller.schedules, new.poller.schedules),
        collector_schedules=_compare(old.collector.schedules, new.collector.schedules),
        plugins_added=_without(new.plugins, old.plugins),
        plugins_removed=_without(old.plugins, new.plugins),
        monitor=_changed(old.monitor, new.monitor),
        clock_operations=_changed(old.set_clock, new.set_clock)
        | _changed(old.synchronize_clock, new.synchronize_clock),
        update=_changed(old.update, new.update),
        operations=_changed(old.operations, new.operations),
    )


def _changed(old: msgspec.Struct | None, new: msgspec.Struct | None) -> frozenset[str]:
    if old is None or new is None:
        return frozenset()
    before, after = msgspec.structs.asdict(old), msgspec.structs.asdict(new)
    return frozenset(name for name in after if before[name] != after[name])


def _changed_serial_number(
    new: AgentSettings, scripts: LineChanges[ScriptSettings], device_info: frozenset[str]
) -> frozenset[str]:
    """Without a device id, the serial number is the identity, and a script may provide it: the
    script of its line, or the usual one in the scripts' directory."""
    touched = {script.datastream_id for script in (*scripts.added, *scripts.removed)}
    if new.device_info.device_id is None and (SERIAL_NUMBER in touched or "path" in device_info):
        return frozenset({"device_id"})
    return frozenset()


def _compare(old: Iterable[Line], new: Iterable[Line]) -> LineChanges[Line]:
    before, after = dict.fromkeys(old), dict.fromkeys(new)
    return LineChanges(
        added=tuple(line for line in after if line not in before),
        removed=tuple(line for line in before if line not in after),
        kept=tuple(line for line in after if line in before),
    )


def _without(
    plugins: Iterable[PluginSettings], others: tuple[PluginSettings, ...]
) -> tuple[PluginSettings, ...]:
    return tuple(plugin for plugin in plugins if plugin not in others)
