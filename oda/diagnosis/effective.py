"""The settings in force, by the names of their keys, with everything secret masked. Pure.

The options of a plugin and the command of a script may hold secrets that nothing can recognise, so
these are masked, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from oda.config.components import COMPONENTS, DEVICE_INFO, PLUGINS_FILE, STATE_MANAGER
from oda.config.device import DEVICE_FILE
from oda.config.keys import Component
from oda.config.lines import LOG_PREFIX
from oda.settings import (
    AgentSettings,
    ComponentLogLevel,
    OutboxSettings,
    Schedule,
    ScriptEffect,
    ScriptOperationSettings,
    ScriptSettings,
    Secret,
)

MASK = "***"
#: The part of the settings that each file fills (the connector's file fills two).
_PARTS = {
    component.file: part
    for component, part in zip(
        COMPONENTS,
        (
            "connector",
            "device_info",
            "dispatcher",
            "set_clock",
            "synchronize_clock",
            "update",
            "operations",
            "poller",
            "collector",
            "state_manager",
            "monitor",
        ),
        strict=True,
    )
}


class Effective:
    """One key and its value, as they would stand in the file; ``is_default``: no file sets it."""

    __slots__ = ("file", "is_default", "key", "value")

    def __init__(self, file: str, key: str, value: str | None, is_default: bool = False) -> None:
        self.file = file
        self.key = key
        self.value = value
        self.is_default = is_default


def effective(settings: AgentSettings) -> Iterator[Effective]:
    """Every key of every file. A value of None means that the key has neither value nor default."""
    for component in COMPONENTS:
        part = getattr(settings, _PARTS[component.file])
        if part is None and component is STATE_MANAGER:
            continue  # without its file the other state manager is used
        yield from _keys(component, part, settings.outbox)
        if component.lines is not None:
            for line in getattr(part, component.lines.field):
                yield Effective(component.file, *_line(line))
    if settings.plugins:
        names = ",".join(plugin.name for plugin in settings.plugins)
        yield Effective(PLUGINS_FILE, "plugins", names)
    for plugin in settings.plugins:
        for option in plugin.options:
            yield Effective(PLUGINS_FILE, f"{plugin.name}.{option}", MASK)


def _keys(component: Component, part: Any, outbox: OutboxSettings) -> Iterator[Effective]:
    for section in component.sections:
        holder = outbox if section.settings is OutboxSettings else part
        for key in section.keys:
            value = getattr(holder, key.field)
            is_default = not section.requires(key) and value == section.default(key)
            shown = MASK if key.parser.masked and value is not None else _shown(value)
            yield Effective(component.file, key.name, shown, is_default)


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or None
    return str(value)


def _line(
    line: Schedule | ScriptSettings | ScriptOperationSettings | ComponentLogLevel,
) -> tuple[str, str]:
    if isinstance(line, Schedule):
        target = f"{line.datastream_id};{line.device_pattern}".removesuffix(";")
        text = f"{line.first_s:.10g};{line.period_s:.10g}"
        if (change := line.on_change) is not None:
            text += f";onChange;deadband={change.deadband:.10g}"
            text += f";maxSilence={change.max_silence_s:.10g}"
        return target, text
    if isinstance(line, ScriptSettings):
        return line.datastream_id, f"{MASK};{line.value_type.value}"
    if isinstance(line, ScriptOperationSettings):
        options = [] if line.effect is ScriptEffect.NONE else [line.effect.value]
        options += ["DEVICES"] if line.serves_devices else []
        return line.name, ";".join([MASK, *options])
    return LOG_PREFIX + line.component, line.level.value


def render_settings(settings: AgentSettings) -> str:
    """The settings for people: the set values, then the defaults, file by file."""
    lines: list[str] = []
    by_file: dict[str, list[Effective]] = {}
    for item in effective(settings):
        by_file.setdefault(item.file, []).append(item)
    for file, items in by_file.items():
        lines.append(f"[{file}]")
        lines += [f"  {i.key}={i.value}" for i in items if not i.is_default]
        lines += [
            f"  {i.key}={i.value} (default)" for i in items if i.is_default and i.value is not None
        ]
    return "\n".join(lines) + "\n"


def settings_document(settings: AgentSettings) -> dict[str, dict[str, str | None]]:
    """The settings for programs: file -> key -> value as text."""
    files: dict[str, dict[str, str | None]] = {}
    for item in effective(settings):
        files.setdefault(item.file, {})[item.key] = item.value
    return files


def key_source(
    settings: AgentSettings, environ: Mapping[str, str], of_device: Collection[str] = ()
) -> str:
    """Where the API key came from, in words. ``of_device``: the keys in the device's own file."""
    for name in ("apiKey", "apiKeyFile"):
        key = DEVICE_INFO.key(name)
        if key is not None and environ.get(key.variable):
            return f"the environment ({key.variable})"
    file: Path | None = settings.device_info.api_key_file
    if file is not None:
        return f"the file {file}"
    return f"apiKey in {DEVICE_FILE if 'apiKey' in of_device else DEVICE_INFO.file}"
