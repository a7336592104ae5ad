"""Runs many seeds, in several processes, and tells what failed."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import Any

from autobahn.twisted import websocket
from autobahn.websocket import protocol
from twisted.logger import globalLogBeginner

from tests.simulation.plan import Plan, make_plan
from tests.simulation.shrink import kind_of, shrink
from tests.simulation.world import Result, run

#: So many seeds are given to a process at once.
_CHUNK = 5


def prepare() -> None:
    """Once in a process: the agent's log goes nowhere but to the worlds, and what is imported is
    not looked at by each collection of garbage."""
    globalLogBeginner.beginLoggingTo([_nowhere], redirectStandardIO=False, discardBuffer=True)
    _spare_autobahn_its_log()
    run(make_plan("warm up"))
    gc.collect()
    gc.freeze()
    gc.disable()


def _spare_autobahn_its_log() -> None:
    """Autobahn formats what it logs even where nobody reads it."""
    for module in (protocol, websocket):
        for name in ("pformat", "hltype", "hlval"):
            setattr(module, name, lambda *_: "")


def _nowhere(event: Any) -> None:
    """Nothing is printed."""


def violations_of(seed: str) -> list[str]:
    """The violations of one seed."""
    return run(make_plan(seed)).violations


def _chunk(seeds: list[str]) -> list[tuple[str, list[str]]]:
    return [(seed, violations_of(seed)) for seed in seeds]


def failures(
    first: int, count: int, processes: int = 1, limit_s: float = float("inf")
) -> Iterator[tuple[str, list[str]]]:
    """Each failing seed with its violations, in the order of the seeds, until ``limit_s`` seconds
    have passed."""
    ends_s = time.monotonic() + limit_s
    if processes == 1:
        prepare()
        for seed in range(first, first + count):
            if time.monotonic() > ends_s:
                return
            if found := violations_of(str(seed)):
                yield str(seed), found
        return
    chunks = (
        [str(seed) for seed in range(at, min(at + _CHUNK, first + count))]
        for at in range(first, first + count, _CHUNK)
    )
    with ProcessPoolExecutor(processes, initializer=prepare) as pool:
        running: deque[Future[list[tuple[str, list[str]]]]] = deque()
        try:
            while time.monotonic() < ends_s:
                for chunk in islice(chunks, 2 * processes - len(running)):
                    running.append(pool.submit(_chunk, chunk))
                if not running:
                    return
                for seed, found in running.popleft().result():
                    if found:
                        yield seed, found
        finally:
            pool.shutdown(cancel_futures=True)


def smallest(seed: str, runs: int = 300, limit_s: float = 60.0) -> Result:
    """The plan of a failing seed as small as it gets within ``runs`` and ``limit_s``, carried
    out."""
    ends_s = time.monotonic() + limit_s
    plan = make_plan(seed)
    kind = kind_of(run(plan).violations[0])

    def fails(candidate: Plan) -> bool:
        return time.monotonic() < ends_s and any(
            kind_of(one) == kind for one in run(candidate).violations
        )

    return run(shrink(plan, fails, runs))


def report(result: Result) -> str:
    """A failing result for a person to read."""
    plan = result.plan
    return "\n".join(
        [
            f"seed {plan.seed} fails:",
            *(f"  {one}" for one in result.violations[:10]),
            "settings:",
            *(f"  {part}: {values}" for part, values in plan.settings.items()),
            "steps:",
            *(f"  {step}" for step in plan.steps),
            f"  {plan.end_s:8.3f} everything works",
            "history:",
            result.history,
        ]
    )
