"""Runs tests against faults without starting Python again: a plugin of pytest.

Once all tests are collected, this process has everything that they import. For each fault it forks;
the child replaces the code of the module's functions by that of the faulty module, and runs the
tests that reach the fault until one fails. So a fault costs what its tests cost.

Which tests reach which lines is learnt at the beginning, by running all of them once.
"""

from __future__ import annotations

import builtins
import gc
import os
import pickle
import re
import resource
import shutil
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.mutation.patching import HIT, Functions, Place, functions_in, tracing_patch

#: A test may take so many times as long as the first time, and some more: processor time, which an
#: endless loop uses, and time on the wall, which a deadlock uses. Others use this machine, too.
_FACTOR = 4.0
_EXTRA_S = 2.0
_WALL_FACTOR = 20.0
_WALL_EXTRA_S = 20.0
#: An endless loop must not take the machine's memory.
_MAX_MEMORY_BYTES = 4 << 30

#: How a child ends. Everything else is the work of a signal.
_ALL_PASSED, _ONE_FAILED = 0, 1


class _Reach(NamedTuple):
    """The lines that a test reaches, by file, how long it took, and whether it passed."""

    lines: dict[str, set[int]]
    took_s: float
    passes: bool


class Tests:
    """The tests of a session. ``places`` are the directories and files whose lines count."""

    def __init__(self, session: pytest.Session, places: Sequence[str]) -> None:
        self._items = session.items
        self._files = {item.path for item in session.items}
        self._session = session
        self._places = tuple(places)
        self._reaches: list[_Reach] = []
        self._kills: defaultdict[int, int] = defaultdict(int)
        self._killer: int | None = None
        self._scratch = Path(session.config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]
        gc.collect()
        self._functions = functions_in(self._places)
        # What is there now is never collected: so a child neither looks at it nor copies its pages.
        gc.freeze()

    def learn(self) -> list[str]:
        """Run every test once; the names of those that fail, which are not run again."""
        answer = self._scratch / "reaches"
        if self._in_child(lambda: answer.write_bytes(pickle.dumps(self._traced()))) != _ALL_PASSED:
            raise RuntimeError("the tests could not be run")
        self._reaches = pickle.loads(answer.read_bytes())
        self._tidy()
        return [
            item.nodeid
            for item, reach in zip(self._items, self._reaches, strict=True)
            if not reach.passes
        ]

    def reaching(self, wanted: Mapping[str, set[int]], within_s: float) -> list[int]:
        """The tests that reach one of the ``wanted`` lines of files: those that take least, as long
        as they take no more than ``within_s`` together, examples of different tests first."""
        return self._quickest(
            [
                index
                for index, reach in enumerate(self._reaches)
                if any(not wanted[path].isdisjoint(reach.lines.get(path, ())) for path in wanted)
            ],
            within_s,
        )

    def naming(self, names: Iterable[str], within_s: float) -> list[int]:
        """As ``reaching``: the tests whose file names one of ``names``, or that reach a line that
        does."""
        pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, names))})\b")
        lines: dict[str, set[int]] = {}
        for path in self._functions:
            text = Path(path).read_text(encoding="utf-8").splitlines()
            lines[path] = {at for at, line in enumerate(text, 1) if pattern.search(line)}
        named = {path for path in self._files if pattern.search(path.read_text(encoding="utf-8"))}
        found = set(self.reaching(lines, within_s))
        found |= {index for index, item in enumerate(self._items) if item.path in named}
        return self._quickest(sorted(found), within_s)

    def _quickest(self, found: Sequence[int], within_s: float) -> list[int]:
        # One example of each test before the second one of any.
        examples: Counter[str] = Counter()
        ranked: list[tuple[int, float, int]] = []
        for index in sorted(found, key=lambda index: self._reaches[index].took_s):
            test = self._items[index].nodeid.partition("[")[0]
            ranked.append((examples[test], self._reaches[index].took_s, index))
            examples[test] += 1
        chosen: list[int] = []
        for _, took_s, index in sorted(ranked):
            if self._reaches[index].passes and took_s <= within_s:
                within_s -= took_s
                chosen.append(index)
        return chosen

    def names(self, chosen: Iterable[int]) -> list[str]:
        """The tests as pytest names them."""
        return [self._items[index].nodeid for index in chosen]

    def kill(self, chosen: Sequence[int], patch: Callable[[], None]) -> bool:
        """Whether one of the tests fails after ``patch``."""
        # Those first that found most faults for their time.
        order = sorted(
            chosen, key=lambda index: self._reaches[index].took_s / (1 + self._kills[index])
        )
        killer = self._scratch / "killer"
        ended = self._in_child(lambda: self._run(order, patch, killer))
        self._killer = None
        if ended != _ALL_PASSED and killer.exists():
            self._killer = int(killer.read_text())
            self._kills[self._killer] += 1
        self._tidy()
        return ended != _ALL_PASSED

    def forget_killer(self) -> str:
        """Never run the test again that failed last; its name. Raises ``RuntimeError`` where no
        test failed: then it is the patch."""
        if self._killer is None:
            raise RuntimeError("no mutant is made")
        self._reaches[self._killer] = self._reaches[self._killer]._replace(passes=False)
        return self._items[self._killer].nodeid

    def functions(self, path: str) -> Functions:
        """The functions of a module that are there."""
        return self._functions[path]

    # -- in a child --------------------------------------------------------------------------

    def _in_child(self, work: Callable[[], object]) -> int:
        """Fork and ``work``; gives how the child ended."""
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            return os.waitstatus_to_exitcode(status)
        try:
            # A group of its own: what a test starts ends with it, whatever becomes of the child.
            os.setsid()
            nowhere = os.open(os.devnull, os.O_RDWR)
            for one in (0, 1, 2):
                os.dup2(nowhere, one)
            resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
            work()
            os._exit(_ALL_PASSED)
        except BaseException:
            os._exit(_ONE_FAILED)
        finally:
            os._exit(_ONE_FAILED)

    def _run(self, order: Sequence[int], patch: Callable[[], None], killer: Path) -> None:
        patch()
        items = [self._items[index] for index in order]
        for place, index in enumerate(order):
            took_s = self._reaches[index].took_s
            killer.write_text(str(index))
            signal.setitimer(signal.ITIMER_PROF, took_s * _FACTOR + _EXTRA_S)
            signal.setitimer(signal.ITIMER_REAL, took_s * _WALL_FACTOR + _WALL_EXTRA_S)
            self._protocol(items, place)
            if self._session.testsfailed:
                os._exit(_ONE_FAILED)

    def _traced(self) -> list[_Reach]:
        places: list[Place] = []
        for path, functions in self._functions.items():
            tracing_patch(functions, path, places)()
        seen: set[int] = set()
        setattr(builtins, HIT, seen.add)
        reaches: list[_Reach] = []
        for place in range(len(self._items)):
            failed, began_s = self._session.testsfailed, time.process_time()
            self._protocol(self._items, place)
            took_s = time.process_time() - began_s
            lines: defaultdict[str, set[int]] = defaultdict(set)
            for one in seen:
                path, there = places[one]
                lines[path] |= there
            seen.clear()
            reaches.append(_Reach(dict(lines), took_s, self._session.testsfailed == failed))
        return reaches

    def _protocol(self, items: Sequence[pytest.Item], place: int) -> None:
        following = items[place + 1] if place + 1 < len(items) else None
        items[place].config.hook.pytest_runtest_protocol(item=items[place], nextitem=following)

    def _tidy(self) -> None:
        for left in self._scratch.iterdir():
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
