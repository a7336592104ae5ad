"""``python -m tests.mutation [--module oda/outbox/queue.py ...] [--sample N] [--seed S]``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.mutation.campaign import MODULES, ROOT, Campaign, Score, files_for, known_equivalents


def main(arguments: list[str]) -> int:
    """Tell what became of each mutant; 1 if one survived that is not listed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--module", action="append", help="default: all that have tests here")
    parser.add_argument("--sample", type=int, help="so many mutants of each module; default: all")
    parser.add_argument("--seed", type=int, default=0, help="what the sample depends on")
    chosen = parser.parse_args(arguments)
    equivalents = known_equivalents()
    total = Score()
    for module in chosen.module or MODULES:
        with tempfile.TemporaryDirectory(prefix="oda-mutation-") as directory:
            campaign = Campaign(ROOT, Path(directory), module, files_for(module), _say)
            score = campaign.run(chosen.sample, chosen.seed, equivalents)
        total = Score(*(one + other for one, other in zip(total, score, strict=True)))
    _say(f"in all: {total}")
    return 1 if total.survived else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
