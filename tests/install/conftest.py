"""Fresh machines to install on, and the Debian package."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oda.platform.testing import RunningPlatform
from tests.docs.pages import ROOT
from tests.e2e.processes import KEY
from tests.install.machine import Machine, why_impossible
from tests.install.source import copy_source


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine on which nothing of ours is installed, with Debian's tools and Python."""
    skip_unless_possible("adduser", "apt-get", "dpkg", "python3", "systemctl")
    sees = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
    if subprocess.run(["/usr/bin/python3", "-c", sees], check=False).returncode:
        pytest.skip("/usr/bin/python3 is older than 3.11, or python3-venv is not installed")
    yield from begin_machine(tmp_path)


@pytest.fixture
def with_source(tmp_path: Path) -> Iterator[Machine]:
    """A machine with the command ``oda`` of the source, which every user can run there."""
    for one in begin_machine(tmp_path, keep_tmp=True):
        if problem := one.open_up(sys.executable, os.path.realpath(sys.executable), str(ROOT)):
            pytest.skip(problem)
        command = one.root / "usr/local/bin/oda"
        code = "from oda.cli import main; main()"
        command.write_text(
            f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(str(ROOT))}\n"
            f"exec {shlex.quote(sys.executable)} -c '{code}' \"$@\"\n"
        )
        command.chmod(0o755)
        yield one


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package, built by a user without rights as docs/installing.md says."""
    directory = tmp_path_factory.mktemp("package")
    skip_unless_possible("dpkg-buildpackage")
    for builder in begin_machine(directory):
        builder.run("useradd --create-home builder")
        copy_source(builder.root / "home/builder/clone")
        builder.run("chown -R builder: /home/builder/clone")
        builder.run(
            "deploy/debian/build.sh dist",
            user="builder",
            cwd="/home/builder/clone",
            timeout_s=1800,
            # The test need not wait for a small file.
            DPKG_DEB_COMPRESSOR_TYPE="gzip",
            DPKG_DEB_COMPRESSOR_LEVEL="1",
        )
        (built,) = (builder.root / "home/builder/clone/dist").glob("*.deb")
        return Path(shutil.copy(built, directory))
    raise AssertionError("there was no machine")


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[RunningPlatform]:
    """A stand-in platform that wants the key."""
    with RunningPlatform(["--key", KEY], log=tmp_path / "platform.log") as running:
        yield running


def skip_unless_possible(*programs: str) -> None:
    """Skip, saying why, where there can be no machine, or not with these programs."""
    if problem := why_impossible(programs):
        pytest.skip(problem)


def begin_machine(directory: Path, keep_tmp: bool = False) -> Iterator[Machine]:
    """A machine below ``directory``, ended afterwards. Skips, saying why, where none can be."""
    skip_unless_possible()
    place = directory / "machine"
    place.mkdir()
    with Machine(place, keep_tmp) as one:
        yield one
