"""The configuration reference in Markdown, made from the tables: ``python -m oda.config.reference``
prints docs/configuration.md. Otherwise pure."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import Enum
from typing import Any

from oda.config.components import COMPONENTS, PLUGINS_FILE
from oda.config.keys import Component, Key, Section

_HEAD = """\
# Configuration

One directory holds one file for each component. `--conf DIR` names it; the default is `./conf`, or
`/etc/oda` if `./conf` does not exist. This page is generated from the tables with which the agent
reads the files (`python -m oda.config.reference > docs/configuration.md`).

## Syntax

The syntax is that of Java properties: `key=value`, also with `:` or a blank between the two. Lines
that begin with `#` or `!` are comments; a backslash at the end continues a line; `\\t`, `\\n`,
`\\uXXXX` and the like are escapes. A `:`, `=` or blank that belongs to a *key* needs a backslash
before it. Files are UTF-8; the agent reads other bytes as ISO-8859-1. Blanks around a value don't
count. The syntax has no comments after a value; where a number, a word or a schedule is expected,
the agent removes such a comment and warns.

- The agent reports all faults of all files at once, as `file:line: key: what is wrong, what is
  allowed`, and does not start. While it runs, it reports a faulty change and does not apply it.
- An empty value is a fault, and so is an unknown key that looks like a known one or belongs in
  another file. Other content of existing ODA files is a warning: a key that stands twice (the last
  line counts, as in Java), any other unknown key, a script line without a script. An empty
  `deviceId=`, `path=`, `source=` or `reducedOutput=` is ignored.
- The log names files of components that this agent doesn't have once; the agent leaves them alone.
- Changes take effect while the agent runs. If a file is removed, its defaults apply.
- `true` and `false` are the only booleans. Names of choices may be in any case, with or without `-`
  and `_` (`messagePack` is `MESSAGE_PACK`). `msgPack` works as well.
- Relative paths of keys and certificates start at the configuration directory. Paths that existing
  ODA files contain (`source`, `path`, `databasePath`) start at the working directory, as in ODA.

## Environment

A variable that a table names overrides the file (unless it is empty). Use this to keep the key out
of the files: `ODA_API_KEY`, or `apiKeyFile` with a file that only the agent's user can read. A
variable for one of `apiKey` and `apiKeyFile` overrides both.

Each variable begins with `ODA_`. The agent ignores others with that prefix, and warns if a name is
probably misspelt. Container platforms set variables with that prefix too, for a service called oda:
the agent ignores a value like `tcp://10.0.0.7:8080` and warns.

## `device.cfg`

This file holds what is the device's own, where all other files are the same on each device of a
fleet ([fleets.md](fleets.md)). It may have each key for which a table names a variable, whatever
the component. A value in `device.cfg` overrides the one in the component's file, and the
environment overrides both. `apiKey` or `apiKeyFile` in `device.cfg` overrides both keys of the
component's file.
"""

_PLUGINS = f"""\
## `{PLUGINS_FILE}`

Third-party code that the agent loads.

| key | default | allowed | meaning |
|---|---|---|---|
| `plugins` | none | names, separated by commas | the plugins to load, in this order; each is a \
`twisted.plugin` in the package `oda.plugins` |
| `<plugin>.<option>` | none | any text, also none | an option, passed to that plugin as it is |
"""


def render() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(_component(component) for component in COMPONENTS), _PLUGINS])


def _component(component: Component) -> str:
    return "\n".join(_lines_of(component)) + "\n"


def _lines_of(component: Component) -> Iterator[str]:
    yield f"## `{component.file}`\n\n{component.about}"
    if component.variants:
        names = " or ".join(f"`{name}`" for name in component.variants)
        yield f"\n{names} may replace it, with the same keys; two of them are a fault."
    keys = [(section, key) for section in component.sections for key in section.keys]
    overridable = set(component.overridable())
    if keys:
        variable = " | variable" if overridable else ""
        yield f"\n| key | default | unit | allowed | meaning{variable} |"
        yield "|---|---|---|---|---|" + ("---|" if overridable else "")
    for section, key in keys:
        cells = [
            f"`{key.name}`",
            _default(section, key),
            key.parser.unit,
            key.parser.allowed,
            _meaning(key),
        ]
        if overridable:
            cells.append(f"`{key.variable}`" if key in overridable else "")
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    if component.lines is not None:
        lines = component.lines
        yield f"\nAny number of lines `{lines.form}=...`: {lines.meaning}."
        yield f"Allowed: {lines.allowed}."
        for old, new in lines.renamed.items():
            yield f"`{old}` of older files is read as the script of `{new}`."
    for name, reason in component.ignored.items():
        yield f"\n`{name}` is accepted and ignored: {reason}."


def _meaning(key: Key) -> str:
    also = ", ".join(f"`{alias}`" for alias in key.aliases)
    return f"{key.meaning} (also written {also})" if also else key.meaning


def _default(section: Section, key: Key) -> str:
    if section.requires(key):
        return f"required (or `{key.alternative}`)" if key.alternative else "required"
    return _shown(section.default(key))


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Enum):
        return f"`{value.value}`"
    if isinstance(value, float):
        return f"`{value:.10g}`"
    return f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(render())
