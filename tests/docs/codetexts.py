"""The texts in the agent's code: what it may say in its log and on standard error.

Each string of the code becomes a pattern, in which a ``{placeholder}`` stands for anything.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from tests.docs.pages import ROOT

#: Placeholders that hold a sentence, which then has to be one of the code's, too.
_SENTENCES = ("reason", "problem", "fault", "behaviour", "state")
#: Sentences of others: Twisted, OpenSSL, SQLite, the operating system.
FOREIGN = (
    "Connection refused",
    "TLS failed: certificate verify failed",
    "database or disk is full",
    "database disk image is malformed",
)
#: Placeholders that don't reach as far as they could.
_SHAPES = {"state": "(.*?)", "hint": r"( \(.*\?\))?"}
#: What stands in front of the reason where a parameter is wrong.
_PARAMETER = re.compile(r"^[a-z]\w+(\[\d+\])?(\.\w+)?: ")
_PLACEHOLDER = re.compile(r"{(\w*)[^{}]*}")
_LOG_METHODS = frozenset({"debug", "info", "warn", "error", "critical", "failure"})
#: A string with fewer letters of its own says nothing.
_MIN_LETTERS = 5


class Pattern(NamedTuple):
    """What a string may look like; ``names`` are its placeholders' in order."""

    expression: re.Pattern[str]
    names: tuple[str, ...]


class Texts(NamedTuple):
    """All patterns; ``logged`` those that go to the log as they are."""

    logged: list[Pattern]
    every: list[Pattern]


@cache
def texts() -> Texts:
    """The texts of the package ``oda``."""
    logged: list[Pattern] = []
    every: list[Pattern] = []
    for file in sorted((ROOT / "oda").rglob("*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        logged_here = set(_logged(tree))
        silent = {
            id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)
        }  # docstrings
        for node in ast.walk(tree):
            pattern = None if id(node) in silent else _pattern_of(node, logged_here)
            if pattern is not None:
                every.append(pattern)
        for text in logged_here:
            pattern = _compile(text)
            if pattern is not None:
                logged.append(pattern)
    return Texts(logged, every)


def is_said(line: str) -> bool:
    """Whether the agent may write this line."""
    line = line.removeprefix("Error: ")
    fault = re.fullmatch(r"\S+\.cfg(:\d+)?: (\S+: )?(.*)", line)
    if fault is not None:
        return _is_text(fault[3])
    found = [(pattern, pattern.expression.fullmatch(line)) for pattern in texts().logged]
    logged = [(pattern, match.groups()) for pattern, match in found if match is not None]
    if not logged:
        return _is_text(line) or _is_text(line.partition(": ")[2])
    return any(
        all(
            _is_text(text) or _is_text(_PARAMETER.sub("", text))
            for name, text in zip(pattern.names, groups, strict=True)
            if name in _SENTENCES and " " in (text or "")
        )
        for pattern, groups in logged
    )


def _is_text(text: str) -> bool:
    """Whether it is a text of the code, or several of them one after the other."""
    if not text:
        return False
    if text in FOREIGN or any(p.expression.fullmatch(text) for p in texts().every):
        return True
    return any(
        _is_text(text[: cut.start()]) and _is_text(text[cut.start() :])
        for cut in re.finditer(r"; | \(", text)
        if cut.start()
    )


def _logged(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in _LOG_METHODS
            and node.args
            and isinstance(node.args[0], ast.Constant)
            and isinstance(node.args[0].value, str)
        ):
            yield node.args[0].value


def _pattern_of(node: ast.AST, logged: set[str]) -> Pattern | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return None if node.value in logged else _compile(node.value)
    if isinstance(node, ast.JoinedStr):
        pieces = [
            re.escape(str(piece.value)) if isinstance(piece, ast.Constant) else "(.*)"
            for piece in node.values
        ]
        letters = "".join(str(p.value) for p in node.values if isinstance(p, ast.Constant))
        return _made_of("".join(pieces), letters, ())
    return None


def _compile(text: str) -> Pattern | None:
    names = tuple(_PLACEHOLDER.findall(text))
    literal = _PLACEHOLDER.split(text)[::2]
    expression = re.escape(literal[0])
    for name, piece in zip(names, literal[1:], strict=True):
        expression += _SHAPES.get(name, "(.*)") + re.escape(piece)
    return _made_of(expression, "".join(literal), names)


def _made_of(expression: str, letters: str, names: tuple[str, ...]) -> Pattern | None:
    if sum(letter.isalpha() for letter in letters) < _MIN_LETTERS:
        return None
    return Pattern(re.compile(expression, re.S), names)
