"""The commands of docs/fleets.md, from the common files to an exchanged key."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from oda.platform.testing import RunningPlatform
from tests.docs.pages import ROOT, Page
from tests.docs.shell import is_shell
from tests.e2e.processes import KEY
from tests.install.machine import Machine

PAGE = Page(ROOT / "docs/fleets.md")


def test_the_commands(with_source: Machine, platform: RunningPlatform, tmp_path: Path) -> None:
    """The common files hold no key and no id; a device gets both in files of its own. Its check
    succeeds as the service's user, and the agent follows an exchanged key."""
    machine = with_source
    common, commission, exchange, restart = (b.text for b in PAGE.blocks if is_shell(b))
    assert "shuf" in restart
    address = urlsplit(platform.device_url)
    common = common.replace("platform.example.org", "127.0.0.1").replace("443", str(address.port))
    machine.run("useradd --system --home-dir /var/lib/oda oda")
    machine.run("install -d -o oda -g oda /var/lib/oda && install -d -g oda -m 0750 /etc/oda")
    machine.run(common.replace(" --secure", ""), cwd="/srv")
    files = machine.run("cat /srv/common/*").stdout
    assert KEY not in files
    assert "\ndeviceId=" not in files
    machine.run(f"umask 077; echo {KEY} > key.txt; echo other-key > new-key.txt", cwd="/srv")
    checked = machine.run(commission, cwd="/srv").stdout
    assert "its id is pump-0042, from deviceId" in checked
    assert "FAILED" not in checked
    machine.run(exchange, cwd="/srv")
    assert machine.run("cat /etc/oda/apikey", user="oda").stdout == "other-key\n"
    refused = machine.run("oda check --conf /etc/oda --user oda", check=False)
    assert refused.returncode == 1
    assert "401" in refused.stdout
