"""What another user can do where the agent reads what to do and what to run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oda.config.loader import load
from oda.datastreams.script_command import find_command
from oda.errors import ConfigurationError
from tests.config.directories import MINIMAL, name_of, write

STRICT = "strictPermissions=true\n"
DEVICE = "datastreams.deviceinfo"
CONNECTOR = "connector.websocket"


def program(file: Path) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return str(file)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A configuration that only its user can write, in a directory that only its user can."""
    place = tmp_path / "conf"
    place.mkdir(mode=0o755)
    write(place, {**MINIMAL, "subsystem.poller": "a=1\n"})
    (place / "key").write_text("secret")
    (place / "foreign.cfg").write_text("")
    write(place, {DEVICE: "apiKeyFile=key\npath=scripts\n"})
    for one in place.iterdir():
        one.chmod(0o600)
    return place


@pytest.mark.parametrize(
    "name", [name_of(CONNECTOR), name_of(DEVICE), name_of("subsystem.poller"), "key", "."]
)
def test_a_configuration_that_everybody_can_write(directory: Path, name: str) -> None:
    """Whoever can write a file that is read, or the directory, owns the agent: a warning that names
    what to change, and with strictPermissions a refusal."""
    assert load(directory, {}).warnings == ()
    (directory / name).chmod(0o702 if name == "." else 0o602)
    path = directory / name
    (warning,) = load(directory, {}).warnings
    assert warning == f"{path}: can be written by every user of this machine: chmod o-w it"
    write(directory, {DEVICE: f"apiKeyFile=key\n{STRICT}"})
    with pytest.raises(ConfigurationError) as caught:
        load(directory, {})
    assert [(fault.file, fault.problem) for fault in caught.value.faults] == [
        (
            str(path),
            "can be written by every user of this machine: chmod o-w it (strictPermissions=true)",
        )
    ]


def test_a_directory_with_the_sticky_bit_is_no_better(directory: Path) -> None:
    """There others can't exchange a file, but add one: a component that was off is on."""
    directory.chmod(0o1777)
    (warning,) = load(directory, {}).warnings
    assert warning.startswith(f"{directory}: can be written")


def test_the_scripts_directory_counts(directory: Path) -> None:
    """What lies there is run."""
    scripts = directory.parent / "scripts"
    scripts.mkdir()
    scripts.chmod(0o777)
    write(directory, {DEVICE: f"apiKeyFile=key\npath={scripts}\n"})
    (warning,) = load(directory, {}).warnings
    assert warning.startswith(f"{scripts}: can be written")


def test_files_that_are_not_read_may_be_anybodys(directory: Path) -> None:
    """A component's file that this agent does not know has no say."""
    (directory / "foreign.cfg").chmod(0o666)
    assert load(directory, {}).warnings == ()


def test_a_group_may_write(directory: Path) -> None:
    """Those who maintain the device may be a group: its members are chosen by root."""
    for one in (directory, *directory.iterdir()):
        one.chmod(0o770)
    assert load(directory, {}).warnings == ()


def test_a_plain_script_name_is_not_looked_for_in_the_working_directory(tmp_path: Path) -> None:
    """Who can put a file where the agent was started runs nothing with it."""
    program(tmp_path / "cwd" / "clock.sh")
    wanted = program(tmp_path / "scripts" / "clock.sh")
    assert find_command("clock.sh", tmp_path / "cwd", tmp_path / "scripts", {}) == (wanted,)
    with pytest.raises(ValueError, match="was not found"):
        find_command("clock.sh", tmp_path / "cwd", None, {"PATH": os.defpath})


@pytest.mark.parametrize("entries", ["", ".", "bin", ":/none", "/none:"])
def test_a_relative_entry_of_path_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entries: str
) -> None:
    """An empty or relative entry of PATH leads into the working directory, too."""
    program(tmp_path / "tool")
    program(tmp_path / "bin" / "tool")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="was not found"):
        find_command("tool", tmp_path, None, {"PATH": entries})
