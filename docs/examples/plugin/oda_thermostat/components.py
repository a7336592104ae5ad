"""What the plugin adds to the agent: each class provides an interface of ``oda.interfaces``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from zope.interface import implementer

from oda.errors import InvalidParameter, WritingFailed
from oda.interfaces import (
    IDatastreamGetter,
    IDatastreamSetter,
    IDatastreamSource,
    IOperation,
)
from oda.model import HOST, Event, OperationRequest, OperationResult, Reading, Step, StepResult
from oda_thermostat.room import Room

_log = Logger()

DEFAULTS = {"period": 10.0, "min": 5.0, "max": 30.0}


def create_components(options: Mapping[str, str], reactor: Any) -> Iterable[object]:
    """The components for these options.

    Raises ``ValueError`` for a wrong option: the agent then does not start, and says why.
    """
    numbers = dict(DEFAULTS)
    for name, text in options.items():
        if name not in DEFAULTS:
            raise ValueError(f"unknown option {name!r}; there are {', '.join(DEFAULTS)}")
        try:
            numbers[name] = float(text)
        except ValueError:
            raise ValueError(f"the option {name!r} must be a number, not {text!r}") from None
    room = Room()
    target = Target(room, numbers["min"], numbers["max"])
    return [target, Thermometer(room, numbers["period"], reactor), WarmUp(room, target, reactor)]


@implementer(IDatastreamGetter, IDatastreamSetter)
class Target:
    """The temperature that the room should have, to read and to write."""

    datastream_id = "heating.target"

    def __init__(self, room: Room, lowest: float, highest: float) -> None:
        self._room = room
        self._lowest = lowest
        self._highest = highest

    def devices(self) -> Iterable[str]:
        return [HOST]

    def get(self, device_id: str) -> Reading:
        return Reading(self._room.target)

    def set(self, device_id: str, value: Any) -> None:
        problem = self.problem_of(value)
        if problem:
            raise WritingFailed(problem)
        self._room.target = float(value)

    def problem_of(self, value: Any) -> str | None:
        """Why ``value`` can't be a target, None when it can."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number"
        if not self._lowest <= value <= self._highest:
            return f"must be from {self._lowest:g} to {self._highest:g}"
        return None


@implementer(IDatastreamSource)
class Thermometer:
    """Publishes the temperature of the room every ``period_s`` seconds."""

    def __init__(self, room: Room, period_s: float, reactor: Any) -> None:
        self._room = room
        self._period_s = period_s
        self._loop = LoopingCall(self._measure)
        self._loop.clock = reactor

    def start(self, publish: Callable[[Sequence[Event]], Deferred[None]]) -> None:
        self._publish = publish
        self._loop.start(self._period_s)

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()

    def _measure(self) -> Deferred[None]:
        self._room.pass_time(self._period_s)
        event = Event("heating.temperature", round(self._room.temperature, 1))
        # The loop waits for this Deferred, so it must not fail: that would end the loop.
        return self._publish([event]).addErrback(
            lambda failure: _log.warn("not accepted: {reason}", reason=failure.getErrorMessage())
        )


@implementer(IOperation)
class WarmUp:
    """Heats the room up to the parameter ``target``, with a partial answer for each degree."""

    name = "WARM_UP"
    reads_only = False

    def __init__(self, room: Room, target: Target, reactor: Any) -> None:
        self._room = room
        self._target = target
        self._reactor = reactor

    async def execute(
        self, request: OperationRequest, progress: Callable[[Sequence[Step]], None]
    ) -> OperationResult:
        wanted = request.parameters.get("target")
        problem = self._target.problem_of(wanted)
        if wanted is None or problem:
            raise InvalidParameter("target", "missing" if wanted is None else str(problem))
        self._room.target = float(wanted)
        steps: list[Step] = []
        reached = int(self._room.temperature)
        while self._room.temperature < wanted:
            # At the agent's time limit CancelledError comes out of this line.
            await deferLater(self._reactor, 0.1)
            if int(self._room.temperature) > reached:
                reached = int(self._room.temperature)
                steps.append(Step(f"{reached} degrees", StepResult.SUCCESSFUL))
                progress(steps)
        return OperationResult(
            description=f"The room has {self._room.temperature:.1f} degrees.", steps=steps
        )
