"""Prints foreign text so that it can't control the terminal."""

from __future__ import annotations

import json
from typing import Any

import click

from oda.diagnosis.findings import Finding, render_finding


def escaped(text: str) -> str:
    """``text`` with every character that could control a terminal, except line ends, as
    ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(
        char if char == "\n" or char.isprintable() else char.encode("unicode_escape").decode()
        for char in text
    )


def echo(text: str, err: bool = False, nl: bool = True) -> None:
    """Print foreign text."""
    click.echo(escaped(text), err=err, nl=nl)


def json_text(document: Any) -> str:
    """A document over several lines, in printable ASCII."""
    return json.dumps(document, indent=2).replace("\x7f", "\\u007f")


def print_finding(finding: Finding) -> None:
    """Print a finding of a check at once."""
    echo(render_finding(finding, finding.step), nl=False)
