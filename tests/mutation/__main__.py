"""``python -m tests.mutation [--module oda/outbox/queue.py ...] [--sample N] [--seed S]``."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.mutation.campaign import (
    ENVIRONMENT,
    OPTIONS,
    ROOT,
    TESTS,
    Campaign,
    Chosen,
    Score,
    known_equivalents,
    modules,
    survivors_in,
)


def main(arguments: list[str]) -> int:
    """Tell what became of each mutant; 1 if one survived that is not listed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--module", action="append", help="default: all of the two packages")
    parser.add_argument("--sample", type=int, help="so many mutants of each module; default: all")
    parser.add_argument("--seed", type=int, default=0, help="what the sample depends on")
    parser.add_argument("--again", type=Path, help="only what survived in this earlier output")
    parser.add_argument("--in-copy", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    names = survivors_in(given.again.read_text(encoding="utf-8")) if given.again else None
    chosen = Chosen(given.module or modules(), given.sample, given.seed, names)
    if given.in_copy:
        return _in_copy(chosen)
    with tempfile.TemporaryDirectory(prefix="oda-mutation-", dir=_quick_place()) as directory:
        copy = Path(directory) / "tree"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
        shutil.copytree(ROOT, copy, ignore=ignored)
        again = ["--again", str(given.again.resolve())] if given.again else []
        here = [sys.executable, "-m", "tests.mutation", "--in-copy", *arguments, *again]
        return subprocess.call(here, cwd=copy, env={**os.environ, **ENVIRONMENT})


def _in_copy(chosen: Chosen) -> int:
    """This process runs in a copy of the tree, whose modules it may change."""
    began_s = time.monotonic()
    out, of_pytest = sys.stdout, io.StringIO()

    def say(text: str) -> None:
        out.write(f"{text}\n")
        out.flush()

    campaign = Campaign(ROOT, chosen, known_equivalents(), say)
    scratch = f"--basetemp={ROOT.parent / 'tests'}"
    with contextlib.redirect_stdout(of_pytest):
        ended = pytest.main([*OPTIONS, scratch, *TESTS], [campaign])
    if ended != pytest.ExitCode.OK:
        say(f"the tests could not be run: {ended!r}\n{of_pytest.getvalue()}")
        return 2
    total = Score()
    for score in campaign.scores.values():
        total = Score(*(one + other for one, other in zip(total, score, strict=True)))
    say(f"in all: {total}, in {time.monotonic() - began_s:.0f} s")
    return 1 if total.survived else 0


def _quick_place() -> str | None:
    """Tests of a store wait for their disk, unless it is memory."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and os.access(memory, os.W_OK) else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
