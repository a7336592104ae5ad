"""``python -m tests.chaos NAME [--count N] [--seed S] [--keep DIRECTORY]``: the long forms.

``--fdatasync-ms N`` runs the agent on a disk that takes so much longer for each fdatasync: 5 is an
SD card, 50 a slow one, 500 one that is about to fail.
"""

from __future__ import annotations

import argparse
import importlib
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

#: What there is, and how often it is done where nothing else is said.
RUNS = {
    "kills": 1000,
    "cuts": 200,
    "pongs": 20,
    "operations": 1000,
    "burst": 100,
    "misbehaviour": 8,
    "herd": 10_000,
    "backlog": 1_000_000,
    "disk": 10,
    "readonly": 5,
    "slow": 120,
}
#: Those whose agent can run on a slow disk.
ON_SLOW_DISKS = {"kills", "cuts", "operations", "burst", "disk", "readonly", "backlog"}


def main() -> int:
    """The exit status: 0 when everything was as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("name", choices=[*RUNS, "all"])
    parser.add_argument("--count", type=int, help="how often, how many (default: the long form)")
    parser.add_argument("--seed", type=int, help="to repeat a run (default: a new one)")
    parser.add_argument("--keep", type=Path, help="work here, and leave everything for inspection")
    parser.add_argument(
        "--fdatasync-ms",
        type=float,
        default=0.0,
        metavar="N",
        help=f"so much longer takes each fdatasync ({', '.join(sorted(ON_SLOW_DISKS))})",
    )
    parser.add_argument(
        "--answer-bytes",
        type=int,
        default=0,
        metavar="N",
        help="operations: so long becomes each answer (default: as short as can be)",
    )
    arguments = parser.parse_args()
    if arguments.fdatasync_ms and arguments.name not in (*ON_SLOW_DISKS, "all"):
        parser.error(f"{arguments.name} has no form on a slow disk")
    if arguments.answer_bytes and arguments.name != "operations":
        parser.error("--answer-bytes is for operations")
    names = list(RUNS) if arguments.name == "all" else [arguments.name]
    seed = secrets.randbelow(10**9) if arguments.seed is None else arguments.seed
    failed = False
    for name in names:
        count = RUNS[name] if arguments.count is None else arguments.count
        more: dict[str, Any] = {}
        if arguments.fdatasync_ms and name in ON_SLOW_DISKS:
            more["fdatasync_ms"] = arguments.fdatasync_ms
        if arguments.answer_bytes:
            more["answer_bytes"] = arguments.answer_bytes
        options = "".join(f" --{key.replace('_', '-')} {more[key]}" for key in more)
        _say(f"{name}: python -m tests.chaos {name} --count {count} --seed {seed}{options}")
        run = importlib.import_module(f"tests.chaos.{name}").run
        begun_s = time.monotonic()
        if arguments.keep is not None:
            report = run(seed, count, arguments.keep / name, **more)
        else:
            with tempfile.TemporaryDirectory(prefix="oda-chaos-") as directory:
                report = run(seed, count, Path(directory), **more)
        _say(f"{report} ({time.monotonic() - begun_s:.0f} s)")
        failed = failed or bool(report.problems)
    return 1 if failed else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
