"""``python -m tests.soak --minutes 10 --rate 1000``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.soak.soak import slope_per_hour, soak

#: The rise of the agent's memory that counts as flat, in bytes per hour.
FLAT_BYTES_PER_HOUR = 1024 * 1024
#: Over how long the least memory is taken, in seconds, if faults don't come more rarely. The agent
#: gives memory back every 20 s; what is resident then depends on whether it has a backlog just then
#: (some tenths of a MiB). Of several such moments one is calm.
_WINDOW_S = 60.0


def main() -> int:
    """Soak and say what came of it; the exit status is 0 when nothing was lost and memory is
    flat."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=1000, help="datapoints per second")
    parser.add_argument("--fault-every", type=float, default=20.0, help="seconds")
    parser.add_argument("--warm-up", type=float, default=None, help="seconds; default 40 %%")
    parser.add_argument("--keep", type=Path, default=None, help="an empty directory for the logs")
    options = parser.parse_args()
    seconds = options.minutes * 60
    with TemporaryDirectory(prefix="oda-soak-") as temporary:
        directory = options.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        outcome = soak(directory, seconds, options.rate, options.fault_every, _say)
    warm_up_s = 0.4 * seconds if options.warm_up is None else options.warm_up
    window_s = max(_WINDOW_S, options.fault_every)
    slope = slope_per_hour(outcome.memory, warm_up_s, window_s)
    _say(f"{outcome.accepted} accepted, {outcome.missing} missing, {outcome.wrong} altered")
    _say(f"{outcome.copies} came more than once; {len(outcome.struck)} faults")
    residents = [resident for _, resident in outcome.memory]
    _say(f"memory: {min(residents) / 2**20:.2f} to {max(residents) / 2**20:.2f} MiB")
    if slope is not None:
        _say(f"slope: {slope / 2**20:+.3f} MiB/h after {warm_up_s:.0f} s")
    if outcome.problem:
        _say(f"problem: {outcome.problem}")
    is_lost = outcome.missing or outcome.wrong or outcome.problem or "Traceback" in outcome.log
    return 1 if is_lost or (slope is not None and slope > FLAT_BYTES_PER_HOUR) else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
