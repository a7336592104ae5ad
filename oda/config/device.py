"""``device.cfg``: what is this device's own, beside files that a whole fleet has in common. Pure.

The file has keys of several components. It may hold those keys that also have an environment
variable. A key here counts instead of the one in the component's file, and the environment's
variable counts instead of both.
"""

from __future__ import annotations

from oda.config.components import COMPONENTS
from oda.config.interpretation import Override, Place
from oda.config.keys import Component, Key, suggest
from oda.config.properties import Entry, Properties
from oda.errors import Fault

DEVICE_FILE = "device.cfg"

#: The values of the file, by the file of the component that they belong to.
Overrides = dict[str, tuple[Override, ...]]


def read_device(file: str, properties: Properties) -> tuple[Overrides, list[Fault]]:
    """The values of the device file, and what is wrong with its lines. Values are judged later,
    with the component's own."""
    faults = list(properties.faults)
    # No file of ODA is read here, so no deployment relies on a key that is there twice.
    for earlier, line in properties.repeated:
        problem = f"is here twice, again in line {line}: remove one of the two lines"
        faults.append(Fault(file, earlier.line, earlier.key, problem))
    found: dict[str, list[Override]] = {}
    seen: dict[str, Entry] = {}
    for entry in properties.entries:
        place = Place(file, entry.line, entry.key)
        owner = _find(entry.key)
        if owner is None:
            faults.append(place.fault(_why_not(entry.key)))
            continue
        component, key = owner
        if key.name in seen:
            first = seen[key.name]
            problem = f"says the same as {first.key} in line {first.line}: remove one of the two"
            faults.append(place.fault(problem))
            continue
        seen[key.name] = entry
        found.setdefault(component.file, []).append(Override(key, entry.value, place))
    return {name: tuple(overrides) for name, overrides in found.items()}, faults


def _find(name: str) -> tuple[Component, Key] | None:
    for component in COMPONENTS:
        for key in component.overridable():
            if name == key.name or name in key.aliases:
                return component, key
    return None


def _why_not(name: str) -> str:
    """Why the file can't hold a key of that name."""
    for component in COMPONENTS:
        if component.key(name) is not None:
            return f"can't be a device's own; it belongs in {component.file}"
    names = [key.name for component in COMPONENTS for key in component.overridable()]
    if near := suggest(name, names):
        return f"unknown key, did you mean {near}?"
    return "unknown key; allowed: the keys that have a variable in docs/configuration.md"
