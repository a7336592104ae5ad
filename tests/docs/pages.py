"""The project's Markdown pages, as far as they can be checked: blocks, links, headings, code.

The pages follow a few conventions, so that a block says what it has to be checked against:

- ``properties``: a part of a configuration file, named by a comment in its first line or in the
  text of the section before it;
- ``python``: a part of a file under docs/examples word for word, or else a program: the blocks of
  a page run one after the other;
- ``sh`` and ``console`` (lines with ``$``): commands, or a part of an example; also an untagged
  block that begins with a command;
- ``json``: a whole document;
- ``log``: lines as the agent writes them, without time and component.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^ *```$", re.M | re.S)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.M)
_EXAMPLES = {".py", ".sh", ".toml", ".cfg"}
_CODE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A fenced block. ``before`` is the page's text from the section's heading to it."""

    language: str
    text: str
    line: int
    before: str


class Page:
    """One Markdown file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
        self.text = path.read_text("utf-8")

    def __repr__(self) -> str:
        return self.name

    @cached_property
    def prose(self) -> str:
        """The text without its fenced blocks."""
        return _FENCE.sub("", self.text)

    @cached_property
    def blocks(self) -> list[Block]:
        """All fenced blocks, in order."""
        return list(self._blocks())

    def _blocks(self) -> Iterator[Block]:
        for found in _FENCE.finditer(self.text):
            before = self.text[: found.start()]
            prose = _FENCE.sub("", before)
            yield Block(
                found["language"],
                found["text"],
                before.count("\n") + 1,
                prose[max(prose.rfind("\n#"), 0) :],
            )

    def of(self, *languages: str) -> list[Block]:
        """The blocks of these languages."""
        return [block for block in self.blocks if block.language in languages]

    @cached_property
    def links(self) -> list[str]:
        """The targets of all links."""
        return _LINK.findall(self.prose)

    @cached_property
    def anchors(self) -> set[str]:
        """What links to a heading of this page may end with."""
        return {slug(heading) for heading in _HEADING.findall(self.prose)}

    @cached_property
    def code(self) -> list[str]:
        """Everything that is set as code within the text."""
        return _CODE.findall(self.prose)


def examples() -> list[str]:
    """The files under docs/examples, without remarks for the linter."""
    files = [file for file in (ROOT / "docs/examples").rglob("*") if file.suffix in _EXAMPLES]
    return [re.sub(r"  # (noqa|type:).*", "", file.read_text("utf-8")) for file in files]


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    kept = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return kept.strip().replace(" ", "-")


def all_pages() -> list[Page]:
    """Every page of the project."""
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return [Page(file) for file in sorted(files) if "node_modules" not in file.parts]
