"""The soak itself: load, trouble, measurements."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

from oda.errors import OdaError
from oda.platform.testing import RunningPlatform
from tests.soak.agent import DEVICE, KEY, SoakAgent
from tests.soak.arrivals import Arrivals
from tests.soak.load import Load
from tests.soak.trouble import TROUBLES

_SAMPLE_S = 1.0
_LOOK_EVERY_S = 10.0
#: How long the last messages may take to arrive, in seconds.
_PATIENCE_S = 300.0


class Outcome(NamedTuple):
    """What came of it; ``memory`` are (seconds since the start, resident bytes of the agent)."""

    accepted: int
    missing: int
    copies: int
    wrong: int
    problem: str | None
    struck: list[str]
    memory: list[tuple[float, int]]
    log: str


def soak(
    directory: Path,
    seconds: float,
    rate: int,
    fault_every_s: float,
    progress: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Run the agent in ``directory`` for so long, then wait until everything has arrived."""
    # Not --durable: what it has read and not kept when it is killed, the agent sends again.
    options = ["--key", KEY, "--database", str(directory / "platform.sqlite")]
    with RunningPlatform(options, log=directory / "platform.log") as platform:
        agent = SoakAgent(directory, platform)
        try:
            return _Soak(platform, agent, seconds, fault_every_s, progress).run(rate)
        finally:
            agent.kill()


class _Soak:
    def __init__(
        self,
        platform: RunningPlatform,
        agent: SoakAgent,
        seconds: float,
        fault_every_s: float,
        progress: Callable[[str], None],
    ) -> None:
        self._platform = platform
        self._agent = agent
        self._seconds = seconds
        self._fault_every_s = fault_every_s
        self._progress = progress
        self._arrivals = Arrivals(platform)
        self._memory: list[tuple[float, int]] = []
        self._struck: list[str] = []
        self._is_over = threading.Event()
        self._began_s = 0.0

    def run(self, rate: int) -> Outcome:
        self._platform.wait_for_device(DEVICE, 30)
        with self._agent.client() as client:
            load = Load(client, rate)
            self._began_s = time.monotonic()
            load.start()
            trouble = threading.Thread(target=self._make_trouble, daemon=True)
            trouble.start()
            self._watch(load)
            self._is_over.set()
            trouble.join(60)
            self._platform.clear_fault()
            load.stop()
        self._wait_for_the_rest(load.accepted)
        missing = self._arrivals.missing()
        self._agent.stop()
        return Outcome(
            load.accepted,
            missing,
            self._arrivals.copies,
            self._arrivals.wrong,
            load.problem,
            self._struck,
            self._memory,
            self._agent.log.read_text(),
        )

    def _watch(self, load: Load) -> None:
        look_at_s = _LOOK_EVERY_S
        while (elapsed_s := time.monotonic() - self._began_s) < self._seconds:
            self._memory.append((elapsed_s, self._agent.resident_bytes()))
            if elapsed_s >= look_at_s:
                look_at_s += _LOOK_EVERY_S
                self._look(load.accepted)
                self._progress(
                    f"{elapsed_s:.0f} s: {load.accepted} accepted, "
                    f"{self._arrivals.arrived} arrived, {self._memory[-1][1] / 2**20:.2f} MiB"
                )
            time.sleep(_SAMPLE_S)

    def _look(self, accepted: int, final: bool = False) -> None:
        try:
            self._arrivals.look(accepted, final)
        except (OSError, OdaError):
            return  # the platform has been killed; the next look finds them

    def _make_trouble(self) -> None:
        for name, strike in cycle(TROUBLES.items()):
            if self._is_over.wait(self._fault_every_s):
                return
            self._progress(f"trouble: {name}")
            strike(self._platform)
            self._struck.append(name)

    def _wait_for_the_rest(self, accepted: int) -> None:
        deadline_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline_s:
            if not self._agent.waiting():
                self._look(accepted, final=True)
                if self._arrivals.arrived == accepted:
                    return
            time.sleep(0.2)


def slope_per_hour(
    memory: list[tuple[float, int]], warm_up_s: float, window_s: float
) -> float | None:
    """Bytes per hour by which the floor of the memory rises: the line through the least value of
    each window after the warm-up. None where there are too few windows."""
    floors: dict[int, tuple[float, int]] = {}
    for at_s, resident in memory:
        if at_s >= warm_up_s:
            window = int((at_s - warm_up_s) / window_s)
            if window not in floors or resident < floors[window][1]:
                floors[window] = (at_s, resident)
    points = list(floors.values())
    if len(points) < 3:
        return None
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    above = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return above / sum((x - mean_x) ** 2 for x, _ in points) * 3600
