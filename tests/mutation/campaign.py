"""Tries mutants of the outbox and the operations, in a copy of the tree.

A mutant is killed when a test that reaches it fails, or takes several times as long as it takes
without it: that is how an endless loop shows. What is known to change nothing that can be seen is
listed with its reason in ``survivors.md`` and counted apart.

Python starts again only for the few mutants that can't be put into an imported module: see
``patching``.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.mutation.forked import Tests
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.patching import NotPatchableError, code_patch, value_patch

ROOT = Path(__file__).resolve().parent.parent.parent
SURVIVORS = Path(__file__).with_name("survivors.md")

PACKAGES = ("oda/outbox", "oda/operations")
TESTS = ("tests/outbox", "tests/operations")

#: The tests of a mutant take no more seconds together than this, as they were first measured; a
#: mutant that only slower ones would find counts as a survivor.
_WITHIN_S = 10.0
#: A mutant for which Python starts again has so many seconds of the processor, and on the wall.
_LIMIT_S = 60
_WALL_LIMIT_S = 600.0
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
            f" {share:.1f} % killed"
        )


class Chosen(NamedTuple):
    """Which mutants are tried: ``size`` of each module (None: all), which ones depends on ``seed``;
    only those in ``names``, each after its module, unless that is None."""

    modules: Sequence[str]
    size: int | None = None
    seed: int = 0
    names: frozenset[str] | None = None


def modules() -> list[str]:
    """The modules of the packages that have mutants."""
    paths = [path for one in PACKAGES for path in sorted((ROOT / one).glob("*.py"))]
    found = [path for path in paths if mutants_of(path.read_text(encoding="utf-8"))]
    return [str(path.relative_to(ROOT)) for path in found]


def known_equivalents() -> set[str]:
    """The names of the mutants that ``survivors.md`` lists, each after its module."""
    lines = SURVIVORS.read_text(encoding="utf-8").splitlines()
    return {line[2:].strip() for line in lines if line.startswith("- ")}


def survivors_in(text: str) -> frozenset[str]:
    """The mutants that survived, each after its module, in what an earlier campaign printed."""
    found = [line.split(maxsplit=2)[1:] for line in text.splitlines() if line.startswith("surv")]
    return frozenset(f"{place.rpartition(':')[0]} {name}" for place, name in found)


def sample_of(mutants: Sequence[Mutant], size: int | None, seed: str) -> list[Mutant]:
    """``size`` of the mutants, the same for a seed, in the order of the text; None means all."""
    if size is None or size >= len(mutants):
        return list(mutants)
    chosen = random.Random(seed).sample(range(len(mutants)), size)
    return [mutants[index] for index in sorted(chosen)]


class Campaign:
    """A plugin of pytest that tries mutants instead of running tests. ``root`` is a copy of the
    tree, and the current directory. ``scores`` has each module's."""

    def __init__(
        self, root: Path, chosen: Chosen, equivalents: set[str], say: Callable[[str], None]
    ) -> None:
        self._root = root
        self._chosen = chosen
        self._equivalents = equivalents
        self._say = say
        self._scratch: list[str] = []
        self.scores: dict[str, Score] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """The plugin's hook."""
        places = {str((self._root / one).parent) + os.sep for one in self._chosen.modules}
        tests = Tests(session, sorted(places))
        scratch = session.config.getoption("basetemp")
        self._scratch = [f"--basetemp={scratch}-2"] if scratch else []
        for name in tests.learn():
            self._say(f"not used, for it fails without a mutant: {name}")
        for module in self._chosen.modules:
            self.scores[module] = self._try(tests, module)
            self._say(f"{module}: {self.scores[module]}")
        return True

    def _try(self, tests: Tests, module: str) -> Score:
        path = self._root / module
        source = path.read_text(encoding="utf-8")
        patch = code_patch(tests.functions(str(path)), str(path), source)
        while tests.kill(tests.reaching({str(path): _every_line(source)}, _WITHIN_S), patch):
            # In another order than usual; one that fails by chance would kill any mutant.
            self._say(f"not used, for it failed without a mutant: {tests.forget_killer()}")
        names, score = self._chosen.names, Score()
        mutants = mutants_of(source)
        for mutant in sample_of(mutants, self._chosen.size, f"{self._chosen.seed} {module}"):
            name = f"{module} {mutant.name}"
            if names is not None and name not in names:
                continue
            fate = Fate.EQUIVALENT
            if name not in self._equivalents:
                try:  # the file as well, for what a test starts
                    path.write_text(mutant.apply(source), encoding="utf-8")
                    is_killed = self._kills(tests, path, mutant)
                finally:
                    path.write_text(source, encoding="utf-8")
                fate = Fate.KILLED if is_killed else Fate.SURVIVED
            score = score.plus(fate)
            self._say(f"{fate.value:10} {module}:{mutant.line} {mutant.name}")
            if fate is Fate.SURVIVED:
                self._say(mutant.diff(source, module))
        return score

    def _kills(self, tests: Tests, path: Path, mutant: Mutant) -> bool:
        place, source = str(path), path.read_text(encoding="utf-8")
        try:
            if mutant.in_function:
                lines = {place: set(range(mutant.line, mutant.last_line + 1))}
                chosen = tests.reaching(lines, _WITHIN_S)
                patch = code_patch(tests.functions(place), place, source)
            else:
                names, patch = value_patch(place, source)
                chosen = tests.naming(names, _WITHIN_S)
            return tests.kill(chosen, patch)
        except NotPatchableError:
            return self._kills_from_the_start(tests, place, source)
        except Exception:
            return True  # nothing can import such a module

    def _kills_from_the_start(self, tests: Tests, place: str, source: str) -> bool:
        """As ``_kills``, for what can't be patched: in a Python that is started for it."""
        chosen = tests.names(tests.reaching({place: _every_line(source)}, _WITHIN_S))
        running = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-x", *OPTIONS, *self._scratch, *chosen],
            cwd=self._root,
            env={**os.environ, **ENVIRONMENT},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_bound,
        )
        try:
            return running.wait(_WALL_LIMIT_S) != 0
        except subprocess.TimeoutExpired:
            return True
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()


def _every_line(source: str) -> set[int]:
    return set(range(1, source.count("\n") + 2))


#: Nothing is remembered of one mutant for the next, and no time goes into a fine report.
OPTIONS = ("-q", "-s", "--tb=no", "-p", "no:cacheprovider", "-p", "tests.mutation.examples")
ENVIRONMENT: Mapping[str, str] = {
    "ODA_TEST_FDATASYNC_MS": "0",
    "ODA_OUTBOX_EXAMPLES": "20",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def _bound() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_LIMIT_S, _LIMIT_S))
