"""Makes the mutants of a module: copies of it with one small fault each.

A mutant is an edit of the module's text, found by its syntax tree, so that its difference to the
original is as small as the fault. What has no behaviour of its own is left alone: docstrings,
annotations, decorators, log calls, contracts, ``__repr__`` and ``__slots__``. So is what fails for
a trivial reason: a local name that is assigned once is needed by the next line.
"""

from __future__ import annotations

import ast
import difflib
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

#: What each comparison becomes: its neighbour, and its opposite.
_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
}
_LOGGERS = {"log", "_log"}
_SKIPPED_NAMES = {"__repr__", "__slots__"}
#: What is derived from these only says what others do.
_CONTRACTS = {"Interface", "Protocol"}

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Mutant(NamedTuple):
    """The module's text from byte ``start`` to ``end`` is replaced. ``name`` stays the same when
    lines are added elsewhere in the module: it says where the fault is, and what it is.
    ``in_function``: it shows when a function is called, not when the module is imported."""

    name: str
    line: int
    last_line: int
    start: int
    end: int
    replacement: str
    in_function: bool

    def apply(self, source: str) -> str:
        """The module's text with the fault."""
        text = source.encode()
        return (text[: self.start] + self.replacement.encode() + text[self.end :]).decode()

    def diff(self, source: str, path: str) -> str:
        """The fault as a unified diff."""
        lines = difflib.unified_diff(
            source.splitlines(), self.apply(source).splitlines(), path, path, n=2, lineterm=""
        )
        return "\n".join(lines)


class _Edit(NamedTuple):
    """``node`` is to be replaced by ``replacement``, in the function or class ``where``."""

    where: str
    in_function: bool
    node: ast.expr | ast.stmt
    replacement: str


def mutants_of(source: str) -> list[Mutant]:
    """All mutants of a module, in the order of the text."""
    text = source.encode()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    seen: Counter[str] = Counter()
    found: dict[tuple[int, int, str], Mutant] = {}
    for where, in_function, node, replacement in _edits(ast.parse(source), "", False):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        before = " ".join(text[start:end].decode().split())
        name = f"{where or 'module'}: {before} -> {replacement}"
        place = (start, end, replacement)
        if place in found or replacement.encode() == text[start:end]:
            continue  # a condition that is a constant is forced, and swapped as well
        seen[name] += 1
        if seen[name] > 1:
            name = f"{name} ({seen[name]})"
        found[place] = Mutant(
            name, node.lineno, node.end_lineno, start, end, replacement, in_function
        )
    return [found[place] for place in sorted(found)]


def _edits(node: ast.AST, where: str, in_function: bool) -> Iterator[_Edit]:
    """The faults in ``node`` and below, but for what has no behaviour."""
    if _has_no_behaviour(node):
        return
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        where = f"{where}.{node.name}" if where else node.name
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from _statements_left_out(node, where)
    if isinstance(node, ast.expr):
        for replacement in _replacements(node):
            yield _Edit(where, in_function, node, replacement)
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        # A loop that is forced to go on says nothing: it never ends.
        for forced in ("False",) if isinstance(node, ast.While) else ("True", "False"):
            yield _Edit(where, in_function, node.test, forced)
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "bases"):
            continue
        if field == "keywords" and isinstance(node, ast.ClassDef):
            continue  # how it is kept in memory
        # What a function takes by default is computed when the module is imported.
        inside = in_function or (field == "body" and isinstance(node, _FUNCTIONS))
        for child in value if isinstance(value, list) else (value,):
            if isinstance(child, ast.AST):
                yield from _edits(child, where, inside)


def _has_no_behaviour(node: ast.AST) -> bool:
    match node:
        case ast.ClassDef(bases=bases):
            return any(isinstance(one, ast.Name) and one.id in _CONTRACTS for one in bases)
        case ast.FunctionDef(name=name) if name in _SKIPPED_NAMES:
            return True
        case ast.Assign(targets=[ast.Name(id=name)]) if name in _SKIPPED_NAMES:
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name)))):
            return name in _LOGGERS
        case ast.JoinedStr():  # a text for people; its parts have no exact place before 3.12
            return True
    return False


def _replacements(node: ast.expr) -> Iterator[str]:
    """What an expression may become; in brackets where it may stand inside another one."""
    match node:
        case ast.Compare(left=left, ops=[operator, *others], comparators=comparators):
            for other in _COMPARISONS[type(operator)]:
                yield ast.unparse(ast.Compare(left, [other(), *others], comparators))
        case ast.BoolOp(op=connective, values=values):
            swapped = ast.Or() if isinstance(connective, ast.And) else ast.And()
            yield f"({ast.unparse(ast.BoolOp(swapped, values))})"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield f"({ast.unparse(operand)})"
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _ARITHMETIC:
            yield f"({ast.unparse(ast.BinOp(left, _ARITHMETIC[type(sign)](), right))})"
        case ast.Constant(value=bool() as value):
            yield str(not value)
        case ast.Constant(value=int() | float() as value):
            yield repr(value + 1)


def _statements_left_out(function: _Function, where: str) -> Iterator[_Edit]:
    """Statements of ``function`` that do nothing, and returns that return nothing."""
    own = list(_own_statements(function.body))
    assigned = Counter(
        target.id
        for statement in own
        if isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign)
        for target in _targets(statement)
        if isinstance(target, ast.Name)
    )
    for statement in own:
        if _has_no_behaviour(statement):
            continue
        match statement:
            case ast.Expr() | ast.Break() | ast.Continue() | ast.Raise():
                yield _Edit(where, True, statement, "pass")
            case ast.Return(value=None):
                if statement is not function.body[-1]:
                    yield _Edit(where, True, statement, "pass")
            case ast.Return(value=ast.Constant(value=False)):
                pass  # it would still count as false
            case ast.Return():
                yield _Edit(where, True, statement, "return None")
            case ast.AugAssign():
                yield _Edit(where, True, statement, "pass")
            case ast.Assign() | ast.AnnAssign(value=ast.expr()):
                names = [one for one in _targets(statement) if isinstance(one, ast.Name)]
                if all(assigned[one.id] > 1 for one in names):
                    yield _Edit(where, True, statement, "pass")


def _targets(statement: ast.Assign | ast.AugAssign | ast.AnnAssign) -> Iterator[ast.expr]:
    for target in statement.targets if isinstance(statement, ast.Assign) else (statement.target,):
        if isinstance(target, ast.Tuple):
            yield from target.elts
        else:
            yield target


def _own_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a function, but not those of functions and classes in it."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        yield statement
        for _, value in ast.iter_fields(statement):
            for child in value if isinstance(value, list) else ():
                if isinstance(child, ast.stmt):
                    yield from _own_statements([child])
                elif isinstance(child, ast.ExceptHandler | ast.match_case):
                    yield from _own_statements(child.body)
