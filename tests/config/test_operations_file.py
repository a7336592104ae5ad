"""es.amplia.oda.operations.scripts.cfg: operations by script, and what restarts the device."""

from __future__ import annotations

from pathlib import Path

import pytest

from oda.config.components import COMPONENTS, OPERATIONS
from oda.config.lines import OWN_OPERATIONS
from oda.operations.catalogue import BY_SCRIPT, FILE
from oda.settings import OperationsSettings, ScriptEffect, ScriptOperationSettings
from tests.config.directories import faults_of, load_files

SCRIPTS = "operations.scripts"
DEVICE = "datastreams.deviceinfo"


def loaded(directory: Path, text: str) -> OperationsSettings:
    return load_files(directory, {SCRIPTS: text}).settings.operations


def test_without_the_file_nothing_is_allowed(tmp_path: Path) -> None:
    """No script, no command: what is not configured is refused."""
    assert load_files(tmp_path, {}).settings.operations == OperationsSettings()
    assert OperationsSettings().scripts == ()
    assert OperationsSettings().reboot_command is None
    assert OperationsSettings().restart_command is None


def test_every_key(tmp_path: Path) -> None:
    """Each fills its field."""
    assert loaded(
        tmp_path,
        "path=ops\nscriptTimeout=5\nscriptMaxOutput=100\nrebootCommand=systemctl reboot\n"
        "restartCommand=systemctl restart oda\nrestartTimeout=60\n"
        "readAfterRestart=device.upTime, device.clock,device.upTime\n",
    ) == OperationsSettings(
        path=Path("ops"),
        script_timeout_s=5,
        script_max_output_bytes=100,
        reboot_command="systemctl reboot",
        restart_command="systemctl restart oda",
        restart_timeout_s=60,
        read_after_restart=("device.upTime", "device.clock"),
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("RESTART_PUMP=restart-pump.sh;", ("RESTART_PUMP", "restart-pump.sh", "NONE", False)),
        ("A.b-c_1=run.sh 1 'x y'", ("A.b-c_1", "run.sh 1 'x y'", "NONE", False)),
        ("FACTORY_RESET=r.sh;reboots", ("FACTORY_RESET", "r.sh", "REBOOTS", False)),
        ("X=r.sh ; RESTARTS ; DEVICES ; ", ("X", "r.sh", "RESTARTS", True)),
        ("X=r.sh;DEVICES", ("X", "r.sh", "NONE", True)),
        ("X=sh -c 'a; b 2'", ("X", "sh -c 'a; b 2'", "NONE", False)),
        ("X=r.sh # no comment", ("X", "r.sh # no comment", "NONE", False)),
    ],
)
def test_lines(tmp_path: Path, line: str, expected: tuple[str, str, str, bool]) -> None:
    """As the lines of readings, with options in the place of a type."""
    name, command, effect, serves_devices = expected
    assert loaded(tmp_path, line).scripts == (
        ScriptOperationSettings(
            name=name,
            command=command,
            effect=ScriptEffect[effect],
            serves_devices=serves_devices,
        ),
    )


@pytest.mark.parametrize(
    ("line", "help_"),
    [
        ("X=r.sh;REBOOT", "allowed: script, then ;REBOOTS or ;RESTARTS"),
        ("X=r.sh;STRING", "is no option"),
        ("X=r.sh;REBOOTS;RESTARTS", "keep one"),
        ("X=;DEVICES", "names no script"),
        ("X='r.sh", "split"),
        ("X=A\\=b", "contains '='"),
        ("X;Y=r.sh", "not the name of an operation"),
        ("REBOOT_EQUIPMENT=r.sh", "set rebootCommand"),
        ("REFRESH_INFO=r.sh", "can't be replaced by a script"),
        ("rebootcommand=r.sh", "did you mean rebootCommand?"),
        ("rebootCommand='r.sh", "split"),
        ("readAfterRestart=a,,b", "ids of datastreams"),
        ("restartTimeout=0", "seconds from 0.1"),
    ],
)
def test_wrong_lines(tmp_path: Path, line: str, help_: str) -> None:
    """A fault names the line and what is allowed."""
    (fault,) = faults_of(tmp_path, {SCRIPTS: f"scriptTimeout=5\n{line}"})
    assert fault.line == 2
    assert help_ in fault.problem


def test_the_last_script_of_an_operation_counts(tmp_path: Path) -> None:
    """A line that stands twice is a warning, as with every key of Java's properties."""
    files = load_files(tmp_path, {SCRIPTS: "X=a.sh\nX=b.sh"})
    (script,) = files.settings.operations.scripts
    assert script.command == "b.sh"
    assert any("is replaced by line 2" in warning for warning in files.warnings)


def test_a_directory_of_scripts_that_everybody_can_write_is_told(tmp_path: Path) -> None:
    """Who can write there runs what they like as the agent's user."""
    place = tmp_path / "ops"
    place.mkdir()
    place.chmod(0o777)
    files = {SCRIPTS: f"path={place}\n"}
    assert any(str(place) in one for one in load_files(tmp_path, files).warnings)
    strict = {**files, DEVICE: "apiKey=k\nstrictPermissions=true"}
    (tmp_path / "es.amplia.oda.datastreams.deviceinfo.cfg").write_text("")
    (tmp_path / "es.amplia.oda.datastreams.deviceinfo.cfg").chmod(0o600)
    assert any(fault.file == "ops" for fault in faults_of(tmp_path, strict))


def test_the_tables_name_the_same_file_and_no_operation_twice() -> None:
    """The refusals name the file that the loader reads; what the agent does itself is not left to
    a script."""
    assert OPERATIONS in COMPONENTS
    assert OPERATIONS.file == FILE
    assert not set(BY_SCRIPT) & set(OWN_OPERATIONS)
