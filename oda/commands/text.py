"""What came from elsewhere, as it is shown: no terminal obeys it."""

from __future__ import annotations

import json
from typing import Any

import click

from oda.diagnosis.findings import Finding, render_finding


def escaped(text: str) -> str:
    """``text`` with everything but line ends that a terminal could obey written as ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(
        char if char == "\n" or char.isprintable() else char.encode("unicode_escape").decode()
        for char in text
    )


def echo(text: str, err: bool = False, nl: bool = True) -> None:
    """Print what came from elsewhere."""
    click.echo(escaped(text), err=err, nl=nl)


def json_text(document: Any) -> str:
    """A document over several lines, in visible ASCII."""
    return json.dumps(document, indent=2).replace("\x7f", "\\u007f")


def print_finding(finding: Finding) -> None:
    """Print what a check has found, as it comes."""
    echo(render_finding(finding, finding.step), nl=False)
