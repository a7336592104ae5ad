"""Each way of docs/installing.md gives a service whose user can read what it needs."""

from __future__ import annotations

import shutil
from pathlib import Path

from oda.platform.testing import RunningPlatform
from tests.docs.pages import ROOT
from tests.install.machine import Machine
from tests.install.source import copy_source
from tests.install.walks import PAGE, section, see_it_work

CLONE = "srv/clone"


def test_the_debian_package(
    package: Path, machine: Machine, platform: RunningPlatform, tmp_path: Path
) -> None:
    """The package that the machine's own tools build installs a service with its user, unit,
    configuration directory and rotation. An upgrade keeps the configuration; a purge leaves
    nothing."""
    _, install = section(PAGE, "Debian package")
    dist = machine.root / CLONE / "dist"
    dist.mkdir(parents=True)
    shutil.copy(package, dist)
    machine.run(install, cwd=f"/{CLONE}")
    enabled = "/etc/systemd/system/multi-user.target.wants/oda.service"
    machine.run(f"test -L {enabled} && test -f /etc/logrotate.d/oda && oda --version")
    machine.run("test -s /opt/oda/lib/python3*/site-packages/twisted/plugins/dropin.cache")
    see_it_work(machine, platform, tmp_path / "agent.log")
    machine.run(f"dpkg --install /{CLONE}/dist/*.deb && test -s /etc/oda/apikey")
    machine.run("apt-get --yes purge oda-websocket")
    left = "ls -d /opt/oda /etc/oda /var/lib/oda /usr/bin/oda /etc/logrotate.d/oda"
    assert machine.run(left, check=False).stdout == ""
    assert not (machine.root / enabled[1:]).is_symlink()


def test_the_script(machine: Machine, platform: RunningPlatform, tmp_path: Path) -> None:
    """``install.sh`` does the same from a clone, and can run again."""
    copy_source(machine.root / CLONE)
    (install,) = section(PAGE, "Script")
    machine.run(install, cwd=f"/{CLONE}")
    see_it_work(machine, platform, tmp_path / "agent.log")
    machine.run(f"{install.strip()} && test -s /etc/oda/apikey", cwd=f"/{CLONE}")


def test_by_hand(machine: Machine, platform: RunningPlatform, tmp_path: Path) -> None:
    """The commands for any other Linux give the same service, with the unit beside them."""
    copy_source(machine.root / CLONE)
    install, start = section(PAGE, "By hand")
    assert "oda-websocket --conf /etc/oda" in start
    machine.run(install, cwd=f"/{CLONE}")
    shutil.copy(ROOT / "deploy/systemd/oda.service", machine.root / "etc/systemd/system")
    see_it_work(machine, platform, tmp_path / "agent.log")


def test_where_only_root_can_read_the_program(machine: Machine) -> None:
    """An agent that was installed below /root can't run as the service's user: ``oda check`` says
    so, without a traceback."""
    copy_source(machine.root / CLONE)
    machine.run("useradd --system --home-dir /var/lib/oda oda && chmod 0700 /root")
    machine.run("python3 -m venv /root/venv && /root/venv/bin/pip install .", cwd=f"/{CLONE}")
    shutil.copy(ROOT / "deploy/systemd/oda.service", machine.root / "etc/systemd/system")
    machine.run(
        "echo k > key.txt; venv/bin/oda init /etc/oda --user oda --host 127.0.0.1"
        " --api-key-file key.txt",
        cwd="/root",
    )
    check = "/root/venv/bin/oda check --conf /etc/oda --offline"
    as_user = machine.run(f"{check} --user oda", check=False)
    assert as_user.returncode == 1
    assert "the user can't read /root/venv/bin/python" in as_user.stdout
    assert "Traceback" not in as_user.stderr
    assert "as the user oda" in machine.run(check).stdout
