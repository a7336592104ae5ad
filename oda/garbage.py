"""Garbage collection for a process that is nothing but an agent.

Python looks for cycles after every 700 new objects, and now and then through everything there is.
An agent makes tens of thousands of short-lived Deferreds a second and hardly any cycle; those
searches took a quarter of the CPU time of a burst, and a tenth of a start (docs/performance.md). So
they become rarer before anything large is imported, and what exists after the start is set aside;
cycles are still found.

Both calls hold for the whole process: an embedded agent must leave that to its owner.
"""

from __future__ import annotations

import gc

#: New objects between two searches of the youngest generation, and searches of one generation
#: between two of the next.
THRESHOLDS = (20_000, 20, 20)


def search_rarely() -> None:
    """Search for cycles rarely from now on."""
    gc.set_threshold(*THRESHOLDS)


def relax_garbage_collection() -> None:
    """Search rarely, and never again through what exists now. Call it once, when everything that
    stays has been made; it takes some tens of milliseconds."""
    gc.collect()
    gc.freeze()
    search_rarely()
