"""Configuration files for a new agent: every key with its meaning, from the tables with which the
agent reads the files and from which docs/configuration.md is made.

Keys with a value stand there with it; the others are commented out, with their defaults. Pure.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from oda.config.components import COMPONENTS
from oda.config.keys import Component, Key, Section

_WIDTH = 98
_ESCAPED_IN_KEYS = re.compile(r"([\\=: \t#!])")


def render_file(
    component: Component, values: Mapping[str, str], lines: Sequence[tuple[str, str]] = ()
) -> str:
    """The text of the component's file. ``values`` are by key name, as text; ``lines`` are its free
    lines (schedules, scripts), as name and value."""
    text = [*_comment(component.about), ""]
    for section in component.sections:
        for key in section.keys:
            text += _key(section, key, values.get(key.name))
    if component.lines is not None:
        form = component.lines
        text += _comment(f"Any number of lines {form.form}=...: {form.meaning}.")
        text += _comment(f"Allowed: {form.allowed}.")
        text += [f"{escape_key(name)}={escape_value(value)}" for name, value in lines]
    return "\n".join(text).rstrip("\n") + "\n"


def _key(section: Section, key: Key, value: str | None) -> Iterator[str]:
    about = f"{key.meaning}."
    about = about[0].upper() + about[1:]
    unit = f", in {key.parser.unit}" if key.parser.unit not in ("", "s") else ""
    default = section.default(key)
    yield from _comment(f"{about} Allowed: {key.parser.allowed}{unit}.")
    if value is not None:
        yield f"{key.name}={escape_value(value)}"
    else:
        yield f"#{key.name}={'' if default is None else _written(default)}"
    yield ""


def _comment(text: str) -> list[str]:
    # A word longer than a line would lose its comment sign if it were broken, so none is.
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH, break_long_words=False)]


def _written(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, Enum):
        return str(default.value)
    if isinstance(default, tuple):
        return ",".join(default)
    if isinstance(default, float):
        return f"{default:.10g}"
    return str(default)


def escape_value(value: str) -> str:
    """A value in Java-properties syntax."""
    escaped = value.replace("\\", "\\\\")
    return "\\" + escaped if escaped[:1].isspace() else escaped


def escape_key(name: str) -> str:
    """A key in Java-properties syntax: separators and comment signs get a backslash."""
    return _ESCAPED_IN_KEYS.sub(r"\\\1", name)


def find_key(name: str) -> tuple[Component, Key] | None:
    """The key of that name (or alias) and its component, whichever file it belongs to; None if
    there is none."""
    for component in COMPONENTS:
        key = component.key(name)
        if key is not None:
            return component, key
    return None
