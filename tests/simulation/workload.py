"""Publishers, operations and readings: the code of others that the agent meets.

All of it calls back into the agent from wherever it is called. What it hears is put into the facts,
unless the life it belongs to is over: nobody is left then who could hear it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.errors import OperationFailed, OutboxError
from oda.interfaces import (
    IDatastreamGetter,
    IDatastreamSetter,
    IOperation,
    IProgress,
    IResumableOperation,
)
from oda.model import Event, OperationResult, Reading, Step, StepResult
from tests.simulation.disk import Disk
from tests.simulation.documents import value_of
from tests.simulation.history import History, Published
from tests.simulation.scheduler import LifeReactor, SteppedWallClock

PARAMETERS_READ = "GET_DEVICE_PARAMETERS"
PARAMETERS_SET = "SET_DEVICE_PARAMETERS"
ACT = "SIM_ACT"
ACT_TOO = "SIM_ACT_TOO"
READ = "SIM_READ"
CONTINUE = "SIM_CONTINUE"


class Numbers:
    """Gives each event of a world its number."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """The next one."""
        self._last += 1
        return self._last


class Publishers:
    """Publishes through ``publish`` (the agent's) in one life, and hears what becomes of it."""

    def __init__(
        self,
        life: int,
        reactor: LifeReactor,
        history: History,
        disk: Disk,
        numbers: Numbers,
        publish: Callable[[Any], Deferred[None]],
    ) -> None:
        self._life = life
        self._reactor = reactor
        self._history = history
        self._facts = history.facts
        self._disk = disk
        self._numbers = numbers
        self._publish = publish

    def publish(
        self,
        stream: str,
        count: int,
        size: int = 10,
        kind: str = "number",
        at_ms: int | None = None,
        chain: int = 0,
        as_list: bool = True,
        fan: int = 1,
    ) -> list[Deferred[Any]]:
        """Publish ``count`` events; when they are accepted do it again, ``chain`` times, each
        time ``fan`` times over. The Deferreds fire with None, whatever the outcome."""
        events: list[Event] = []
        for _ in range(count):
            number = self._numbers.next()
            value = value_of(number, size, kind)
            self._facts.published[number] = Published(
                number, stream, value_of(number, size, kind), at_ms, self._life
            )
            events.append(Event(stream, value, at_ms=at_ms))
        groups = [events] if as_list else [[event] for event in events]
        told: list[Deferred[Any]] = []
        for index, group in enumerate(groups):
            try:
                accepted = self._publish(group if as_list else group[0])
            except Exception as error:
                self._history.violate(f"publish raised {error!r}")
                continue
            told.append(accepted.addBoth(self._told, [_number(one) for one in group]))
            if chain and index == len(groups) - 1:
                for _ in range(fan):
                    accepted.addCallback(
                        lambda result: self._again(
                            result, stream, count, size, kind, at_ms, chain - 1, as_list, fan
                        )
                    )
        return told

    def _again(self, result: Any, *arguments: Any) -> Any:
        if not self._reactor.is_dead and result is None:
            stream, count, size, kind, at_ms, chain, as_list, fan = arguments
            self.publish(stream, count, size, kind, at_ms, chain, as_list, fan)
        return result

    def _told(self, outcome: Any, numbers: Sequence[int]) -> Any:
        if not self._reactor.effect():
            return "dead"
        facts = self._facts
        for number in numbers:
            known = facts.published[number]
            if known.outcome:
                self._history.violate(f"event {number} was told twice")
            known.at_s = self._reactor.seconds()
            if isinstance(outcome, Failure):
                known.outcome = f"refused: {outcome.type.__name__}"
                if not outcome.check(OutboxError, CancelledError):
                    self._history.violate(f"event {number} was refused with {outcome.value!r}")
                continue
            known.outcome = "accepted"
            if number not in self._disk.numbers:
                facts.only_read.add(number)
                if number not in facts.arrived:
                    self._history.violate(f"event {number} was accepted while it was not on disk")
        self._history.say(
            "agent",
            f"{'refuses' if isinstance(outcome, Failure) else 'accepts'} events"
            f" {numbers[0]}-{numbers[-1]}",
        )
        return None if not isinstance(outcome, Failure) else "refused"


def _number(event: Event) -> int:
    value = event.value
    return int(value["n"] if isinstance(value, dict) else value)


@implementer(IOperation)
class SimulatedOperation:
    """Does what its parameters say. ``stop()`` asks the world to stop the agent."""

    def __init__(
        self,
        name: str,
        reads_only: bool,
        reactor: LifeReactor,
        history: History,
        publishers: Publishers,
        stop: Callable[[], None],
    ) -> None:
        self.name = name
        self.reads_only = reads_only
        self._reactor = reactor
        self._history = history
        self._publishers = publishers
        self._stop = stop

    def execute(self, request: Any, progress: Callable[[Sequence[Step]], None]) -> Any:
        if not self._reactor.effect():
            return Deferred()
        key = (request.id, request.name)
        facts = self._history.facts
        facts.executions[key] += 1
        self._history.say("agent", f"executes {request.id}/{request.name}")
        is_known = "store" not in facts.excuses  # with the journal, what was executed is gone
        if not self.reads_only and facts.executions[key] > 1 and is_known:
            self._history.violate(f"{request.id}/{request.name} was executed twice")
        wanted = request.parameters
        size = int(wanted.get("size", 10))
        result = OperationResult(description=f"done {request.id} " + "y" * size)
        if wanted.get("stops") and not facts.is_ending:
            self._stop()
        if wanted.get("progress"):
            progress([Step("first", StepResult.SUCCESSFUL, "so far")])
        if wanted.get("raises"):
            raise OperationFailed(f"{request.id} can't be done")
        waits: list[Deferred[Any]] = []
        if wanted.get("publishes"):
            waits = self._publishers.publish(
                f"sim.op.{self.name}", int(wanted["publishes"]), int(wanted.get("event_size", 10))
            )
        seconds = 0.0 if facts.is_ending else float(wanted.get("seconds", 0))
        if wanted.get("waits") and waits:
            return waits[0].addBoth(lambda _: result)
        if seconds:
            done: Deferred[OperationResult] = Deferred()
            timer = self._reactor.callLater(seconds, _fire, done, result)
            done.addErrback(_cancelled, timer)
            return done
        return result


@implementer(IOperation, IResumableOperation)
class ContinuingOperation:
    """Saves its state, waits, and is done; after a restart it goes on from there."""

    name = CONTINUE
    reads_only = False
    time_limit_s = None

    def __init__(self, reactor: LifeReactor, history: History) -> None:
        self._reactor = reactor
        self._history = history

    def execute(self, request: Any, progress: IProgress) -> Any:
        if not self._reactor.effect():
            return Deferred()
        facts, key = self._history.facts, (request.id, request.name)
        facts.executions[key] += 1
        self._history.say("agent", f"executes {request.id}/{request.name}")
        if facts.executions[key] > 1 and "store" not in facts.excuses:
            self._history.violate(f"{request.id}/{request.name} was executed twice")
        progress([Step("first", StepResult.SUCCESSFUL, "so far")])
        return self._go_on(request, 1, progress)

    def resume(self, request: Any, state: Any, progress: IProgress) -> Any:
        if not self._reactor.effect():
            return Deferred()
        facts, key = self._history.facts, (request.id, request.name)
        facts.resumed[key] += 1
        self._history.say("agent", f"resumes {request.id}/{request.name} at {state}")
        if state < facts.saved.get(key, 0) and not facts.excuses & {"disk", "store"}:
            self._history.violate(f"{request.id}/{request.name} was resumed with an older state")
        return self._go_on(request, state + 1, progress)

    def _go_on(self, request: Any, state: int, progress: IProgress) -> Any:
        timers: list[Any] = []
        done: Deferred[OperationResult] = Deferred(lambda _: [one.cancel() for one in timers])
        result = OperationResult(description=f"done {request.id} at {state}")
        is_ending = self._history.facts.is_ending
        seconds = 0.0 if is_ending else float(request.parameters.get("seconds", 0))

        def saved(_: None) -> None:
            if self._reactor.effect() and not done.called:
                self._history.facts.saved[request.id, request.name] = state
                timers.append(self._reactor.callLater(seconds, _fire, done, result))

        def failed(failure: Failure) -> None:
            if not done.called:
                done.errback(OperationFailed(failure.getErrorMessage()))

        progress.save(state).addCallbacks(saved, failed)
        return done


def _fire(done: Deferred[Any], result: Any) -> None:
    if not done.called:
        done.callback(result)


def _cancelled(failure: Failure, timer: Any) -> Failure:
    if timer.active():
        timer.cancel()
    return failure


@implementer(IDatastreamGetter, IDatastreamSetter)
class Setting:
    """A datastream that can be read and written. Reading always gives the same: a request that
    reads and comes again may be run again, and its answers must not differ."""

    def __init__(self, datastream_id: str, reactor: LifeReactor) -> None:
        self.datastream_id = datastream_id
        self._reactor = reactor

    def devices(self) -> tuple[str, ...]:
        return ("",)

    def get(self, device_id: str) -> Reading:
        return Reading("as ever")

    def set(self, device_id: str, value: Any) -> None:
        """Nothing comes of it."""


@implementer(IDatastreamSetter)
class ClockSetting:
    """``device.clock`` of the simulated machine. The real one must never be set."""

    datastream_id = "device.clock"

    def __init__(self, wall_clock: SteppedWallClock) -> None:
        self._wall_clock = wall_clock

    def devices(self) -> tuple[str, ...]:
        return ("",)

    def set(self, device_id: str, value: Any) -> None:
        self._wall_clock.set_ms(int(value))
