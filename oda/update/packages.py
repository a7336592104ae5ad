"""The installer of packages: runs the commands of the configuration.

A package is an element of the type SOFTWARE or FIRMWARE without ``path``. What was there before is
its version, as ``packageVersion`` writes it; ``packageRestore`` has to be able to install that one
again. After each command the version is asked for: a command that ends well and has done nothing
has failed.
"""

from __future__ import annotations

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
            raise InvalidParameter("name", "is no name of a package")
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
        ended = await self._run(self._settings().package_version, element)
        written = ended.output.strip()
        return written.splitlines()[0].strip() if ended.status == 0 and written else None

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
        return await self._runner.run(words, self._settings().package_timeout_s)
