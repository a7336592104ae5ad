"""What a build of the package contains."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

from tests.docs.pages import ROOT
from tests.install.source import copy_source


def build_wheel(source: Path) -> set[str]:
    """Build a wheel in the source, without the network; gives the names of its files."""
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "out", "."],
        cwd=source,
        capture_output=True,
        text=True,
        env={name: text for name, text in os.environ.items() if name != "PYTHONPATH"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (source / "out").glob("*.whl")
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_a_stale_build_directory_does_not_leak_into_the_wheel(tmp_path: Path) -> None:
    """A module or a plugin that was removed since the last build is not installed, and a present
    one is. Both builds run in one source tree, whose directory has a blank in its name."""
    source = copy_source(tmp_path / "my clone")
    for removed in (
        "oda/removed.py",
        "oda/control/removed.py",
        "twisted/plugins/removed_plugin.py",
    ):
        (source / removed).write_text("")
    first = build_wheel(source)
    assert {"oda/removed.py", "twisted/plugins/removed_plugin.py"} <= first
    for removed in source.rglob("removed*.py"):
        if "build" not in removed.relative_to(source).parts:
            removed.unlink()
    for wheel in (source / "out").iterdir():
        wheel.unlink()
    second = build_wheel(source)
    assert not [name for name in second if "removed" in name]
    present = {str(file.relative_to(source)) for file in (source / "oda").rglob("*.py")}
    assert present <= second
    assert "twisted/plugins/oda_plugins.py" in second


def test_the_build_backend_is_all_that_pyproject_says() -> None:
    """Metadata stands once, in setup.cfg: a second place would contradict it one day."""
    assert set(tomllib.loads((ROOT / "pyproject.toml").read_text())) == {"build-system"}
