"""Runs the tests of a module against its mutants, in a copy of the tree.

A mutant is killed when a test fails, or when the tests take several times as long as they take
without it: that is how an endless loop shows. What is known to change nothing that can be seen is
listed with its reason in ``survivors.md`` and counted apart.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from tests.mutation.mutants import Mutant, mutants_of

ROOT = Path(__file__).resolve().parent.parent.parent
SURVIVORS = Path(__file__).with_name("survivors.md")

_OUTBOX = ("contract", "answers", "watermark", "reentrancy", "journal", "trouble", "durable")
_OPERATIONS = ("execution", "dispatcher", "one_answer", "admission", "operations", "sizes")

#: What the tests of a module are, besides those of its package: its own tests come first.
_FIRST = {
    "oda/outbox/backlog.py": ("lingering", "uncommitted", "recovery", "leftovers"),
    "oda/outbox/committer.py": ("uncommitted", "trouble", "files"),
    "oda/outbox/eviction.py": ("overdraft",),
    "oda/outbox/journal.py": ("journal", "answers", "importing"),
    "oda/outbox/ledger.py": ("ledger", "uncommitted"),
    "oda/outbox/limits.py": ("limits", "overdraft"),
    "oda/outbox/queue.py": ("queue", "lingering", "recovery"),
    "oda/outbox/transaction.py": ("uncommitted", "overdraft"),
    "oda/outbox/watermark.py": ("watermark",),
    "oda/operations/admission.py": ("admission",),
    "oda/operations/answer.py": ("sizes", "answers_to_bad_requests", "unreadable_requests"),
    "oda/operations/dispatcher.py": ("dispatcher", "unreadable_requests"),
    "oda/operations/execution.py": ("execution", "one_answer"),
}
MODULES = tuple(_FIRST)

#: A mutant's tests may take so many times as long as those of the original, and some more.
_TIME_FACTOR = 3.0
_TIME_EXTRA_S = 10.0
#: An endless loop must not take the machine's memory.
_MAX_MEMORY_BYTES = 4 << 30


class Fate(Enum):
    """What became of a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    EQUIVALENT = "equivalent"


class Score(NamedTuple):
    """How many mutants ended how."""

    killed: int = 0
    survived: int = 0
    equivalent: int = 0

    def plus(self, fate: Fate) -> Score:
        count = getattr(self, fate.value) + 1
        return self._replace(**{fate.value: count})

    def __str__(self) -> str:
        counted = self.killed + self.survived
        share = 100 * self.killed / counted if counted else 100.0
        return (
            f"{self.killed} killed, {self.survived} survived, {self.equivalent} equivalent:"
            f" {share:.0f} % killed"
        )


def files_for(module: str) -> list[str]:
    """The files with the tests that belong to a module, those that find most first."""
    package, usual = "outbox", _OUTBOX
    if module.startswith("oda/operations/"):
        package, usual = "operations", _OPERATIONS
    names = dict.fromkeys((*_FIRST.get(module, ()), *usual))
    return [f"tests/{package}/test_{name}.py" for name in names]


def known_equivalents() -> set[str]:
    """The names of the mutants that ``survivors.md`` lists, each after its module."""
    lines = SURVIVORS.read_text(encoding="utf-8").splitlines()
    return {line[2:].strip() for line in lines if line.startswith("- ")}


def sample_of(mutants: Sequence[Mutant], size: int | None, seed: str) -> list[Mutant]:
    """``size`` of the mutants, the same for a seed, in the order of the text; None means all."""
    if size is None or size >= len(mutants):
        return list(mutants)
    chosen = random.Random(seed).sample(range(len(mutants)), size)
    return [mutants[index] for index in sorted(chosen)]


class Campaign:
    """The mutants of one module. ``root`` is the tree to copy, ``copy`` an empty place for it."""

    def __init__(
        self,
        root: Path,
        copy: Path,
        module: str,
        tests: Sequence[str],
        say: Callable[[str], None],
        extra_s: float = _TIME_EXTRA_S,
    ) -> None:
        self._copy = copy
        self._extra_s = extra_s
        self._module = module
        self._tests = tests
        self._say = say
        ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
        shutil.copytree(root, copy, dirs_exist_ok=True, ignore=ignored)
        self._path = copy / module
        self._source = self._path.read_text(encoding="utf-8")

    def run(self, size: int | None, seed: int, equivalents: set[str]) -> Score:
        """Try a sample of the mutants. Raises ``RuntimeError`` when the original fails."""
        began_s = time.monotonic()
        if not self._passes(None, writes_bytecode=True):
            raise RuntimeError(f"the tests of {self._module} fail without a mutant")
        limit_s = (time.monotonic() - began_s) * _TIME_FACTOR + self._extra_s
        mutants = mutants_of(self._source)
        sample = sample_of(mutants, size, f"{seed} {self._module}")
        self._say(f"{self._module}: {len(sample)} of {len(mutants)} mutants")
        score = Score()
        for mutant in sample:
            fate = self._fate(mutant, limit_s, equivalents)
            score = score.plus(fate)
            self._say(f"{fate.value:10} {self._module}:{mutant.line} {mutant.name}")
            if fate is Fate.SURVIVED:
                self._say(mutant.diff(self._source, self._module))
        self._say(f"{self._module}: {score}")
        return score

    def _fate(self, mutant: Mutant, limit_s: float, equivalents: set[str]) -> Fate:
        if f"{self._module} {mutant.name}" in equivalents:
            return Fate.EQUIVALENT
        self._path.write_text(mutant.apply(self._source), encoding="utf-8")
        try:
            return Fate.SURVIVED if self._passes(limit_s) else Fate.KILLED
        finally:
            self._path.write_text(self._source, encoding="utf-8")

    def _passes(self, limit_s: float | None, writes_bytecode: bool = False) -> bool:
        # Two mutants of one second and one length look alike to the cache of compiled modules;
        # examples that Hypothesis remembers of one mutant would be tried on the next.
        for stale in self._path.parent.glob(f"__pycache__/{self._path.stem}.*"):
            stale.unlink()
        shutil.rmtree(self._copy / ".hypothesis", ignore_errors=True)
        environment = {**os.environ, "ODA_TEST_FDATASYNC_MS": "0", "ODA_OUTBOX_EXAMPLES": "20"}
        if not writes_bytecode:
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        running = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-x", "-q", "--hypothesis-seed=0", *self._tests],
            cwd=self._copy,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_bound_memory,
        )
        try:
            return running.wait(limit_s) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()


def _bound_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
