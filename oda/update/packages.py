"""The installer of packages: runs the commands of the configuration.

A package is an element of the type SOFTWARE or FIRMWARE without ``path``. What was there before is
its version, as ``packageVersion`` writes it, alone or after dpkg's state of the package;
``packageRestore`` has to be able to install that one again. After each command the version is asked
for: a command that ends well and has done nothing has failed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zope.interface import implementer

from oda.errors import InvalidParameter, OperationFailed, OperationNotSupported
from oda.interfaces import IInstaller
from oda.model import DeploymentElement, ElementOperation
from oda.settings import UpdateSettings
from oda.update.commands import CommandRunner, Ended, fill_in

_TYPES = ("SOFTWARE", "FIRMWARE")
#: No package manager takes it for an option, an address, or (as apt does with a ``-`` at the end)
#: for an order of another kind.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._+-]*[A-Za-z0-9+])?")

#: The states of dpkg (``db:Status-Status``).
_ABSENT = frozenset({"not-installed", "config-files"})
_PRESENT = frozenset({"installed", "triggers-awaited", "triggers-pending"})
_PARTLY = frozenset({"half-installed", "unpacked", "half-configured"})


@implementer(IInstaller)
class PackageInstaller:
    """Installs packages by the commands in ``settings()``."""

    name = "packages"

    def __init__(self, settings: Callable[[], UpdateSettings], runner: CommandRunner) -> None:
        self._settings = settings
        self._runner = runner

    def claims(self, element: DeploymentElement) -> bool:
        return not element.path and element.type in _TYPES

    async def check(self, element: DeploymentElement) -> None:
        if self._settings().package_install is None:
            raise OperationNotSupported(
                f"{element.name} has no path, so it is a package: packageInstall names no command"
            )
        if not _NAME.fullmatch(element.name):
            raise InvalidParameter("name", "is not the name of a package")
        present = await self._version_of(element)
        if element.operation is ElementOperation.UNINSTALL and present is None:
            raise OperationFailed(f"{element.name} is not installed")
        expected = element.old_version
        if element.operation is ElementOperation.UPGRADE and expected not in (None, present):
            raise OperationFailed(
                f"{element.name} is installed in version {present or 'none'}, not {expected}"
            )

    def validate(self, elements: Sequence[DeploymentElement], files: Sequence[Path | None]) -> None:
        """Only the package manager knows what is in a package."""

    async def backup(self, element: DeploymentElement) -> Any:
        return {"version": await self._version_of(element)}

    async def install(self, element: DeploymentElement, file: Path | None, note: Any) -> None:
        settings = self._settings()
        if file is None:
            await self._do(settings.package_remove, element)
            wanted = None
        else:
            await self._do(settings.package_install, element, file=str(file))
            wanted = element.version
        present = await self._version_of(element)
        if present != wanted:
            raise OperationFailed(
                f"the command has ended well, but {element.name} is installed in version"
                f" {present or 'none'}, not {wanted or 'none'}"
            )

    def activate(self) -> None:
        """A package manager does that itself."""

    async def restore(self, element: DeploymentElement, note: Any) -> None:
        settings = self._settings()
        before = note["version"]
        if await self._version_of(element) == before:
            return
        if before is None:
            await self._do(settings.package_remove, element)
        else:
            await self._do(settings.package_restore, element, oldVersion=before)
        present = await self._version_of(element)
        if present != before:
            raise OperationFailed(
                f"{element.name} was installed in version {before or 'none'}, and is now in"
                f" {present or 'none'}"
            )

    def release(self, element: DeploymentElement, note: Any) -> None:
        """There is no file of a backup."""

    async def _version_of(self, element: DeploymentElement) -> str | None:
        """None: it is not installed. What is not known is not taken for that: a rollback would
        remove the package."""
        command = self._settings().package_version
        ended = await self._run(command, element)
        if ended.status not in (0, 1):
            raise OperationFailed(
                f"the version of {element.name} is not known: {(command or '').split()[0]} ended"
                f" with status {ended.status}: {ended.last_words() or 'it wrote nothing'}"
            )
        written = ended.output.strip()
        return _version_in(written.splitlines()[0]) if ended.status == 0 and written else None

    async def _do(self, command: str | None, element: DeploymentElement, **more: str) -> None:
        ended = await self._run(command, element, **more)
        if ended.status:
            raise OperationFailed(
                f"{(command or '').split()[0]} ended with status {ended.status}:"
                f" {ended.last_words() or 'it wrote nothing'}"
            )

    async def _run(self, command: str | None, element: DeploymentElement, **more: str) -> Ended:
        if command is None:
            raise OperationFailed("the configuration names no command for packages any more")
        values = {"name": element.name, "version": element.version, **more}
        words = fill_in(command, values)
        if not os.access(words[0], os.X_OK):
            raise OperationFailed(f"{words[0]} is no program that this user can run")
        return await self._runner.run(words, self._settings().package_timeout_s)


def _version_in(line: str) -> str | None:
    """The version in what ``packageVersion`` writes. dpkg keeps the version of a package that is
    removed, as long as its configuration files are there: only its state tells."""
    state, _, version = line.strip().partition(" ")
    if state in _ABSENT:
        return None
    if state in _PRESENT:
        return version.strip() or None
    return f"{version.strip()} ({state})" if state in _PARTLY else line.strip()
