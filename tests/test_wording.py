"""Numbers agree with their nouns."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from oda.wording import counted

ROOT = Path(__file__).resolve().parent.parent / "oda"
#: A count in front of a plural noun: "{count} messages", "{len(lines)} entries".
_COUNTED = re.compile(
    r"\{(?:len\([^{}]*\)|[a-z_.]*(?:count|number|rows|total|messages|datapoints|letters|lost|left))\}"
    r" (?:[a-z]+ )?[a-z]+s\b"
)

#: Numbers that are never 1 where they are shown: sizes, and what is over a limit.
_LARGE = ("bytes", "digits", "times", "entries")


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Every string of a module that is no docstring, f-strings with their expressions in braces."""
    tree = ast.parse(path.read_text())
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield (
                node.lineno,
                "".join(
                    str(piece.value)
                    if isinstance(piece, ast.Constant)
                    else "{" + ast.unparse(getattr(piece, "value", piece)) + "}"
                    for piece in node.values
                ),
            )
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in silent
        ):
            yield node.lineno, node.value


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 messages"), (1, "1 message"), (2, "2 messages")]
)
def test_counted(number: int, text: str) -> None:
    """Only one is singular."""
    assert counted(number, "message") == text


def test_an_irregular_plural() -> None:
    """A noun may bring its plural along."""
    assert [counted(n, "entry", "entries") for n in (1, 2)] == ["1 entry", "2 entries"]


def test_no_text_of_the_agent_has_a_plural_behind_a_bare_count() -> None:
    """ "has 1 faults" is what a stranger notices first: such texts go through ``counted``."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {found[0]}"
        for path in sorted(ROOT.rglob("*.py"))
        for line, text in texts(path)
        if (found := _COUNTED.search(text)) and not found[0].endswith(_LARGE)
    ]
    assert wrong == []
