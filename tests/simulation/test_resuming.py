"""An operation that continues after a restart has one final answer, wherever the process ends.

The process is killed after so many callbacks and effects of the agent, or stopped, at each step of
such an operation: on its way to the journal, before and after its state is committed, while it
waits, while its answer is committed and sent. A second end comes while it is resumed. The rules are
the oracle's: one answer for each request, and none "interrupted" once a state was told to be saved.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.simulation.plan import Plan, Step
from tests.simulation.workload import CONTINUE
from tests.simulation.world import run

ASKED_S = 2.0


def plan(name: str, ends: Iterable[Step], seconds: float, commit_s: tuple[float, float]) -> Plan:
    """One request, and the ends of processes."""
    disk: dict[str, Any] = {"commit_s": commit_s, "has_files": False, "head_rows": 3}
    ask: dict[str, Any] = {
        "first": "r0",
        "name": CONTINUE,
        "parameters": {"seconds": seconds},
        "count": 2,
        "times": 1,
    }
    steps = sorted([Step(ASKED_S, "ask", ask), *ends])
    settings: dict[str, dict[str, Any]] = {"outbox": {}, "connector": {}, "disk": disk}
    return Plan(name, settings, tuple(steps), 20.0)


def crash(at_s: float, fuse: int, again: int | None = None, is_power_loss: bool = False) -> Step:
    return Step(
        at_s,
        "crash",
        {"fuse": fuse, "is_power_loss": is_power_loss, "down_s": 0.5, "again": again},
    )


def judged(one: Plan) -> int:
    """How often the operations were resumed; every rule of the oracle holds."""
    result = run(one)
    assert not result.violations, result.history
    return sum(result.facts.resumed.values())


@pytest.mark.parametrize("commit_s", [(0.0001, 0.0005), (0.05, 0.3)], ids=["fast", "slow"])
@pytest.mark.parametrize("seconds", [0.0, 0.4])
def test_a_kill_at_any_step(seconds: float, commit_s: tuple[float, float]) -> None:
    """Each time the process is killed a little later, and loses its power every other time."""
    resumed = 0
    for fuse in range(1, 60, 2):
        ends = [crash(ASKED_S - 0.01, fuse, is_power_loss=fuse % 4 == 1)]
        resumed += judged(plan(f"kill {fuse}", ends, seconds, commit_s))
    assert resumed > 5


def test_a_kill_while_it_is_resumed() -> None:
    """The next process is killed as well, each time a little later after its start."""
    resumed = 0
    for fuse in range(1, 60, 2):
        ends = [crash(ASKED_S + 0.6, 0, again=fuse)]
        resumed += judged(plan(f"again {fuse}", ends, 3.0, (0.004, 0.006)))
    assert resumed >= 30


def test_a_stop_at_any_time() -> None:
    """A stop in good order leaves it to the next process, like a kill."""
    resumed = 0
    for count in range(30):
        ends = [Step(ASKED_S + 0.02 * count, "stop", {"down_s": 0.5})]
        resumed += judged(plan(f"stop {count}", ends, 0.4, (0.05, 0.1)))
    assert resumed > 5
