"""Which installer an element gets: those of plugins are asked first, then the agent's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oda.boundary import foreign_code
from oda.errors import OperationFailed, OperationNotSupported, PluginError
from oda.model import DeploymentElement


class Installers:
    """``own`` are the agent's, in the order in which they are asked."""

    def __init__(self, own: Sequence[Any]) -> None:
        self._own = tuple(own)
        self._added: list[Any] = []

    @property
    def has_added(self) -> bool:
        """Whether there is one of a plugin."""
        return bool(self._added)

    def add(self, installer: Any) -> None:
        """Ask one more. Raises ``PluginError`` where its name is taken, or none."""
        name = installer.name
        if not isinstance(name, str) or not name:
            raise PluginError(f"the installer {installer!r} has no name")
        if any(one.name == name for one in (*self._own, *self._added)):
            raise PluginError(f"there are two installers with the name {name!r}")
        self._added.append(installer)

    def remove(self, installer: Any) -> None:
        """Ask it no more."""
        self._added = [one for one in self._added if one is not installer]

    def for_element(self, element: DeploymentElement) -> Any:
        """The one that claims the element. Raises ``OperationNotSupported``."""
        for installer in (*self._added, *self._own):
            with foreign_code:
                claims = installer.claims(element)
            if claims:
                return installer
        raise OperationNotSupported(
            f"nothing installs {element.label}: an element of the type {element.type} needs a path"
        )

    def named(self, name: str) -> Any:
        """The one of that name. Raises ``OperationFailed``."""
        for installer in (*self._added, *self._own):
            if installer.name == name:
                return installer
        raise OperationFailed(f"the installer {name!r} is not there any more")
