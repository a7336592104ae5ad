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
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.simulation.plan import make_plan
from tests.simulation.world import run

ROOT = Path(__file__).resolve().parents[2]
PATCHES = sorted((Path(__file__).parent / "known").glob("*.patch"))
#: So long a fault may stay hidden.
LIMIT_S = 60.0
#: A seed that finds each fault, for the tests.
FOUND_BY = {"fault-1": "9", "fault-2": "1374", "fault-3": "41", "fault-6": "95", "fault-7": "113"}


class Found(NamedTuple):
    """``seed`` is None where the fault stayed hidden; ``report`` is what the simulation said."""

    name: str
    seed: str | None
    report: str


@contextmanager
def planted(patch: Path) -> Iterator[Path]:
    """A copy of the source tree with ``patch``."""
    with tempfile.TemporaryDirectory(prefix="oda-known-") as folder:
        copy = Path(folder)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "oda", copy / "oda", ignore=ignored)
        shutil.copytree(ROOT / "tests/simulation", copy / "tests/simulation", ignore=ignored)
        shutil.copyfile(ROOT / "tests/__init__.py", copy / "tests/__init__.py")
        _apply(patch.read_text("utf-8"), copy)
        yield copy


def _apply(patch: str, tree: Path) -> None:
    """Apply a unified diff. Each hunk must fit in exactly one place, wherever that is now."""
    target = tree
    hunks: list[tuple[Path, list[str]]] = []
    for line in patch.splitlines(keepends=True):
        if line.startswith("+++ b/"):
            target = tree / line[len("+++ b/") :].strip()
        elif line.startswith("@@"):
            hunks.append((target, []))
        elif hunks and not line.startswith("--- "):
            hunks[-1][1].append(line if line != "\n" else " \n")
    for path, lines in hunks:
        text = path.read_text("utf-8")
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(old) == 1, f"{path}: the patch does not fit: {old}"
        path.write_text(text.replace(old, new), "utf-8")


def fails(patch: Path, seed: str) -> bool:
    """Whether ``seed`` finds the fault of ``patch``."""
    with planted(patch) as copy:
        command = [sys.executable, "-m", "tests.simulation", "--seeds", "1", "--from", seed]
        command += ["--shrink", "0", "--processes", "1"]
        ended = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
        return f": seeds {seed}" in ended.stdout


def find(patch: Path, processes: int, shrink_runs: int = 0) -> Found:
    """Look for a seed that fails with ``patch``."""
    with planted(patch) as copy:
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
