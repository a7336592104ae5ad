"""A directory of .cfg files + the environment -> ``AgentSettings``, or every fault at once.

A value comes from the environment, else from the device's own file (``oda.config.device``), else
from the component's file, else it is the default."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from oda.config.checks import (
    check_connector,
    check_databases,
    check_files,
    check_permissions,
    check_update,
    check_writable,
    take_key_file,
    take_secret_files,
)
from oda.config.components import (
    COLLECTOR,
    COMPONENTS,
    DEVICE_INFO,
    DISPATCHER,
    FILES,
    MONITOR,
    OPERATIONS,
    PLUGINS_FILE,
    POLLER,
    SET_CLOCK,
    STATE_MANAGER,
    SYNCHRONIZE_CLOCK,
    UPDATE,
)
from oda.config.connection import CONNECTOR, PREFIX
from oda.config.device import DEVICE_FILE, read_device
from oda.config.files import SUFFIX, Content, list_names, read
from oda.config.interpretation import ENVIRONMENT, Interpretation, interpret
from oda.config.keys import Component, suggest
from oda.config.plugins import read_plugins
from oda.config.properties import Properties, read_properties
from oda.errors import ConfigurationError, Fault
from oda.settings import (
    AgentSettings,
    ClockOperationSettings,
    CollectorSettings,
    ConnectorSettings,
    DeviceInfoSettings,
    DispatcherSettings,
    MonitorSettings,
    OperationsSettings,
    OutboxSettings,
    PluginSettings,
    PollerSettings,
    Secret,
    StateManagerSettings,
    UpdateSettings,
)

#: Where the agent looks for its configuration if no option names a directory.
DIRECTORIES = (Path("conf"), Path("/etc/oda"))

#: The address of a service, as container platforms write it into the environment.
_SERVICE_LINK = re.compile(r"(?:tcp|udp|sctp)://\S+")


@dataclass(frozen=True)
class LoadedConfiguration:
    """Settings, and what an operator should know about their origin.

    ``read`` and ``ignored`` are file names: the files used, and those of components that this agent
    doesn't have. ``notes`` are for INFO, ``warnings`` for WARN; none of them contains a secret.
    ``digests`` belong to the files that keys name (certificates, API key). Watch these files too,
    and connect again if a digest differs although the settings are equal. ``of_device`` are the
    keys in the device's own file.
    """

    settings: AgentSettings
    directory: Path
    read: tuple[str, ...]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    digests: Mapping[Path, bytes] = field(default_factory=dict, repr=False)
    of_device: frozenset[str] = frozenset()


def find_directory(explicit: str | None, exists: Callable[[Path], bool] = Path.is_dir) -> Path:
    """The configuration directory: the given one, otherwise ./conf, otherwise /etc/oda.

    Raises ``ConfigurationError`` that says where it looked.
    """
    places = (Path(explicit),) if explicit else DIRECTORIES
    for place in places:
        try:
            if exists(place):
                return place
        except OSError as error:
            problem = f"can't reach the configuration directory: {error.strerror or error}"
            raise ConfigurationError([Fault(str(place), 0, "", problem)]) from None
    looked = " and ".join(str(place) for place in places)
    problem = "there is no such configuration directory"
    if not explicit:
        problem += f"; looked for {looked}; name another one with --conf DIR"
    raise ConfigurationError([Fault(str(places[0]), 0, "", problem)])


def read_update_settings(directory: Path) -> UpdateSettings:
    """The settings of updates alone, before the other files can be relied on. What is faulty in the
    file has its default: ``load`` reports it."""
    place = directory / UPDATE.file
    properties = _read(place, []) if place.exists() else None
    found = interpret(UPDATE, str(place), properties, {}, directory)
    return UpdateSettings(**found.fields(UPDATE.sections[0]))


def load(
    directory: Path,
    environ: Mapping[str, str],
    instead: Mapping[str, Path | None] = MappingProxyType({}),
) -> LoadedConfiguration:
    """Read and check every file. Raises ``ConfigurationError`` with the faults of all files, in the
    order of files and lines; faults of the environment come first.

    ``instead`` names, by the names of .cfg files, other files that are read in their place (None:
    as if there were none): what the configuration would be with them.
    """
    try:
        names = list_names(directory)
    except OSError as error:
        problem = f"can't read the configuration directory: {error.strerror or error}"
        raise ConfigurationError([Fault(str(directory), 0, "", problem)]) from None
    names = sorted({*names, *instead} - {name for name, other in instead.items() if other is None})
    environ, links = _without_service_links(environ)
    faults: list[Fault] = []
    variants = _find_variants(directory, names, faults)
    places = {variants.get(file, file): file for file in FILES}
    files = {
        places[name]: _read(directory / name, faults, instead.get(name))
        for name in names
        if name in places
    }
    has_device_file = DEVICE_FILE in names
    own, own_faults = read_device(
        str(directory / DEVICE_FILE),
        _read(directory / DEVICE_FILE, faults) if has_device_file else Properties((), ()),
    )
    faults.extend(fault for fault in own_faults if fault not in faults)
    known = {
        DEVICE_FILE,
        *FILES,
        *(name for component in COMPONENTS for name in component.variants),
    }
    ignored = tuple(name for name in names if name not in known)
    lookalikes = _find_lookalikes(files, ignored)
    found = {
        component.file: interpret(
            component,
            str(directory / variants.get(component.file, component.file)),
            files.get(component.file),
            environ,
            directory,
            lookalikes.get(component.file, ""),
            own.get(component.file, ()),
        )
        for component in COMPONENTS
    }
    check_connector(found[CONNECTOR.file])
    check_databases(found[CONNECTOR.file], found[STATE_MANAGER.file])
    check_update(found[UPDATE.file], found[CONNECTOR.file], directory)
    digests: dict[Path, bytes] = {}
    for interpretation in found.values():
        digests.update(check_files(interpretation, read))
    check_permissions(found[DEVICE_INFO.file], found[CONNECTOR.file], read)
    writable = check_writable(
        found[DEVICE_INFO.file],
        found[OPERATIONS.file],
        directory,
        [*(directory / name for name in names if name in (*places, DEVICE_FILE)), *digests],
        read,
    )
    faults.extend(writable[0])
    take_key_file(found[DEVICE_INFO.file], read)
    secrets = take_secret_files(found[CONNECTOR.file], read)
    plugins, plugin_faults = read_plugins(
        str(directory / PLUGINS_FILE), files.get(PLUGINS_FILE, Properties((), ()))
    )
    faults.extend(plugin_faults)
    for interpretation in found.values():
        faults.extend(interpretation.faults)
    if faults:
        raise ConfigurationError(sorted(faults, key=_position))
    warnings = [
        f"{directory / name}: ignored; is it meant to be {file}?"
        for file, name in lookalikes.items()
    ]
    warnings.extend(writable[1])
    warnings.extend(links)
    warnings.extend(_misspelt_variables(environ))
    for interpretation in found.values():
        warnings.extend(interpretation.warnings)
    return LoadedConfiguration(
        settings=_build(found, plugins, secrets),
        directory=directory,
        read=tuple(name for name in names if name in (*places, DEVICE_FILE)),
        ignored=ignored,
        notes=tuple(note for item in found.values() for note in item.notes),
        warnings=tuple(warnings),
        digests=digests,
        of_device=frozenset(one.key.name for overrides in own.values() for one in overrides),
    )


def _find_variants(directory: Path, names: list[str], faults: list[Fault]) -> dict[str, str]:
    """The file names of components whose file has another name here. Two files of one component are
    a fault, because they would contradict each other."""
    found: dict[str, str] = {}
    for component in COMPONENTS:
        present = [name for name in (component.file, *component.variants) if name in names]
        if present:
            found[component.file] = present[0]
        for name in present[1:]:
            problem = f"configures the same as {present[0]}: keep one of the two files"
            faults.append(Fault(str(directory / name), 0, "", problem))
    return found


def _read(path: Path, faults: list[Fault], instead: Path | None = None) -> Properties:
    """What is in the file at ``path``, or in another one in its place."""
    content: Content = read(instead or path)
    if content.problem:
        fault = Fault(str(path), 0, "", content.problem)
        return Properties((), (fault,), readable=False)
    return read_properties(str(path), content.data)


def _position(fault: Fault) -> tuple[bool, str, int, str]:
    return fault.file != ENVIRONMENT, fault.file, fault.line, fault.key


def _without_service_links(environ: Mapping[str, str]) -> tuple[Mapping[str, str], list[str]]:
    """The environment without the variables that a container platform sets for a service called
    oda, and a warning for each of them that has the name of one of the agent's."""
    links = {
        name: value
        for name, value in environ.items()
        if name.startswith("ODA_") and _SERVICE_LINK.fullmatch(value)
    }
    known = {key.variable for component in COMPONENTS for key in component.overridable()}
    warnings = [
        f"{ENVIRONMENT}: {name}: ignored; {value} is what a container platform sets for a"
        " service called oda (in Kubernetes, enableServiceLinks: false prevents it)"
        for name, value in sorted(links.items())
        if name in known
    ]
    return {name: value for name, value in environ.items() if name not in links}, warnings


