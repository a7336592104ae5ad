"""``python -m tests.simulation``: runs seeds, shrinks those that fail, shows their histories."""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.simulation.campaign import failures, prepare, report, smallest
from tests.simulation.plan import make_plan
from tests.simulation.planted import find_all
from tests.simulation.shrink import kind_of
from tests.simulation.world import run


def tell(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")


def main() -> int:
    """0: every seed is clean."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument(
        "what", nargs="?", choices=("seeds", "known"), default="seeds", help="known: see planted.py"
    )
    parser.add_argument("--limit", type=float, default=float("inf"), metavar="SECONDS")
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds are run")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--shrink", type=int, default=300, metavar="RUNS", help="0: don't shrink")
    parser.add_argument("--all", action="store_true", help="go on after the first failing seed")
    parser.add_argument("--show", metavar="SEED", help="run this seed and print its history")
    options = parser.parse_args()
    if options.what == "known":
        return find_known(options.processes)
    if options.show is not None:
        prepare()
        tell(report(run(make_plan(options.show))))
        return 0
    started_s = time.monotonic()
    kinds: dict[str, list[str]] = {}
    failed: list[str] = []
    for seed, found in failures(options.first, options.seeds, options.processes, options.limit):
        failed.append(seed)
        kinds.setdefault(kind_of(found[0]), []).append(seed)
        if not options.all:
            break
    took_s = time.monotonic() - started_s
    if not failed:
        if took_s < options.limit:
            rate = options.seeds / took_s * 60
            tell(f"{options.seeds} seeds are clean, in {took_s:.1f} s: {rate:.0f} a minute")
        else:
            tell(f"nothing was found in {took_s:.1f} s")
        return 0
    for kind, seeds in sorted(kinds.items(), key=lambda one: -len(one[1])):
        tell(f"{len(seeds):6} {kind}: seeds {', '.join(seeds[:8])}")
    if options.shrink:
        prepare()
        tell(report(smallest(failed[0], options.shrink)))
    return 1


def find_known(processes: int) -> int:
    """0: every known fault is found."""
    hidden = 0
    for found in find_all(processes, shrink_runs=60):
        hidden += found.seed is None
        tell(f"== {found.name}: {'stays hidden' if found.seed is None else f'seed {found.seed}'}")
        tell(found.report)
    return min(hidden, 1)


if __name__ == "__main__":
    sys.exit(main())
