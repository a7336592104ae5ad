"""Puts faults of the past back, one at a time, and shows the seed that finds each.

Each ``known/*.patch`` is applied to a copy of the source tree; the simulation runs there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.simulation.plan import make_plan
from tests.simulation.world import run

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
        ends_s = time.monotonic() + LIMIT_S
        first = 0
        while (left_s := ends_s - time.monotonic()) > 0:
            command = [sys.executable, "-m", "tests.simulation", "--seeds", "1000000"]
            command += ["--from", str(first), "--limit", str(left_s)]
            command += ["--shrink", str(shrink_runs), "--processes", str(processes)]
            ended = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
            told = re.search(r": seeds (\d+)", ended.stdout)
            if told is None:
                return Found(patch.stem, None, ended.stdout + ended.stderr)
            if not run(make_plan(told[1])).violations:
                return Found(patch.stem, told[1], ended.stdout)
            first = int(told[1]) + 1  # it fails without the fault, too
    return Found(patch.stem, None, "")


def find_all(processes: int, shrink_runs: int = 0) -> Iterator[Found]:
    """All of them, one after the other."""
    for patch in PATCHES:
        yield find(patch, processes, shrink_runs)
