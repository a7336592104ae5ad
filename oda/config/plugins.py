"""The plugins file: ``plugins=a,b`` and ``<plugin>.<option>=value``. Pure."""

from __future__ import annotations

from oda.config.keys import suggest
from oda.config.properties import Entry, Properties
from oda.errors import Fault
from oda.settings import PluginSettings

LIST_KEY = "plugins"


def read_plugins(
    file: str, properties: Properties
) -> tuple[tuple[PluginSettings, ...], list[Fault]]:
    """The plugins to load, in the order of the list, and what is wrong."""
    faults = list(properties.faults)
    # ODA doesn't have this file, so no deployment relies on a key that is there twice.
    for earlier, line in properties.repeated:
        problem = f"is here twice, again in line {line}: remove one of the two lines"
        faults.append(Fault(file, earlier.line, earlier.key, problem))
    names: list[str] = []
    options: dict[str, dict[str, str]] = {}
    others: list[Entry] = []
    for entry in properties.entries:
        if entry.key == LIST_KEY:
            names = _read_names(file, entry, faults)
        else:
            others.append(entry)
    for entry in others:
        owner = _owner(entry.key, names)
        if owner:
            options.setdefault(owner, {})[entry.key[len(owner) + 1 :]] = entry.value
        else:
            faults.append(Fault(file, entry.line, entry.key, _stray(entry.key, names)))
    plugins = tuple(PluginSettings(name=name, options=options.get(name, {})) for name in names)
    return plugins, faults


def _read_names(file: str, entry: Entry, faults: list[Fault]) -> list[str]:
    names: list[str] = []
    for name in (part.strip() for part in entry.value.split(",")) if entry.value else ():
        if not name:
            problem = "has an empty name between two commas"
        elif any(character.isspace() for character in name):
            problem = f"{name!a} contains a blank; separate names by commas"
        elif name in names:
            problem = f"names {name} twice"
        else:
            names.append(name)
            continue
        faults.append(Fault(file, entry.line, entry.key, problem))
    return names


def _owner(key: str, names: list[str]) -> str:
    """The plugin that an option belongs to: the longest name, as names may contain dots."""
    owners = [name for name in names if key.startswith(f"{name}.") and len(key) > len(name) + 1]
    return max(owners, key=len, default="")


def _stray(key: str, names: list[str]) -> str:
    plugin, dot, option = key.partition(".")
    near = suggest(plugin, [*names, LIST_KEY] if not dot else names)
    if near:
        return f"unknown key, did you mean {near}{dot}{option}?"
    return (
        f"belongs to no plugin; allowed: {LIST_KEY}=<names, comma-separated>, and "
        "<plugin>.<option>=<value> of a plugin named there"
    )
