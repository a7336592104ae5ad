"""Lets time pass faster in a Twisted process, so that a quiet hour can be measured in minutes.

    python -P benchmarks/hurry.py --speed 20 SCRIPT ARGUMENT...

runs a Python script whose clocks go 20 times as fast, the monotonic one and the time of day, and
whose reactor sleeps for a twentieth of what it means to. Work, disks and networks take as long as
ever: a commit of 1 ms looks like one of 20 ms. So this is valid for a process that has little to
do, as long as what it does is short beside what it waits for, even so.
"""

from __future__ import annotations

import argparse
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path


def hurry(speed: float) -> None:
    """Do so in this process; before Twisted, or anything else that looks at a clock, is imported.

    Raises ``RuntimeError`` when Twisted is there already.
    """
    if "twisted.internet.base" in sys.modules:
        raise RuntimeError("Twisted has been imported already")

    def faster(clock: Callable[[], float]) -> Callable[[], float]:
        start = clock()
        return lambda: start + (clock() - start) * speed

    time.time, time.monotonic = faster(time.time), faster(time.monotonic)
    of_day = time.time
    time.time_ns = lambda: int(of_day() * 1e9)
    from twisted.internet.base import ReactorBase

    until_next_call = ReactorBase.timeout

    def timeout(self: ReactorBase) -> float | None:
        wait_s = until_next_call(self)
        return None if wait_s is None else wait_s / speed

    ReactorBase.timeout = timeout  # type: ignore[method-assign]


def arguments(speed: float) -> list[str]:
    """What to write before the path of a script, so that its time passes faster."""
    return [str(Path(__file__).resolve()), "--speed", str(speed)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("script", help="a Python script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    options = parser.parse_args()
    hurry(options.speed)
    sys.argv = [options.script, *options.arguments]
    runpy.run_path(options.script, run_name="__main__")


if __name__ == "__main__":
    main()
