"""Puts the faults of a mutant into a module that is imported already.

A fault in a function is put into the function's code. A constant, or what a function takes by
default, was computed when the module was imported: the faulty module is run once more, aside, and
where a value differs it is put in the place of the original, also where others imported it by name.
"""

from __future__ import annotations

import ast
import gc
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

#: By the qualified name; some have one name, such as a property that can be set.
Functions = dict[str, list[FunctionType]]
#: A file, and some of its lines.
Place = tuple[str, set[int]]
#: What traced functions call.
HIT = "__oda_mutation_hit__"
_PLAIN = (int, float, str, bytes, type(None))
_DEFAULTS = ("__defaults__", "__kwdefaults__")


class NotPatchableError(Exception):
    """The fault can't be put into a module that is imported."""


class _Change(NamedTuple):
    """``name`` of ``holder`` becomes ``value``; ``known_as`` is how the module calls it."""

    known_as: str
    holder: Any
    name: str
    value: object


def functions_in(places: tuple[str, ...]) -> dict[str, Functions]:
    """The functions of the modules at ``places`` that are there, by the module's file."""
    found: defaultdict[str, Functions] = defaultdict(lambda: defaultdict(list))
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and one.__code__.co_filename.startswith(places):
            found[one.__code__.co_filename][one.__code__.co_qualname].append(one)
    return found


def code_patch(functions: Functions, path: str, source: str) -> Callable[[], None]:
    """What lets the ``functions`` of the module at ``path`` do what ``source`` says. Raises
    ``NotPatchableError``."""
    return _patch_of(functions, compile(source, path, "exec", dont_inherit=True))


def tracing_patch(functions: Functions, path: str, places: list[Place]) -> Callable[[], None]:
    """What lets the ``functions`` of the module at ``path`` call ``HIT`` with a number before each
    statement: the index of its place, which is appended to ``places``."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    for node in list(ast.walk(tree)):
        if isinstance(node, ast.Module | ast.ClassDef):
            continue
        for name, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                setattr(node, name, list(_with_calls(value, path, places)))
    return _patch_of(functions, compile(tree, path, "exec", dont_inherit=True))


def _with_calls(body: list[ast.stmt], path: str, places: list[Place]) -> Iterator[ast.stmt]:
    for statement in body:
        lines = set(range(statement.lineno, (statement.end_lineno or 0) + 1))
        for inner in ast.walk(statement):
            # What is inside has a call of its own.
            if isinstance(inner, ast.stmt) and inner is not statement:
                lines -= set(range(inner.lineno, (inner.end_lineno or 0) + 1))
        call = ast.parse(f"{HIT}({len(places)})").body[0]
        places.append((path, lines))
        for node in ast.walk(call):
            ast.copy_location(node, statement)
        yield call
        yield statement


def _patch_of(functions: Functions, module: CodeType) -> Callable[[], None]:
    codes: defaultdict[str, list[CodeType]] = defaultdict(list)
    _collect(module, codes)
    pairs: list[tuple[FunctionType, CodeType]] = []
    for name, there in functions.items():
        if "<locals>" in name:
            continue  # what defines them is patched
        firsts = sorted({one.__code__.co_firstlineno for one in there})
        new = sorted(codes[name], key=lambda code: code.co_firstlineno)
        if len(firsts) != len(new):
            raise NotPatchableError(name)
        for one in there:
            code = new[firsts.index(one.__code__.co_firstlineno)]
            if len(code.co_freevars) != len(one.__code__.co_freevars):
                raise NotPatchableError(name)
            pairs.append((one, code))

    def patch() -> None:
        for function, code in pairs:
            function.__code__ = code

    return patch


def value_patch(path: str, source: str) -> tuple[set[str], Callable[[], None]]:
    """The names of the values that differ, and what puts them into their places. Raises
    ``NotPatchableError``, or what running the module raises."""
    old = next(one for one in list(sys.modules.values()) if getattr(one, "__file__", None) == path)
    new = ModuleType(old.__name__)
    new.__file__ = path
    exec(compile(source, path, "exec", dont_inherit=True), new.__dict__)
    changes = list(_changes(old, new))
    if not changes:
        raise NotPatchableError(path)

    def patch() -> None:
        for change in changes:
            holders = [change.holder]
            if isinstance(change.holder, ModuleType):
                before = vars(old)[change.name]
                holders += [
                    one
                    for one in list(sys.modules.values())
                    if one.__name__.startswith(("oda.", "tests."))
                    and vars(one).get(change.name) is before
                ]
            for holder in holders:
                setattr(holder, change.name, change.value)

    members = {change.name for change in changes if not change.name.startswith("_")}
    return {change.known_as for change in changes} | members, patch


def _changes(old: ModuleType, new: ModuleType) -> Iterator[_Change]:
    for name, value in vars(new).items():
        before = vars(old).get(name)
        if not name.startswith("__"):
            yield from _change(name, old, name, before, value)
        if isinstance(value, type) and isinstance(before, type) and value is not before:
            for member, inner in vars(value).items():
                yield from _change(name, before, member, vars(before).get(member), inner)


def _change(
    known_as: str, holder: Any, name: str, before: object, value: object
) -> Iterator[_Change]:
    if isinstance(value, classmethod | staticmethod):
        value, before = value.__func__, getattr(before, "__func__", None)
    if isinstance(value, FunctionType) and isinstance(before, FunctionType):
        for kind in _DEFAULTS:
            yield from _change(
                value.__name__ if value.__name__ != "__init__" else known_as,
                before,
                kind,
                getattr(before, kind),
                getattr(value, kind),
            )
    elif _is_plain(value) and _is_plain(before) and value != before:
        if name.startswith("__") and name not in _DEFAULTS:
            raise NotPatchableError(name)
        yield _Change(known_as, holder, name, value)


def _is_plain(value: object) -> bool:
    match value:
        case tuple() | list() | frozenset() | set():
            return all(_is_plain(one) for one in value)
        case dict():
            return all(_is_plain(one) for pair in value.items() for one in pair)
        case _:
            return type(value) in (*_PLAIN, bool)


def _collect(code: CodeType, codes: defaultdict[str, list[CodeType]]) -> None:
    for one in code.co_consts:
        if isinstance(one, CodeType):
            codes[one.co_qualname].append(one)
            _collect(one, codes)
