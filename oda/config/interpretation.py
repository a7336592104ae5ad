"""Entries of one file + its table + the environment -> values, faults and notes. Pure."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

from oda.config.components import COMPONENTS
from oda.config.keys import Component, Key, Lines, Section, suggest
from oda.config.parsers import without_comment
from oda.config.properties import Entry, Properties
from oda.errors import Fault

#: How long the list of allowed keys may make a text, in characters.
MAX_PROBLEM = 480
#: The "file" of a fault in an environment variable.
ENVIRONMENT = "environment"
_DIGITS = re.compile(r"[0-9]{1,18}")
#: Keys that Java's configuration service writes into files.
_BOOKKEEPING = frozenset(("service.pid", "service.bundleLocation", "felix.fileinstall.filename"))


@dataclass(frozen=True)
class Place:
    """Where a value came from, for a fault that is found later."""

    file: str
    line: int
    key: str

    def fault(self, problem: str) -> Fault:
        return Fault(self.file, self.line, self.key, problem)


@dataclass(frozen=True)
class Override:
    """A value from elsewhere that counts instead of the file's."""

    key: Key
    value: str
    place: Place


@dataclass
class Interpretation:
    """The content of one file. ``values`` are by key name, and ``places`` say where each stands.
    ``failed`` are keys whose value was refused: they are present, but have no value."""

    component: Component
    file: str
    exists: bool
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    lines: list[Any] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool:
        """Whether the key is present, with a right or a wrong value."""
        return name in self.places

    def reject(self, name: str, problem: str) -> None:
        """Report a fault at the place of that key (or of the file, if the key is absent)."""
        place = self.places.get(name, Place(self.file, 0, name))
        self.faults.append(place.fault(problem))
        self.failed.add(name)

    def fields(self, section: Section) -> dict[str, Any]:
        """The arguments for the section's settings class; absent keys have their defaults."""
        return {key.field: self.values[key.name] for key in section.keys if key.name in self.values}


def interpret(
    component: Component,
    file: str,
    properties: Properties | None,
    environ: Mapping[str, str],
    directory: Path,
    lookalike: str = "",
    overrides: Iterable[Override] = (),
) -> Interpretation:
    """Read every entry by the component's table. ``properties`` None: there is no such file, but
    perhaps a ``lookalike`` of it. ``overrides`` count instead of the file's entries, and the
    environment instead of both. Relative paths of anchored keys start at ``directory``.

    Never raises: ``faults`` holds everything that is wrong, and the rest has been read.
    """
    result = Interpretation(component, file, exists=properties is not None)
    seen: dict[Hashable, int] = {}
    if properties is not None:
        result.faults.extend(properties.faults)
        result.warnings.extend(
            str(Place(file, earlier.line, earlier.key).fault(f"is replaced by line {line}"))
            for earlier, line in properties.repeated
        )
        # A line that couldn't be parsed must not lead to a second fault ("is required").
        broken = {fault.key for fault in properties.faults}
        result.failed.update(key.name for key in component.all_keys() if key.name in broken)
        for entry in properties.entries:
            _read_entry(result, entry, directory, seen)
    _override_all(result, overrides, directory)
    variables = ((key, environ.get(key.variable, "").strip()) for key in component.overridable())
    _override_all(
        result,
        [
            Override(key, value, Place(ENVIRONMENT, 0, key.variable))
            for key, value in variables
            if value
        ],
        directory,
    )
    if properties is None or properties.readable:
        _require(result, lookalike)
    return result


def _read_entry(
    result: Interpretation, entry: Entry, directory: Path, seen: dict[Hashable, int]
) -> None:
    component = result.component
    place = Place(result.file, entry.line, entry.key)
    key = component.key(entry.key)
    if key is not None:
        if key.name in result.places:
            first = result.places[key.name]
            if first.key != entry.key and _says_the_same(result, key, entry.value):
                return
            problem = f"is another name of {first.key} in line {first.line}: remove one of the two"
            result.faults.append(place.fault(problem))
            return
        result.places[key.name] = place
        _read_value(result, key, entry.value, directory)
    elif entry.key in component.ignored:
        reason = component.ignored[entry.key]
        result.notes.append(str(place.fault(f"accepted and ignored: {reason}")))
    elif entry.key in _BOOKKEEPING:
        result.notes.append(str(place.fault("accepted and ignored: Java's own bookkeeping")))
    elif component.lines is None:
        _report_unknown(result, component, place)
    else:
        _read_line(result, component.lines, entry, place, seen)


def _says_the_same(result: Interpretation, key: Key, value: str) -> bool:
    """Whether ``value``, under another spelling of the key, repeats the value already read."""
    try:
        parsed = key.parser.parse(value)
    except ValueError:
        return False
    return key.name in result.values and bool(result.values[key.name] == parsed)


def _report_unknown(result: Interpretation, component: Component, place: Place) -> None:
    """A key that is probably misspelt or misplaced is a fault, because what it asks for would not
    happen. Any other belongs to another version of ODA, which skips keys that it does not know."""
    names = sorted(key.name for key in component.all_keys())
    elsewhere = _belongs_elsewhere(place.key)
    near = suggest(place.key, names, cutoff=0.7)
    if elsewhere or (near and _is_misspelt(place.key, near)):
        problem = elsewhere or f"unknown key, did you mean {near}?"
        result.faults.append(place.fault(problem))
        return
    hint = f"did you mean {near}? " if near else ""
    text = f"unknown key, ignored; {hint}allowed: " + ", ".join(names)
    problem = shorten(text, MAX_PROBLEM, placeholder=" ... (all are in docs/configuration.md)")
    result.warnings.append(str(place.fault(problem)))


