"""An installation of the Java ODA: where its parts are, and what happens to each.

This module looks only at names and at the first bytes of files. It writes nothing, and returns no
content of a configuration file, because that may hold the API key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from oda.config.connection import PREFIX
from oda.config.files import SUFFIX
from oda.errors import ConfigurationError, Fault
from oda.wording import counted

#: Directories of the files in an installation, the usual name first.
_DIRECTORIES = ("configuration", "conf")
#: A directory with more entries than this is not an installation; the rest is ignored.
_MAX_ENTRIES = 2000

#: What replaces a component without a counterpart here, by the start of its name; the first match
#: counts.
_WITHOUT_COUNTERPART = (
    ("connector.", "this agent's connector is WebSocket"),
    ("statemanager.realtime", "the agent works like that without a statemanager.inmemory file"),
    ("ruleengine", "a plugin replaces rules (docs/extending.md)"),
    ("operation.", "a plugin with an IOperation replaces it (docs/extending.md)"),
    ("datastreams.", "a plugin, a script or 'oda send' replaces it (docs/readings.md)"),
    ("comms.", "a plugin, a script or 'oda send' replaces it (docs/readings.md)"),
    ("hardware.", "a plugin, a script or 'oda send' replaces it (docs/readings.md)"),
)
_OTHER_COMPONENT = "this agent has no such component; the others work without it"


class Installation(NamedTuple):
    """``root`` is ODA's working directory, where its relative paths start. ``is_whole``: everything
    in it belongs to ODA."""

    root: Path
    configuration: Path
    is_whole: bool


class Left(NamedTuple):
    """Something that the agent leaves alone, with the reason."""

    name: str
    reason: str


def find_installation(directory: Path) -> Installation:
    """The installation around ``directory``, which is its root or its configuration directory.

    Raises ``ConfigurationError`` if there is no file of a component.
    """
    try:
        if _has_components(directory):
            if directory.absolute().name in _DIRECTORIES:
                return Installation(directory.absolute().parent, directory, is_whole=True)
            return Installation(directory, directory, is_whole=False)
        for name in _DIRECTORIES:
            if _has_components(directory / name):
                return Installation(directory, directory / name, is_whole=True)
    except OSError as error:
        problem = f"can't read the directory: {error.strerror or error}"
        where = str(error.filename or directory)
        raise ConfigurationError([Fault(where, 0, "", problem)]) from None
    places = " nor in ".join(("here", *(f"{name}/" for name in _DIRECTORIES)))
    problem = f"there is no file {PREFIX}*{SUFFIX} {places}: name the directory that has them"
    raise ConfigurationError([Fault(str(directory), 0, "", problem)])


def _has_components(directory: Path) -> bool:
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return any(name.startswith(PREFIX) and name.endswith(SUFFIX) for name in names)


def why_ignored(file: str) -> str:
    """Why the agent ignores the file of another component, and what replaces it."""
    stem = file.removeprefix(PREFIX).removesuffix(SUFFIX)
    if not file.startswith(PREFIX):
        return "it belongs to no component of ODA"
    for beginning, reason in _WITHOUT_COUNTERPART:
        if stem.startswith(beginning):
            return reason
    return _OTHER_COMPONENT


def is_derby(path: Path) -> bool:
    """Whether there is a Derby database, in which today's ODA keeps its values."""
    return path.is_dir() and (path / "service.properties").is_file()


def left_alone(installation: Installation, used: Sequence[Path]) -> Iterator[Left]:
    """Everything in the installation that the agent doesn't use, sorted by name. ``used`` are files
    and directories that are reported elsewhere."""
    known = {path.absolute() for path in (installation.configuration, *used)}
    places = [installation.configuration]
    if installation.is_whole:
        places.insert(0, installation.root)
    for place in places:
        for entry in _entries(place):
            is_component = entry.name.endswith(SUFFIX) and place == installation.configuration
            if entry.absolute() in known or entry.name.startswith(".") or is_component:
                continue
            shown = entry.relative_to(installation.root)
            try:
                reason = _reason(entry)
            except OSError as error:
                reason = f"can't be examined: {error.strerror or error}"
            yield Left(f"{shown}/" if entry.is_dir() else str(shown), reason)


def _entries(place: Path) -> list[Path]:
    try:
        return sorted(entry for entry, _ in zip(place.iterdir(), range(_MAX_ENTRIES), strict=False))
    except OSError:
        return []


def _reason(entry: Path) -> str:
    name = entry.name.lower()
    if entry.is_dir():
        if is_derby(entry):
            return "a Derby database, in which ODA keeps its values"
        if _has_components(entry):
            return "also has files of ODA's components; name it if ODA reads this one"
        jars = sum(1 for one in _entries(entry) if one.name.endswith(".jar"))
        if jars or name in ("bundle", "bundles", "felix-cache"):
            return counted(jars, "Java bundle") if jars else "the Java framework's own directory"
        if any(one.name.endswith(".js") for one in _entries(entry)):
            return "rules: a plugin replaces them (docs/extending.md)"
        return "nothing in it is used"
    if name.startswith("logback"):
        return "the log is configured in es.amplia.oda.monitor.cfg"
    if name in ("config.properties", "system.properties") or name.endswith(".jar"):
        return "part of the Java framework"
    return "not used"
