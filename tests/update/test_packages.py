"""Packages by commands: real processes, and a package manager of a few lines."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred

from oda.errors import InvalidParameter, OperationFailed, OperationNotSupported
from oda.model import DeploymentElement, ElementOperation
from oda.settings import UpdateSettings
from oda.update.commands import CommandRunner, fill_in
from oda.update.packages import PackageInstaller

#: Keeps the version of a package in a file of its name.
MANAGER = """
import pathlib, sys
place, verb, name, *rest = sys.argv[1:]
file = pathlib.Path(place, name)
if verb == "version":
    print(file.read_text() if file.exists() else "")
elif verb == "install":
    version = pathlib.Path(rest[0]).read_text()
    if version == "bad":
        print("reading"), sys.exit("the package is broken")
    if version != "none":
        file.write_text(version)
elif verb == "restore":
    file.write_text(rest[0])
elif verb == "remove":
    file.unlink()
"""

#: dpkg gives files to root.
DPKG = Path("/usr/bin/dpkg").exists() and os.geteuid() == 0


class Device:
    """An installer whose package manager keeps its state in ``packages``."""

    def __init__(self, directory: Path) -> None:
        from twisted.internet import reactor

        self.packages = directory / "packages"
        self.packages.mkdir()
        self.file = directory / "file"
        script = directory / "manager.py"
        script.write_text(MANAGER)
        base = " ".join(shlex.quote(str(one)) for one in (sys.executable, script, self.packages))
        self.settings = UpdateSettings(
            package_install=f"{base} install {{name}} {{file}}",
            package_remove=f"{base} remove {{name}}",
            package_version=f"{base} version {{name}}",
            package_restore=f"{base} restore {{name}} {{oldVersion}}",
        )
        runner = CommandRunner(reactor, lambda: {"PATH": "/usr/bin:/bin"})
        self.installer = PackageInstaller(lambda: self.settings, runner)

    @property
    def installed(self) -> dict[str, str]:
        return {one.name: one.read_text() for one in self.packages.iterdir()}


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def package(operation: str = "INSTALL", version: str = "2", **more: Any) -> DeploymentElement:
    usual = {"name": "pump", "type": "SOFTWARE", "operation": ElementOperation(operation)}
    return DeploymentElement(**{**usual, "version": version, **more})


async def install(device: Device, element: DeploymentElement, holds: str) -> Any:
    """Check, back up, install; the note."""
    device.file.write_text(holds)
    await device.installer.check(element)
    note = await device.installer.backup(element)
    removal = element.operation is ElementOperation.UNINSTALL
    await device.installer.install(element, None if removal else device.file, note)
    return note


@pytest.mark.parametrize("before", [None, "1"])
@pytest_twisted.ensureDeferred
async def test_a_package_and_back(device: Device, before: str | None) -> None:
    """What was installed before is installed again, and what was not is removed."""
    if before:
        (device.packages / "pump").write_text(before)
    note = await install(device, package(), "2")
    assert device.installed == {"pump": "2"}
    for _ in range(2):
        await device.installer.restore(package(), note)
        assert device.installed == ({"pump": before} if before else {})


@pytest_twisted.ensureDeferred
async def test_a_removal_and_back(device: Device) -> None:
    """A removed package comes back in its version."""
    (device.packages / "pump").write_text("1")
    note = await install(device, package("UNINSTALL"), "")
    assert device.installed == {}
    await device.installer.restore(package("UNINSTALL"), note)
    assert device.installed == {"pump": "1"}


@pytest.mark.parametrize(
    ("holds", "reason"),
    [
        ("bad", "ended with status 1: the package is broken"),
        ("none", "installed in version none, not 2"),
        ("3", "installed in version 3, not 2"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_command_that_fails(device: Device, holds: str, reason: str) -> None:
    """Its last words are the reason; one that does something else than it was told has failed."""
    with pytest.raises(OperationFailed, match=reason):
        await install(device, package(), holds)


@pytest_twisted.ensureDeferred
async def test_what_the_platform_believes_is_checked(device: Device) -> None:
    """An upgrade of another version, or a removal of nothing, changes nothing."""
    (device.packages / "pump").write_text("1.5")
    with pytest.raises(OperationFailed, match=r"in version 1\.5, not 1"):
        await install(device, package("UPGRADE", old_version="1"), "2")
    (device.packages / "pump").unlink()
    with pytest.raises(OperationFailed, match="is not installed"):
        await install(device, package("UNINSTALL"), "")


@pytest.mark.skipif(not DPKG, reason="needs dpkg and root")
@pytest_twisted.ensureDeferred
async def test_dpkg_and_back(device: Device, tmp_path: Path) -> None:
    """A removed package is none, although dpkg still knows the version of its configuration: so an
    installation can be taken back, and a removal succeeds."""
    from twisted.internet import reactor

    root, parts = tmp_path / "system", tmp_path / "parts"
    for place in ("updates", "info"):
        (root / "var/lib/dpkg" / place).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    (parts / "DEBIAN").mkdir(parents=True)
    (parts / "etc").mkdir()
    (parts / "etc/pump.conf").write_text("x")
    (parts / "DEBIAN/conffiles").write_text("/etc/pump.conf\n")
    (parts / "DEBIAN/control").write_text(
        "Package: pump\nVersion: 2\nArchitecture: all\nMaintainer: a <a@example.org>\n"
        "Description: a pump\n"
    )
    build = ["/usr/bin/dpkg-deb", "-b", str(parts), str(device.file)]
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    assert (await CommandRunner(reactor, lambda: path).run(build, 60)).status == 0
    options = f"--root={root} --log=/dev/null --force-not-root"
    dpkg = f"/usr/bin/dpkg {options}"
    query = f"/usr/bin/dpkg-query --admindir={root}/var/lib/dpkg"
    settings = UpdateSettings(
        package_install=f"{dpkg} -i {{file}}",
        package_remove=f"{dpkg} -r {{name}}",
        package_version=f"{query} -W -f '${{db:Status-Status}} ${{Version}}' {{name}}",
        package_restore=f"{dpkg} -i {device.file}",
    )
    installer = PackageInstaller(lambda: settings, CommandRunner(reactor, lambda: path))
    await installer.check(package())
    note = await installer.backup(package())
    await installer.install(package(), device.file, note)
    await installer.restore(package(), note)
    assert (root / "etc/pump.conf").exists()
    await installer.install(package(), device.file, note)
    removal = package("UNINSTALL")
    note = await installer.backup(removal)
    await installer.install(removal, None, note)
    with pytest.raises(OperationFailed, match="is not installed"):
        await installer.check(removal)
    await installer.restore(removal, note)


@pytest.mark.parametrize("script", ["kill -9 $$", "exit 2"])
@pytest_twisted.ensureDeferred
async def test_a_version_that_is_not_known(device: Device, tmp_path: Path, script: str) -> None:
    """A command that breaks off does not say that nothing is installed: a rollback would remove
    what was there."""
    command = tmp_path / "broken"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    device.settings = msgspec.structs.replace(device.settings, package_version=str(command))
    with pytest.raises(OperationFailed, match="the version of pump is not known"):
        await device.installer.backup(package())
    command.unlink()
    with pytest.raises(OperationFailed, match="no program that this user can run"):
        await device.installer.backup(package())


@pytest.mark.parametrize("name", ["pump-", "a/testing", "a@https://x", "a b"])
@pytest_twisted.ensureDeferred
async def test_names_that_mean_something_else_to_a_package_manager(
    device: Device, name: str
) -> None:
    """``apt-get install pump-`` removes; an address would be fetched from elsewhere."""
    with pytest.raises(InvalidParameter, match="name"):
        await device.installer.check(package(name=name))


@pytest_twisted.ensureDeferred
async def test_without_commands_it_is_off(device: Device) -> None:
    """The refusal names the key."""
    device.settings = UpdateSettings()
    with pytest.raises(OperationNotSupported, match="packageInstall"):
        await device.installer.check(package())


def test_values_stay_one_word_each() -> None:
    """No shell, and no splitting, whatever a value holds."""
    words = fill_in(
        "/p -f ${Version} {name}={version} '{file} x'", {"name": "a b;$(c)", "file": "'"}
    )
    assert words == ["/p", "-f", "${Version}", "a b;$(c)={version}", "' x"]


@pytest_twisted.ensureDeferred
async def test_a_command_that_hangs_is_ended() -> None:
    """At the time limit it is told to end, and killed if it does not."""
    from twisted.internet import reactor

    runner = CommandRunner(reactor, dict)
    with pytest.raises(OperationFailed, match="longer than packageTimeout"):
        await runner.run(["/bin/sleep", "60"], 0.2)
    running: Deferred[Any] = runner.run(["/bin/sleep", "60"], 60)
    running.cancel()
    with pytest.raises(CancelledError):
        await running


@pytest_twisted.ensureDeferred
async def test_a_program_that_is_not_there() -> None:
    """A child that can't be executed ends with a status."""
    from twisted.internet import reactor

    ended = await CommandRunner(reactor, dict).run(["/no/such/program"], 10)
    assert ended.status != 0
