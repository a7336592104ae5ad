"""The mutation runner itself: a runner that loses mutants would make the tests look better."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.campaign import (
    OPTIONS,
    ROOT,
    Fate,
    Score,
    known_equivalents,
    modules,
    sample_of,
    survivors_in,
)
from tests.mutation.mutants import mutants_of

SAMPLE = '''\
"""Room for 3 rows."""

log = None


def room(rows: int = 1, is_open: bool = True) -> int:
    log.info("asked")
    left = 3
    while rows > left and not is_open:
        left += 2
    return left - rows
'''


def _names(source: str) -> list[str]:
    return [mutant.name for mutant in mutants_of(source)]


def test_each_kind_of_fault_is_made() -> None:
    """Comparisons, connectives, arithmetic, constants, ``not``, statements, returns and conditions
    are changed, each at its place."""
    assert _names(SAMPLE) == [
        "room: 1 -> 2",
        "room: True -> False",
        "room: left = 3 -> pass",
        "room: 3 -> 4",
        "room: rows > left -> rows <= left",
        "room: rows > left -> rows >= left",
        "room: rows > left and not is_open -> (rows > left or not is_open)",
        "room: rows > left and not is_open -> False",
        "room: not is_open -> (is_open)",
        "room: left += 2 -> pass",
        "room: 2 -> 3",
        "room: return left - rows -> return None",
        "room: left - rows -> (left + rows)",
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("for a in b:\n    break\n", []),
        ("def f(a):\n    for b in a:\n        break\n", ["f: break -> pass"]),
        ("def f(a):\n    for b in a:\n        continue\n", ["f: continue -> pass"]),
        (
            "def f(a):\n    if a:\n        return\n    a()\n",
            ["f: a -> False", "f: a -> True", "f: return -> pass", "f: a() -> pass"],
        ),
        ("def f(a):\n    raise a\n", ["f: raise a -> pass"]),
        ("def f(a):\n    a.b = a\n", ["f: a.b = a -> pass"]),
        ("def f(a):\n    b = a\n    c[0] = b\n", ["f: c[0] = b -> pass", "f: 0 -> 1"]),
        ("class A:\n    __slots__ = (1,)\n    def __repr__(self):\n        return 1\n", []),
        ("class IA(Interface):\n    def f(a=1):\n        return a + 1\n", []),
        ("def f(a):\n    log.info('a', a=1)\n    _log.warn('b', a=1)\n    f'{1}'\n", []),
        ("a: Literal[1] = 2\n", ["module: 2 -> 3"]),
    ],
)
def test_what_becomes_of_a_statement(source: str, expected: list[str]) -> None:
    """Statements of a function are left out, but not those that say nothing about behaviour."""
    kept = [name for name in _names(source) if "f'" not in name]
    assert kept == expected


def test_a_mutant_is_one_small_edit() -> None:
    """A mutant changes its own place in the text and nothing else, also after letters that take
    more than one byte."""
    source = "a = 'ä', 1  # ß\nb = 'ä' + c\n"
    first, second = mutants_of(source)
    assert first.apply(source) == "a = 'ä', 2  # ß\nb = 'ä' + c\n"
    assert second.apply(source) == "a = 'ä', 1  # ß\nb = ('ä' - c)\n"
    assert "-b = 'ä' + c\n+b = ('ä' - c)" in second.diff(source, "a.py")


def test_every_module_has_mutants_with_names_of_their_own() -> None:
    """A name in ``survivors.md`` means one mutant, and a mutant that is listed exists."""
    names: list[str] = []
    for module in modules():
        source = (ROOT / module).read_text(encoding="utf-8")
        names += [f"{module} {name}" for name in _names(source)]
    assert len(set(names)) == len(names)
    assert known_equivalents() <= set(names)


def test_mutants_compile() -> None:
    """A mutant that does not compile would count as killed and say nothing."""
    for module in modules():
        source = (ROOT / module).read_text(encoding="utf-8")
        for mutant in sample_of(mutants_of(source), 10, module):
            assert ast.dump(ast.parse(mutant.apply(source))) != ast.dump(ast.parse(source))


def test_a_seed_gives_one_sample() -> None:
    """The same seed chooses the same mutants, another one others."""
    mutants = mutants_of((ROOT / modules()[0]).read_text(encoding="utf-8"))
    chosen = sample_of(mutants, 10, "1 a")
    assert chosen == sample_of(mutants, 10, "1 a")
    assert chosen != sample_of(mutants, 10, "2 a")
    assert sample_of(mutants, None, "1 a") == mutants


PLUGIN = """
from pathlib import Path
from tests.mutation.campaign import Campaign, Chosen

def pytest_configure(config):
    said = open("said", "w", buffering=1)
    say = lambda text: print(text, file=said)
    campaign = Campaign(Path.cwd(), Chosen(["sample.py"]), {"sample.py room: 7 -> 8"}, say)
    config.pluginmanager.register(campaign)
"""


def test_mutants_are_killed_by_the_tests_that_see_them(tmp_path: Path) -> None:
    """A mutant is killed when a test fails or never ends, survives when none does, and is counted
    apart when it is listed: whether it shows when a function is called or when the module is
    imported. A test that fails without a mutant kills none. The module is as it was afterwards."""
    source = (
        "ROWS = 1\nUNUSED = 5\n\ndef room(rows, most=ROWS):\n    while rows:\n"
        "        rows.pop()\n    return 7\n\ndef fits(rows):\n    return rows == ROWS\n"
    )
    (tmp_path / "sample.py").write_text(source)
    (tmp_path / "the_plugin.py").write_text(PLUGIN)
    (tmp_path / "test_sample.py").write_text(
        "from sample import fits, room, ROWS\n\n"
        "def test_room():\n    assert room([1])\n\n"
        "def test_fits():\n    assert fits(ROWS)\n    assert not fits(2)\n\n"
        "def test_fails():\n    assert room([]) == 0\n"
    )
    options = ["-p", "the_plugin", f"--basetemp={tmp_path / 'scratch'}", *OPTIONS]
    subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=60,
    )
    said = (tmp_path / "said").read_text().splitlines()
    assert said[0] == "not used, for it fails without a mutant: test_sample.py::test_fails"
    assert [line for line in said if "sample.py:" in line and "test_" not in line] == [
        "killed     sample.py:1 module: 1 -> 2",
        "survived   sample.py:2 module: 5 -> 6",
        "survived   sample.py:5 room: rows -> False",
        "killed     sample.py:6 room: rows.pop() -> pass",  # it never ends
        "killed     sample.py:7 room: return 7 -> return None",
        "equivalent sample.py:7 room: 7 -> 8",
        "killed     sample.py:10 fits: return rows == ROWS -> return None",
        "killed     sample.py:10 fits: rows == ROWS -> rows != ROWS",
        "sample.py: 5 killed, 2 survived, 1 equivalent: 71.4 % killed",
    ]
    assert survivors_in("\n".join(said)) == {
        "sample.py module: 5 -> 6",
        "sample.py room: rows -> False",
    }
    assert (tmp_path / "sample.py").read_text() == source


def test_the_score_leaves_out_what_is_equivalent() -> None:
    """The score is the share of killed ones among those that a test could kill."""
    score = Score().plus(Fate.KILLED).plus(Fate.SURVIVED).plus(Fate.EQUIVALENT)
    assert str(score) == "1 killed, 1 survived, 1 equivalent: 50.0 % killed"
