"""What somebody does who follows docs/installing.md, on a machine of ``tests.install.machine``."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from oda.platform.testing import RunningPlatform
from tests.docs.pages import ROOT, Page
from tests.docs.shell import is_shell
from tests.e2e.processes import KEY
from tests.install.machine import Machine

PAGE = Page(ROOT / "docs/installing.md")
UNIT = "oda.service"


def section(page: Page, heading: str) -> list[str]:
    """The commands below a heading of the page, block by block."""
    start = page.text.index(f"\n## {heading}\n")
    end = page.text.find("\n## ", start + 1)
    first, last = (page.text[:place].count("\n") for place in (start, end if end > 0 else None))
    return [b.text for b in page.blocks if first < b.line <= last and is_shell(b)]


def configure(machine: Machine, platform: RunningPlatform) -> str:
    """Follow "The configuration" as root, up to the start of the service; gives what ``oda check``
    printed. The key file is one that root alone can read."""
    machine.run(f"umask 077; echo {KEY} > /root/key.txt")
    init, check, start = section(PAGE, "The configuration")
    assert start.startswith("systemctl start")
    address = urlsplit(platform.device_url)
    for documented, actual in (
        ("platform.example.org", "127.0.0.1"),
        ("443", str(address.port)),
        ("--secure ", ""),
    ):
        assert documented in init
        init = init.replace(documented, actual)
    machine.run(init, cwd="/root")
    return machine.run(check).stdout


def start_service(machine: Machine, log: Path) -> subprocess.Popen[bytes]:
    """Start the service as the unit says; systemd itself does not run on the machine."""
    (unit,) = (
        file
        for place in ("etc/systemd/system", "lib/systemd/system")
        if (file := machine.root / place / UNIT).exists()
    )
    settings = dict(line.split("=", 1) for line in unit.read_text().splitlines() if "=" in line[1:])
    user = settings["User"]
    for base in ("Runtime", "State"):
        place = {"Runtime": "/run", "State": "/var/lib"}[base]
        name, mode = settings[f"{base}Directory"], settings[f"{base}DirectoryMode"]
        machine.run(f"install -d -o {user} -g {settings['Group']} -m {mode} {place}/{name}")
    return machine.start(
        shlex.split(settings["ExecStart"]),
        log,
        user=user,
        cwd=settings["WorkingDirectory"],
        RUNTIME_DIRECTORY=f"/run/{settings['RuntimeDirectory']}",
    )


def see_it_work(machine: Machine, platform: RunningPlatform, log: Path) -> None:
    """The configured service connects as its own user, with its key and with the id that
    ``oda check`` finds as root, too; root's commands reach it."""
    checked = configure(machine, platform)
    assert "everything below is as the user oda" in checked
    assert "warning" not in checked, checked
    as_root = machine.run("oda check --conf /etc/oda").stdout
    assert "may read and write what it needs" in as_root
    device = (machine.root / "etc/machine-id").read_text().strip()
    for output in (checked, as_root):
        assert f"its id is {device}, from /etc/machine-id" in output
    start_service(machine, log)
    platform.wait_for_device(device, 180)
    platform.wait_for_datapoints(device, "device.upTime", 1, timeout_s=60)
    machine.run("oda status --conf /etc/oda")
    see_trouble(machine)


def see_trouble(machine: Machine) -> None:
    """Root is warned of a key that the service's user can't read, and the check as that user
    fails."""
    machine.run("chown root:root /etc/oda/apikey && chmod 0600 /etc/oda/apikey")
    as_root = machine.run("oda check --conf /etc/oda --offline").stdout
    assert "as the user oda" in as_root
    assert "apikey can't be read: Permission denied" in as_root
    as_user = machine.run("oda check --conf /etc/oda --offline --user oda", check=False)
    assert as_user.returncode == 1
    assert "apikey can't be read: Permission denied" in as_user.stdout
    machine.run("chgrp oda /etc/oda/apikey && chmod 0640 /etc/oda/apikey")
