"""The installer of this agent's own .cfg files.

All files of an update are judged together, as the configuration that they would make, before any of
them is touched. Then they are replaced as any other file is. They are in force once the agent has
read them again: ``activate`` waits for that, and fails where the agent goes on with the
configuration before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from zope.interface import implementer

from oda.config.components import COMPONENTS, FILES, UPDATE
from oda.config.connection import PREFIX
from oda.config.files import SUFFIX
from oda.config.loader import load
from oda.config.update import ALL_FILES
from oda.errors import ConfigurationError, InvalidParameter, OperationFailed, OperationNotSupported
from oda.interfaces import IInstaller
from oda.model import DeploymentElement, ElementOperation
from oda.settings import AgentSettings
from oda.update import files as places
from oda.update.files import InThread
from oda.update.places import Place, find_place

_KEY = "updateConfiguration"
_TYPE = "CONFIGURATION"
_NAMES = frozenset({*FILES, *(name for one in COMPONENTS for name in one.variants)})
#: So many faults are told.
_MAX_FAULTS = 5


class LiveConfiguration(NamedTuple):
    """The directory that the agent was started with, and how to have it read again. ``in_force``
    gives the settings that the agent follows."""

    directory: Path
    environ: Mapping[str, str]
    reload: Callable[[], Deferred[None]]
    in_force: Callable[[], AgentSettings]


@implementer(IInstaller)
class ConfigurationInstaller:
    """Installs the files that ``allowed()`` names. ``live()`` is None where the agent was given its
    settings by a program. ``is_changing``: some files are new, others may still be replaced; the
    agent reads none of them before ``activate``."""

    name = "configuration"
    is_changing = False

    def __init__(
        self,
        allowed: Callable[[], Sequence[str]],
        live: Callable[[], LiveConfiguration | None],
        in_thread: InThread,
    ) -> None:
        self._allowed = allowed
        self._live = live
        self._in_thread = in_thread

    def claims(self, element: DeploymentElement) -> bool:
        return element.type == _TYPE and "/" not in element.path and bool(_file_of(element))

    def check(self, element: DeploymentElement) -> Any:
        name, allowed = _file_of(element), self._allowed()
        if name not in _NAMES:
            raise InvalidParameter("path", f"{name[:100]} is no file that this agent reads")
        if name == UPDATE.file:
            raise OperationNotSupported(f"an update never replaces {name}")
        if name not in allowed and ALL_FILES not in allowed:
            raise OperationNotSupported(f"{_KEY} does not name {name}")
        is_removal = element.operation is ElementOperation.UNINSTALL
        return self._in_thread(places.check, self._place(element), is_removal)

    def validate(self, elements: Sequence[DeploymentElement], files: Sequence[Path | None]) -> None:
        live = self._configuration()
        instead = {_file_of(one): file for one, file in zip(elements, files, strict=True)}
        if len(instead) != len(elements):
            raise InvalidParameter("path", "two elements are one file of the configuration")
        try:
            load(live.directory, live.environ, instead)
        except ConfigurationError as error:
            shown = "; ".join(str(fault) for fault in error.faults[:_MAX_FAULTS])
            raise OperationFailed(f"the configuration would have faults: {shown}") from None

    def backup(self, element: DeploymentElement) -> Any:
        return self._in_thread(places.backup, self._place(element))

    def install(self, element: DeploymentElement, file: Path | None, note: Any) -> Any:
        self.is_changing = True
        # It may hold a secret.
        return self._in_thread(places.install, self._place(element), file, 0, 0o600)

    async def activate(self) -> None:
        live = self._configuration()
        self.is_changing = False
        await live.reload()
        try:
            wanted = load(live.directory, live.environ).settings
        except ConfigurationError as error:
            raise OperationFailed(f"the configuration has faults: {error.faults[0]}") from None
        if live.in_force() != wanted:
            raise OperationFailed("the agent can't apply the new configuration; its log says why")

    def restore(self, element: DeploymentElement, note: Any) -> Any:
        self.is_changing = True
        return self._in_thread(places.restore, self._place(element), note)

    def release(self, element: DeploymentElement, note: Any) -> Any:
        return self._in_thread(places.release, self._place(element))

    def _configuration(self) -> LiveConfiguration:
        live = self._live()
        if live is None:
            raise OperationNotSupported("this agent has its configuration from a program")
        return live

    def _place(self, element: DeploymentElement) -> Place:
        return place_of(self._configuration().directory, element)


def place_of(directory: Path, element: DeploymentElement) -> Place:
    """Where the file of an element is."""
    return find_place((directory.absolute(),), _file_of(element), _KEY)


def _file_of(element: DeploymentElement) -> str:
    """The name of the .cfg file, from the path or else the name of the element; "" where neither is
    one."""
    given = element.path or element.name
    if given.endswith(SUFFIX) and "/" not in given:
        return given
    return f"{PREFIX}{given}{SUFFIX}" if f"{PREFIX}{given}{SUFFIX}" in _NAMES else ""
