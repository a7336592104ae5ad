"""``python -m tests.fuzz --frames 1000000 --seed 7``."""

from __future__ import annotations

import argparse
import sys
import time

from twisted.logger import globalLogBeginner

from tests.fuzz.campaign import run

#: Growth per million frames after the first fifth that counts as flat: a sixth of a small object
#: for each frame, and the allocator's scraps.
FLAT_BYTES = 8 * 1024 * 1024
FLAT_OBJECTS = 20_000


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
    is_flat = True
    for what, measured, limit, unit in (
        ("memory", report.memory, FLAT_BYTES, 2**20),
        ("objects", report.objects, FLAT_OBJECTS, 1),
    ):
        growth = _growth_per_million(measured[len(measured) // 5 :])
        if growth is not None:
            name = "MiB" if unit > 1 else "objects"
            text = f"{what}: {growth / unit:+.2f} {name} per million frames after warm-up\n"
            sys.stdout.write(text)
            is_flat = is_flat and growth < limit
    return 0 if is_flat and not report.complaints else 1


def _growth_per_million(memory: list[tuple[int, int]]) -> float | None:
    """The slope of the line through the measurements; None where there are too few."""
    if len(memory) < 10:
        return None
    mean_x = sum(x for x, _ in memory) / len(memory)
    mean_y = sum(y for _, y in memory) / len(memory)
    above = sum((x - mean_x) * (y - mean_y) for x, y in memory)
    return above / sum((x - mean_x) ** 2 for x, _ in memory) * 1_000_000


if __name__ == "__main__":
    sys.exit(main())
