"""``python -m tests.fuzz --frames 1000000 --seed 7``."""

from __future__ import annotations

import argparse
import sys
import time

from twisted.logger import globalLogBeginner

from tests.fuzz.campaign import run
from tests.fuzz.memory import LEFT_MIB, MIB

#: How many more objects there may be behind the first fifth of a campaign. One kept for each frame
#: would be a hundred thousand and more.
FLAT_OBJECTS = 5_000


def main() -> int:
    """Run a campaign and say what came of it; the exit status is 0 when nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, default=None, help="send this frame alone")
    options = parser.parse_args()
    globalLogBeginner.beginLoggingTo(
        [lambda event: None], discardBuffer=True, redirectStandardIO=False
    )
    numbers = range(options.frames)
    if options.only is not None:
        numbers = range(options.only, options.only + 1)
    began_s = time.monotonic()

    def progress(sent: int, resident: int) -> None:
        rate = sent / (time.monotonic() - began_s)
        sys.stdout.write(f"{sent} frames, {rate:.0f}/s, {resident / 2**20:.1f} MiB\n")
        sys.stdout.flush()

    report = run(options.seed, numbers, max(1000, options.frames // 50), progress)
    sys.stdout.write(f"seed {options.seed}, {sum(report.verdicts.values())} frames\n")
    sys.stdout.write(f"owed: {dict(report.verdicts)}\nanswered: {dict(report.results)}\n")
    sys.stdout.write(f"connected again {report.reconnects} times; ")
    sys.stdout.write(f"the (fake) clock was set {report.times_clock_set} times\n")
    for complaint in report.complaints:
        sys.stdout.write(f"{complaint}\n")
    for kind, cost in sorted(report.costs.items()):
        peak = cost.peak_bytes / 2**20
        sys.stdout.write(f"{kind}: {cost.frames} frames, {peak:.1f} MiB at once\n")
    for line in report.expensive:
        sys.stdout.write(f"too expensive: {line}\n")
    memory, objects = _growth(report.memory), _growth(report.objects)
    sys.stdout.write(f"after the first fifth: {memory / 2**20:+.2f} MiB, {objects:+.0f} objects\n")
    is_flat = memory < LEFT_MIB * MIB and objects < FLAT_OBJECTS
    return 0 if is_flat and not report.complaints and not report.expensive else 1


def _growth(measured: list[tuple[int, int]]) -> float:
    """From the average of the second fifth to that of the last; 0 where there is too little."""
    fifth = len(measured) // 5
    if not fifth:
        return 0.0
    early = [value for _, value in measured[fifth : 2 * fifth]]
    late = [value for _, value in measured[-fifth:]]
    return sum(late) / fifth - sum(early) / fifth


if __name__ == "__main__":
    sys.exit(main())
