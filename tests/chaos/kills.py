"""SIGKILLs of the agent at random moments under load."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

from tests.chaos.report import Report
from tests.chaos.world import LONG_LIFE_S, WINDOW, World

#: Of the kills, so many come while the agent is starting, ...
_EARLY = 0.2
#: ... at most so long after its start; the others so long after it began to take datapoints.
_EARLY_S = 1.0
_LATER_S = 1.5
#: One in so many lives is longer, so that much has lingered long enough when it ends.
_LONG_EVERY = 50
#: docs/delivery.md: repeated so often after starts, and no more.
_MOST_REPEATS = 3


def run(seed: int, count: int, directory: Path, fdatasync_ms: float = 0.0) -> Report:
    """Start the agent and kill it, ``count`` times; then let it deliver what it has."""
    report = Report("kills", seed, count)
    random = Random(seed)
    world = World(directory, fdatasync_ms=fdatasync_ms)
    try:
        world.load.start()
        for number in range(count):
            with world.start_agent() as agent:
                if number % _LONG_EVERY == 5:
                    world.wait_until_ready()
                    time.sleep(LONG_LIFE_S)
                elif random.random() < _EARLY:
                    time.sleep(random.random() * _EARLY_S)
                else:
                    world.load.wait_until_taken()
                    time.sleep(random.random() ** 2 * _LATER_S)
                agent.kill()
            world.read_record()
        with world.start_agent() as agent:
            world.wait_until_ready()
            world.load.stop()
            world.conclude(report)
            # No connection ends but by a kill here, so only starts repeat what was acknowledged.
            report.problems += world.ledger.superfluous_repeats(WINDOW, _MOST_REPEATS)
            agent.stop()
    finally:
        world.close()
    return report
