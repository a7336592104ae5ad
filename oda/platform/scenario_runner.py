"""Runs a scenario on a clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from oda.platform.faults import FaultBoard, Incident, merge
from oda.platform.logger import PlatformLogger
from oda.platform.scenario import ScenarioStep, without

log = PlatformLogger()


class ScenarioRunner:
    """Changes the faults on ``board`` and calls ``strike`` when the steps are due.

    ``clock`` has ``seconds`` and ``callLater``; ``random`` is the source of jitter: the same for
    the same seed.
    """

    def __init__(
        self,
        clock: Any,
        steps: Sequence[ScenarioStep],
        board: FaultBoard,
        strike: Callable[[str | None, Incident], object],
        random: Random,
    ) -> None:
        self._clock = clock
        self._steps = tuple(steps)
        self._board = board
        self._strike = strike
        self._random = random
        self._calls: set[IDelayedCall] = set()
        self._started_s = 0.0

    def start(self) -> None:
        """Start; times count from now."""
        self._started_s = self._clock.seconds()
        for step in self._steps:
            self._plan(step, 0)

    def stop(self) -> None:
        """Stop; faults in force stay."""
        for call in self._calls:
            call.cancel()
        self._calls.clear()

    def _plan(self, step: ScenarioStep, turn: int) -> None:
        due_s = self._started_s + step.due_s(turn, self._random.random())
        self._later(due_s - self._clock.seconds(), lambda: self._take(step, turn))

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        def run() -> None:
            self._calls.discard(call)
            act()

        call = self._clock.callLater(max(0.0, delay_s), run)
        self._calls.add(call)

    def _take(self, step: ScenarioStep, turn: int) -> None:
        log.info("scenario: {step}", step=step)
        if step.incident is not None:
            self._strike(step.device, step.incident)
        elif step.fault is None:
            self._board.clear(step.device)
        else:
            self._begin(step)
        if step.every_s is not None:
            self._plan(step, turn + 1)

    def _begin(self, step: ScenarioStep) -> None:
        fault = step.fault
        if fault is None:
            return
        self._board.set(step.device, merge(self._board.get(step.device), fault))
        if step.stays_s is not None:
            self._later(
                step.stays_s,
                lambda: self._board.set(step.device, without(self._board.get(step.device), fault)),
            )
