"""The reference pages of what embedders and plugins use, made from the docstrings.

``python -m oda.reference model > docs/reference-model.md`` writes one page; ``errors`` and
``interfaces`` are the others. The tests compare the pages with the modules.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from importlib import import_module

MODULES = ("model", "errors", "interfaces")


def render(module: str) -> str:
    """The page of ``oda.<module>``."""
    tree = ast.parse(inspect.getsource(import_module(f"oda.{module}")))
    lines = [f"# `oda.{module}`", "", *_text(tree)]
    lines += [f"This page is generated (`python -m oda.reference {module}`).", ""]
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            lines += _class(node)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            lines += [f"## `{node.name}`", "", f"`{_signature(node)}`", "", *_text(node)]
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            lines += _constant(node)
    return "\n".join(lines).rstrip() + "\n"


def _class(node: ast.ClassDef) -> Iterator[str]:
    bases = [ast.unparse(base) for base in node.bases]
    shown = [base for base in bases if base not in ("Interface", "msgspec.Struct")]
    yield from (f"## `{node.name}`", "")
    yield from _text(node)
    if shown:
        kinds = ", ".join(f"`{base.lstrip('_')}`" for base in shown)
        yield from (f"A kind of {kinds}.", "")
    members = [line for part in node.body for line in _member(part)]
    if members:
        yield from (*members, "")


def _member(node: ast.stmt) -> Iterator[str]:
    """A field, a constant, an attribute or a method, as an entry of a list."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        name, kind, value = node.target.id, ast.unparse(node.annotation), node.value
        if name.startswith("_"):
            return
        if isinstance(value, ast.Call) and ast.unparse(value.func) == "Attribute":
            yield f"- `{name}: {kind}`: {_plain(ast.literal_eval(value.args[0]))}"
        elif value is None:
            yield f"- `{name}: {kind}`"
        else:
            yield f"- `{name}: {kind} = {_default(value)}`"
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        name = node.targets[0].id
        if not name.startswith("_"):
            yield f"- `{name} = {ast.unparse(node.value)}`"
    elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
        text = " ".join(" ".join(_text(node)).split())
        is_property = any(ast.unparse(one) == "property" for one in node.decorator_list)
        head = node.name if is_property else _signature(node)
        yield f"- `{head}`: {text}" if text else f"- `{head}`"


def _default(value: ast.expr) -> str:
    """The default of a field; one that is made anew for each object is shown as it is made."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "msgspec.field":
        for keyword in value.keywords:
            if keyword.arg == "default":
                return ast.unparse(keyword.value)
            if keyword.arg == "default_factory":
                return f"{ast.unparse(keyword.value)}()"
    return ast.unparse(value)


def _constant(node: ast.AnnAssign | ast.Assign) -> Iterator[str]:
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    value = node.value
    if isinstance(target, ast.Name) and not target.id.startswith("_") and value is not None:
        yield from (f"## `{target.id}`", "", f"`{target.id} = {ast.unparse(value)}`", "")


def _signature(node: ast.FunctionDef) -> str:
    arguments = re.sub(r"^self(, )?", "", ast.unparse(node.args))
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    return f"{node.name}({arguments}){returns}"


def _text(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> list[str]:
    """The docstring as Markdown, with an empty line behind it."""
    text = ast.get_docstring(node)
    if not text:
        return []
    head, marker, block = text.partition("\n::\n")
    lines = _plain(head).rstrip().split("\n")
    if marker:
        literal = [line.removeprefix("    ") for line in block.strip("\n").split("\n")]
        lines += ["", "```text", *literal, "```"]
    return [*lines, ""]


def _plain(text: str) -> str:
    return text.replace("``", "`")


if __name__ == "__main__":
    sys.stdout.write(render(sys.argv[1]))
