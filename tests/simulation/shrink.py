"""Makes a failing plan smaller: fewer steps, and smaller ones, as long as it fails in the same way.

Pure but for the runs: ``fails(plan)`` says whether a plan still fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from tests.simulation.plan import Plan, Step

#: What an argument may be replaced by, from the simplest on.
_SIMPLER: dict[str, tuple[Any, ...]] = {
    "count": (1, 2, 5),
    "chain": (0, 1, 2),
    "fan": (1,),
    "size": (10, 2_000),
    "times": (1,),
    "down_s": (0.0,),
    "fuse": (0,),
    "for_s": (1.0,),
    "parameters": ({},),
    "at_ms": (None,),
    "latency_s": ((0.0005, 0.005),),
    "piece_bytes": (1 << 20,),
    "commit_lag_s": (0.5,),
    "pong": ("prompt",),
    "http_status": (None,),
    "damage": (None,),
    "again": (None,),
    "drops_on_cut": (False,),
}


def kind_of(violation: str) -> str:
    """What a violation has in common with others of its kind: its words, without the numbers."""
    words = re.sub(r"\{.*", "", violation)
    return re.sub(r"[0-9][0-9.]*", "N", words).replace("SIM_ACT_TOO", "SIM_ACT")[:100]


def shrink(plan: Plan, fails: Callable[[Plan], bool], runs: int = 300) -> Plan:
    """The smallest plan found within so many runs."""
    left = runs

    def still_fails(candidate: Plan) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and fails(candidate)

    changed = True
    while changed and left > 0:
        changed = False
        size = max(1, len(plan.steps) // 2)
        while size and left > 0:
            at = 0
            while at < len(plan.steps):
                steps = plan.steps[:at] + plan.steps[at + size :]
                candidate = msgspec.structs.replace(plan, steps=steps)
                if still_fails(candidate):
                    plan, changed = candidate, True
                else:
                    at += size
            size //= 2
        for candidate in _simpler(plan):
            if still_fails(candidate):
                plan, changed = candidate, True
                break
    return plan


def _simpler(plan: Plan) -> Iterator[Plan]:
    """Plans with one argument simpler."""
    for index, step in enumerate(plan.steps):
        for name, value in step.arguments.items():
            for simpler in _SIMPLER.get(name, ()):
                if simpler == value:
                    break
                steps = list(plan.steps)
                steps[index] = _with(step, name, simpler)
                if name == "parameters":
                    # Repeated, it has to be the same request still.
                    steps = [
                        _with(one, name, simpler)
                        if one.arguments.get("first") == step.arguments.get("first")
                        else one
                        for one in steps
                    ]
                yield msgspec.structs.replace(plan, steps=tuple(steps))


def _with(step: Step, name: str, value: Any) -> Step:
    return Step(step.at_s, step.kind, {**step.arguments, name: value})