def _misspelt_variables(environ: Mapping[str, str]) -> list[str]:
    known = {key.variable for component in COMPONENTS for key in component.overridable()}
    near = {
        name: suggest(name, known, cutoff=0.85)
        for name in sorted(environ)
        if name.startswith("ODA_") and name not in known
    }
    return [
        f"{ENVIRONMENT}: {name}: ignored; did you mean {variable}?"
        for name, variable in near.items()
        if variable
    ]


def _find_lookalikes(files: Mapping[str, Properties], ignored: tuple[str, ...]) -> dict[str, str]:
    """For each missing file of the agent: an ignored file with a name so close that it is probably
    misspelt (or made for a variant of the component)."""
    missing = {_stem(name): name for name in FILES if name not in files}
    found: dict[str, str] = {}
    for name in ignored:
        near = suggest(_stem(name), missing, cutoff=0.87)
        if near:
            found[missing[near]] = name
    return found


def _stem(file: str) -> str:
    """The part of the name that distinguishes the component from others."""
    return file.removeprefix(PREFIX).removesuffix(SUFFIX)


def _build(
    found: Mapping[str, Interpretation],
    plugins: tuple[PluginSettings, ...],
    secrets: Mapping[str, Secret],
) -> AgentSettings:
    def section(component: Component, index: int = 0) -> dict[str, Any]:
        interpretation = found[component.file]
        fields = interpretation.fields(component.sections[index])
        if component.lines is not None:
            fields[component.lines.field] = tuple(interpretation.lines)
        return fields

    state = found[STATE_MANAGER.file]
    return AgentSettings(
        connector=ConnectorSettings(**{**section(CONNECTOR), **secrets}),
        outbox=OutboxSettings(**section(CONNECTOR, 1)),
        device_info=DeviceInfoSettings(**section(DEVICE_INFO)),
        dispatcher=DispatcherSettings(**section(DISPATCHER)),
        set_clock=ClockOperationSettings(**section(SET_CLOCK)),
        synchronize_clock=ClockOperationSettings(**section(SYNCHRONIZE_CLOCK)),
        update=UpdateSettings(**section(UPDATE)),
        operations=OperationsSettings(**section(OPERATIONS)),
        poller=PollerSettings(**section(POLLER)),
        collector=CollectorSettings(**section(COLLECTOR)),
        state_manager=StateManagerSettings(**section(STATE_MANAGER)) if state.exists else None,
        monitor=MonitorSettings(**section(MONITOR)),
        plugins=plugins,
    )
