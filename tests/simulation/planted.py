"""Puts faults of the past back, one at a time, and shows the seed that finds each.

Each ``known/*.patch`` is applied to a copy of the source tree; the simulation runs there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PATCHES = sorted((Path(__file__).parent / "known").glob("*.patch"))
#: So long a fault may stay hidden.
LIMIT_S = 60.0


class Found(NamedTuple):
    """``seed`` is None where the fault stayed hidden; ``report`` is what the simulation said."""

    name: str
    seed: str | None
    report: str


def find(patch: Path, processes: int, shrink_runs: int = 0) -> Found:
    """Look for a seed that fails with ``patch``."""
    with tempfile.TemporaryDirectory(prefix="oda-known-") as folder:
        copy = Path(folder)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "oda", copy / "oda", ignore=ignored)
        shutil.copytree(ROOT / "tests/simulation", copy / "tests/simulation", ignore=ignored)
        shutil.copyfile(ROOT / "tests/__init__.py", copy / "tests/__init__.py")
        subprocess.run(["patch", "-p1", "-s", "-i", str(patch)], cwd=copy, check=True)
        command = [sys.executable, "-m", "tests.simulation", "--seeds", "1000000"]
        command += ["--limit", str(LIMIT_S), "--shrink", str(shrink_runs)]
        command += ["--processes", str(processes)]
        ended = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    told = re.search(r": seeds (\d+)", ended.stdout)
    return Found(patch.stem, told[1] if told else None, ended.stdout + ended.stderr)


def find_all(processes: int, shrink_runs: int = 0) -> Iterator[Found]:
    """All of them, one after the other."""
    for patch in PATCHES:
        yield find(patch, processes, shrink_runs)
