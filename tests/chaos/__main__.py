"""``python -m tests.chaos NAME [--count N] [--seed S] [--keep DIRECTORY]``: the long forms."""

from __future__ import annotations

import argparse
import importlib
import secrets
import sys
import tempfile
import time
from pathlib import Path

#: What there is, and how often it is done where nothing else is said.
RUNS = {
    "kills": 1000,
    "cuts": 200,
    "pongs": 20,
    "operations": 1000,
    "misbehaviour": 8,
    "herd": 10_000,
    "backlog": 1_000_000,
    "disk": 10,
    "readonly": 5,
}


def main() -> int:
    """The exit status: 0 when everything was as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("name", choices=[*RUNS, "all"])
    parser.add_argument("--count", type=int, help="how often, how many (default: the long form)")
    parser.add_argument("--seed", type=int, help="to repeat a run (default: a new one)")
    parser.add_argument("--keep", type=Path, help="work here, and leave everything for inspection")
    arguments = parser.parse_args()
    names = list(RUNS) if arguments.name == "all" else [arguments.name]
    seed = secrets.randbelow(10**9) if arguments.seed is None else arguments.seed
    failed = False
    for name in names:
        count = RUNS[name] if arguments.count is None else arguments.count
        _say(f"{name}: python -m tests.chaos {name} --count {count} --seed {seed}")
        run = importlib.import_module(f"tests.chaos.{name}").run
        begun_s = time.monotonic()
        if arguments.keep is not None:
            report = run(seed, count, arguments.keep / name)
        else:
            with tempfile.TemporaryDirectory(prefix="oda-chaos-") as directory:
                report = run(seed, count, Path(directory))
        _say(f"{report} ({time.monotonic() - begun_s:.0f} s)")
        failed = failed or bool(report.problems)
    return 1 if failed else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
