"""The files under deploy/ fit the agent, and what docs/operating.md and docs/installing.md say of
them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oda.control.location import RUNTIME_DIRECTORY
from oda.monitor.catalogue import COUNTERS, GAUGES, counter_name, plain_name
from oda.tap import Options

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "oda.service"
CLOCK = DEPLOY / "systemd" / "clock.conf"
PAGE = ROOT / "docs" / "operating.md"
MONITORING = ROOT / "docs" / "monitoring.md"
INSTALLING = ROOT / "docs" / "installing.md"


def entries(path: Path) -> dict[str, list[str]]:
    """A unit file's keys with their values, in order; section headings and comments left out."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def parse(command: list[str]) -> Options:
    """The agent's part of a twistd command line; raises ``UsageError`` for what it doesn't know."""
    options = Options()
    options.parseOptions(command[command.index("oda-websocket") + 1 :])
    return options


def test_the_unit_runs_the_agent_as_it_wants_to_be_run() -> None:
    """In the foreground, notifying, with a watchdog, and with options that exist."""
    unit = entries(UNIT)
    (command,) = unit["ExecStart"]
    assert "--nodaemon" in command
    assert parse(shlex.split(command))["conf"] == "/etc/oda"
    assert unit["Type"] == ["notify"]
    assert int(unit["WatchdogSec"][0]) > 0
    assert unit["Restart"] == ["always"]


def test_the_unit_makes_the_directories_the_agent_uses() -> None:
    """/run/oda for the local socket, and a state directory, in which it works."""
    unit = entries(UNIT)
    assert Path("/run") / unit["RuntimeDirectory"][0] == RUNTIME_DIRECTORY
    assert unit["WorkingDirectory"] == [f"/var/lib/{unit['StateDirectory'][0]}"]


def test_the_clock_is_protected_unless_the_drop_in_is_there() -> None:
    """The unit alone forbids to set it in three ways; the drop-in lifts all three."""
    unit, clock = entries(UNIT), entries(CLOCK)
    assert (unit["ProtectClock"], unit["CapabilityBoundingSet"]) == (["yes"], [""])
    assert clock["ProtectClock"] == ["no"]
    assert clock["AmbientCapabilities"] == clock["CapabilityBoundingSet"] == ["CAP_SYS_TIME"]
    assert clock["SystemCallFilter"] == ["@clock"]


def test_the_drop_in_for_timesync_allows_asking_and_nothing_else() -> None:
    """The agent may ask the kernel whether the clock is synchronised. The capability to set it
    stays away."""
    timesync = entries(DEPLOY / "systemd" / "timesync.conf")
    assert timesync == {"ProtectClock": ["no"], "SystemCallFilter": ["adjtimex clock_adjtime"]}


@pytest.mark.parametrize("with_clock", [False, True])
def test_systemd_understands_the_unit(tmp_path: Path, with_clock: bool) -> None:
    """``systemd-analyze verify`` finds nothing, where there is one to ask."""
    analyze = shutil.which("systemd-analyze")
    unit = tmp_path / "oda.service"
    unit.write_text(UNIT.read_text().replace("/opt/oda/bin/twistd", "/bin/true"))
    if with_clock:
        (tmp_path / "oda.service.d").mkdir()
        shutil.copy(CLOCK, tmp_path / "oda.service.d")
    if analyze is not None:
        done = subprocess.run(
            [analyze, "verify", str(unit)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, [line for line in done.stderr.splitlines() if "oda" in line]) == (
            0,
            [],
        )


def test_the_container_runs_the_agent() -> None:
    """Its command has options that exist, and its files are in the repository."""
    text = (DEPLOY / "container" / "Containerfile").read_text()
    (entry,), (more,) = (
        re.findall(rf"^{name} \[(.*)\]$", text, re.M) for name in ("ENTRYPOINT", "CMD")
    )
    options = parse(re.findall(r'"([^"]*)"', f"{entry},{more}"))
    assert (options["conf"], options["log-format"]) == ("/etc/oda", "json")
    (number,) = re.findall(r"^USER (\d+)$", text, re.M)
    assert f"useradd --system --uid {number} " in text


@pytest.mark.parametrize("name", ["debian/install.sh", "container/Containerfile"])
def test_the_list_of_plugins_is_written_by_who_may(name: str) -> None:
    """After the installation, and before the user that runs the agent takes over."""
    text = (DEPLOY / name).read_text()
    assert 0 < text.index("pip install") < text.index("/opt/oda/bin/twistd --help")


def test_the_scripts_are_good_shell() -> None:
    """shellcheck finds nothing in what installs and builds."""
    scripts = [*DEPLOY.glob("debian/*.sh"), *DEPLOY.glob("debian/package/p*"), ROOT / ".ci/run"]
    assert len(scripts) >= 6
    linter = Path(sys.executable).parent / "shellcheck"
    done = subprocess.run(
        [str(linter), *map(str, scripts)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_installation_script_installs_what_is_there() -> None:
    """It stops at the first error, and installs files that are there."""
    script = DEPLOY / "debian" / "install.sh"
    text = script.read_text()
    assert "set -eu" in text
    for path in re.findall(r"(deploy/[\w./-]+)", text):
        assert (ROOT / path).exists(), path


def test_the_alerts_of_the_page_are_of_metrics_that_exist() -> None:
    """A condition copied from the page must be able to become true."""
    names = {counter_name(it) for it in COUNTERS} | {plain_name(it.name) for it in GAUGES}
    used = set(re.findall(r"\boda_[a-z_]+", MONITORING.read_text()))
    assert len(used) >= 6
    assert used <= names


def test_the_files_the_page_names_are_there() -> None:
    """Every path below deploy/."""
    paths = re.findall(r"`(deploy/[\w./-]+)`", PAGE.read_text() + INSTALLING.read_text())
    assert len(paths) >= 5
    assert [path for path in paths if not (ROOT / path).exists()] == []