def _is_misspelt(name: str, near: str) -> bool:
    """Whether ``name`` can hardly be anything but ``near``: one letter more or less, or two
    swapped."""
    one, other = name.lower(), near.lower()
    return sorted(one) == sorted(other) or bool(suggest(one, [other], cutoff=0.85))


def _belongs_elsewhere(name: str) -> str:
    files = [other.file for other in COMPONENTS if other.key(name) is not None]
    return f"belongs in {' or '.join(files)}, not here" if files else ""


def _read_value(result: Interpretation, key: Key, value: str, directory: Path) -> None:
    place = result.places[key.name]
    if not key.parser.free:
        bare = without_comment(value)
        if bare != value:
            problem = "the text from '#' on is not part of the value; comments need their own line"
            result.warnings.append(str(place.fault(problem)))
            value = bare
    if not value and key.empty_is_absent:
        del result.places[key.name]
        result.notes.append(str(place.fault("is empty: the line is ignored")))
        return
    if not value:
        result.reject(key.name, f"is empty; allowed: {key.parser.allowed}, or remove the line")
        return
    if key.off is not None and _DIGITS.fullmatch(value) and not 0 < int(value) <= key.off:
        # Existing files use such values to turn the feature off, or nearly off.
        text = "0 does not turn it off:" if not int(value) else "exceeds the maximum:"
        problem = f"{text} the agent uses {key.off:g} {key.parser.unit}"
        result.warnings.append(str(place.fault(problem)))
        result.values[key.name] = key.off
        return
    try:
        parsed = key.parser.parse(value)
    except ValueError as error:
        result.reject(key.name, str(error))
        return
    result.values[key.name] = directory / parsed if key.parser.anchored else parsed


def _read_line(
    result: Interpretation,
    lines: Lines,
    entry: Entry,
    place: Place,
    seen: dict[Hashable, int],
) -> None:
    names = [key.name for key in result.component.all_keys()]
    near = "" if lines.unmistakable(entry.key, entry.value) else suggest(entry.key, names)
    if near:
        result.faults.append(place.fault(f"unknown key, did you mean {near}?"))
        return
    if not entry.value and lines.empty_is_absent:
        place = Place(place.file, place.line, _without_secret(result.component, entry.key))
        result.warnings.append(str(place.fault("has no value: the line is ignored")))
        return
    value = entry.value if lines.free else without_comment(entry.value)
    if value != entry.value:
        problem = "the text from '#' on is not part of the value; comments need their own line"
        result.warnings.append(str(place.fault(problem)))
    try:
        if entry.key in lines.renamed:
            name = lines.renamed[entry.key]
            line = lines.read(name, f"{value};")
            result.notes.append(str(place.fault(f"read as the script of {name}")))
        else:
            line = lines.read(entry.key, value)
    except ValueError as error:
        result.faults.append(place.fault(_belongs_elsewhere(entry.key) or str(error)))
        return
    identity = lines.identity(line)
    if identity in seen:
        problem = f"is here twice, first in line {seen[identity]}: remove one of the two lines"
        result.faults.append(place.fault(problem))
        return
    seen[identity] = entry.line
    result.lines.append(line)


def _without_secret(component: Component, name: str) -> str:
    """The name of a line without a value, as it may be shown. If the separator was lost, the name
    of a secret and the secret itself are in it."""
    secrets = [key for key in component.all_keys() if key.parser.secret]
    names = {name.lower() for key in secrets for name in (key.name, *key.aliases)}
    is_clear = "." in name and not any(name.lower().startswith(secret) for secret in names)
    return name if is_clear or not secrets else f"{name[:6]}..."


def _override_all(result: Interpretation, overrides: Iterable[Override], directory: Path) -> None:
    """Let the overrides, which come from one place, override the file. A fault of the file's value
    stays, as it is still wrong. Where the place gives a key and its alternative, both stay, to be
    refused."""
    overrides = tuple(overrides)
    for one in overrides:
        key = one.key
        for name in {key.name, key.alternative, *_alternatives(result.component, key)} - {""}:
            result.values.pop(name, None)
            result.places.pop(name, None)
            result.failed.discard(name)
    for one in overrides:
        result.places[one.key.name] = one.place
        _read_value(result, one.key, one.value, directory)


def _alternatives(component: Component, key: Key) -> set[str]:
    return {other.name for other in component.all_keys() if other.alternative == key.name}


def _require(result: Interpretation, lookalike: str) -> None:
    for section in result.component.sections:
        for key in section.keys:
            names = {key.name, key.alternative}
            if not section.requires(key) or names & (result.failed | result.places.keys()):
                continue
            ways = [key.name, *([key.alternative] if key.alternative else [])]
            if result.component.environment and key.environment:
                ways.append(f"the environment variable {key.variable}")
            problem = f"is required: give {' or '.join(ways)} ({key.parser.allowed})"
            if not result.exists:
                meant = f" (is {lookalike} meant to be it?)" if lookalike else ""
                problem += f"; the file does not exist{meant}"
            result.faults.append(Fault(result.file, 0, key.name, problem))
