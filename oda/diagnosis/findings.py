"""The findings of a check, for people and for programs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

import msgspec

from oda.errors import ConfigurationError
from oda.wording import counted


class Result(Enum):
    """How a step ended. Only ``FAILED`` makes the whole check fail."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one step. ``advice`` says what to do about it; ``data`` is for programs.

    No finding holds a secret.
    """

    step: str
    result: Result
    text: str
    advice: str = ""
    data: Mapping[str, Any] = msgspec.field(default_factory=dict)


class Findings:
    """All findings in order; ``tell`` is called with each. ``clean``, which may be set once the
    secrets are known, masks them in every text."""

    def __init__(self, tell: Callable[[Finding], None] = lambda finding: None) -> None:
        self._tell = tell
        self.clean: Callable[[str], str] = lambda text: text
        self.all: list[Finding] = []

    def add(self, step: str, result: Result, text: str, advice: str = "", **data: Any) -> None:
        """Add one finding."""
        data = {
            name: self.clean(value) if isinstance(value, str) else value
            for name, value in data.items()
        }
        text, advice = self.clean(text), self.clean(advice)
        finding = Finding(step=step, result=result, text=text, advice=advice, data=data)
        self.all.append(finding)
        self._tell(finding)

    def add_faults(self, error: ConfigurationError) -> None:
        """Add one finding for each fault of the configuration."""
        for fault in error.faults:
            self.add(
                "configuration",
                Result.FAILED,
                str(fault),
                file=fault.file,
                line=fault.line,
                key=fault.key,
                problem=fault.problem,
            )

    @property
    def has_failed(self) -> bool:
        """Whether something must be fixed."""
        return any(finding.result is Result.FAILED for finding in self.all)

    def has_failed_in(self, step: str) -> bool:
        """Whether something that belongs to ``step`` must be fixed."""
        return any(one.step == step and one.result is Result.FAILED for one in self.all)


def render_verdict(findings: Sequence[Finding], good_news: str) -> str:
    """What the findings come to, for people: ``good_news`` where nothing failed, else the first
    failure and what to do about it. An empty line follows."""
    failed = [finding for finding in findings if finding.result is Result.FAILED]
    warnings = sum(finding.result is Result.WARNING for finding in findings)
    beside = f" ({counted(warnings, 'warning')}, see below)" if warnings else ""
    if not failed:
        return f"OK: {good_news}{beside}\n\n"
    first = failed[0]
    lines = [f"FAILED: {counted(len(failed), 'problem')}{beside}"]
    lines.append(f"  {first.step}: {first.text.splitlines()[0]}")
    if first.advice:
        lines.append(f"  -> {first.advice}")
    return "\n".join(lines) + "\n\n"


def render_finding(finding: Finding, step: str) -> str:
    """The lines for people. They begin with ``step``, which is empty if it is the same as in the
    lines before."""
    shown = finding.result.value
    if finding.result is Result.FAILED:
        shown = shown.upper()
    first, *more = finding.text.splitlines() or [""]
    lines = [f"{step:<16}{shown:<9}{first}"]
    indent = " " * 25
    lines += [indent + line for line in more]
    if finding.advice:
        lines.append(f"{indent}-> {finding.advice}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def document(finding: Finding) -> dict[str, Any]:
    """The finding as a JSON map, without ``advice`` if there is none."""
    shown: dict[str, Any] = {
        "check": finding.step,
        "result": finding.result.value,
        "text": finding.text,
    }
    if finding.advice:
        shown["advice"] = finding.advice
    return {**shown, **finding.data}
