"""Garbage collection for a process that is nothing but an agent.

Python looks for cycles after every 700 new objects, and now and then through everything there is.
An agent makes tens of thousands of short-lived Deferreds a second and hardly any cycle; those
searches took a quarter of the CPU time of a burst (docs/performance.md). So what exists after the
start is set aside, and the searches become rarer; cycles are still found.
"""

from __future__ import annotations

import gc

#: New objects between two searches of the youngest generation, and searches of one generation
#: between two of the next.
THRESHOLDS = (20_000, 20, 20)


def relax_garbage_collection() -> None:
    """Call it once, when everything that stays has been made. It holds for the whole process: an
    embedded agent must leave that to its owner."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
