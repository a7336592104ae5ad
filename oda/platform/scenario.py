"""Scenarios: timed faults as text, and how to schedule them. Pure.

One step per line (or between semicolons); ``#`` starts a comment::

    [on <device>] at <time> <fault words> [<duration>]
    [on <device>] every <period> [jitter <time>] <fault words> [<duration>]

``at 10s freeze 30s; every 60s reset; on dev-1 at 2m clear``. Times are ``500ms``, ``10s``, ``2m``,
``1h`` from the start. With a duration the fault ends by itself. Without one it stays, except
``reset`` and ``close=...``, which then happen once. ``clear`` ends all faults in force.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from oda.errors import ConfigurationError
from oda.errors import Fault as Mistake
from oda.platform.fault_text import as_incident, read_fault_words, split_target
from oda.platform.faults import NORMAL, Fault, Incident, read_fault, write_fault
from oda.platform.wire import WrongParameter

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)", re.ASCII)
_SHORTEST_PERIOD_S = 0.01


class ScenarioStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step: ``fault`` for ``stays_s`` (None: from then on), or ``incident``, or (neither)
    clear. ``every_s`` None: once, at ``first_s``."""

    device: str | None
    first_s: float
    every_s: float | None = None
    jitter_s: float = 0.0
    fault: Fault | None = None
    incident: Incident | None = None
    stays_s: float | None = None

    def due_s(self, turn: int, chance: float) -> float:
        """When the ``turn``-th time (from 0) is due; ``chance`` is from 0 to 1."""
        nominal = self.first_s + turn * (self.every_s or 0.0)
        return max(0.0, nominal + self.jitter_s * (2 * chance - 1))


def parse_scenario(text: str, file: str) -> list[ScenarioStep]:
    """The steps of a scenario; raises ``ConfigurationError`` listing every mistake by line."""
    steps: list[ScenarioStep] = []
    mistakes: list[Mistake] = []
    for number, part in _parts(text):
        try:
            steps.append(_parse_step(part.split()))
        except WrongParameter as error:
            mistakes.append(Mistake(file, number, error.parameter, error.problem))
    if mistakes:
        raise ConfigurationError(mistakes)
    return steps


def _parts(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        for part in line.partition("#")[0].split(";"):
            if part.strip():
                yield number, part


def _parse_step(words: Sequence[str]) -> ScenarioStep:
    device, rest = split_target(words)
    if len(rest) < 2 or rest[0] not in ("at", "every"):
        raise WrongParameter(rest[0] if rest else "step", "expected: at <time> or every <period>")
    when, first_s = rest.pop(0), _duration(rest.pop(0))
    every_s = first_s if when == "every" else None
    if every_s is not None and every_s < _SHORTEST_PERIOD_S:
        raise WrongParameter("every", f"must be at least {_SHORTEST_PERIOD_S:g}s")
    jitter_s = 0.0
    if rest[:1] == ["jitter"]:
        jitter_s = _duration(rest[1] if len(rest) > 1 else "")
        del rest[:2]
    stays_s = _duration(rest.pop()) if len(rest) > 1 and _DURATION.fullmatch(rest[-1]) else None
    base = ScenarioStep(device=device, first_s=first_s, every_s=every_s, jitter_s=jitter_s)
    if rest == ["clear"]:
        if stays_s is not None:
            raise WrongParameter("clear", "takes no duration")
        return base
    fault = read_fault_words(rest)
    incident = as_incident(fault) if stays_s is None else None
    if incident is not None:
        return msgspec.structs.replace(base, incident=incident)
    return msgspec.structs.replace(base, fault=fault, stays_s=stays_s)


def _duration(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise WrongParameter(text or "time", "is not a time like 500ms, 10s, 2m or 1h")
    return float(match[1]) * _UNITS_S[match[2]]


def without(fault: Fault, ended: Fault) -> Fault:
    """``fault`` with the members of ``ended`` back to normal."""
    members = write_fault(ended)
    left = {name: value for name, value in write_fault(fault).items() if name not in members}
    return read_fault(left) if left else NORMAL
