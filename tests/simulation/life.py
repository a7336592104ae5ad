"""One life of the agent: a process, from its start to its stop or its crash."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import txaio
from twisted.internet.defer import Deferred

from oda.agent import Agent
from oda.assembly import build_parts
from oda.settings import AgentSettings
from tests.simulation.disk import Disk
from tests.simulation.history import History
from tests.simulation.network import Network
from tests.simulation.scheduler import LifeReactor, Scheduler, SteppedWallClock
from tests.simulation.workload import (
    ACT,
    ACT_TOO,
    READ,
    ClockSetting,
    ContinuingOperation,
    Numbers,
    Publishers,
    Setting,
    SimulatedOperation,
)


class Life:
    """``number`` counts the lives of a world. ``ended(life)`` is called when it is over, however it
    ended; ``stop_wanted()`` when an operation asks for the agent's end."""

    def __init__(
        self,
        number: int,
        settings: AgentSettings,
        scheduler: Scheduler,
        wall_clock: SteppedWallClock,
        network: Network,
        disk: Disk,
        history: History,
        numbers: Numbers,
        seed: str,
        on_fuse: Callable[[], None],
        stop_wanted: Callable[[], None],
    ) -> None:
        self.number = number
        self.history = history
        self.is_stopping = False
        self.is_over = False
        self.reactor = LifeReactor(scheduler, network.connect, on_fuse)
        txaio.use_twisted()
        txaio.config.loop = self.reactor
        random = Random(f"{seed}/life/{number}")
        publishers = self.publishers = Publishers(
            number, self.reactor, history, disk, numbers, self._publish
        )
        operations = [
            SimulatedOperation(name, name == READ, self.reactor, history, publishers, stop_wanted)
            for name in (ACT, ACT_TOO, READ)
        ]
        continuing = ContinuingOperation(self.reactor, history)
        self.agent = Agent(
            settings,
            [*operations, continuing, Setting("setting", self.reactor), ClockSetting(wall_clock)],
            self.reactor,
            wall_clock,
            {},
            partial(
                build_parts,
                make_outbox=disk.make_outbox,
                random=random.random,
                random_bytes=random.randbytes,
            ),
        )

    def start(self) -> None:
        """Start the agent."""
        self.history.say("world", f"life {self.number} begins")
        self.agent.startService()

    def stop(self, stopped: Callable[[Life], None]) -> None:
        """Stop it in good order; ``stopped`` is called when it has."""
        if self.is_stopping or self.is_over:
            return
        self.is_stopping = True
        self.history.say("world", f"life {self.number} is asked to stop")
        stopping: Deferred[Any] = self.agent.stopService()
        stopping.addBoth(self._stopped, stopped)

    def _stopped(self, outcome: Any, stopped: Callable[[Life], None]) -> None:
        if self.reactor.is_dead:
            return
        if outcome is not None:
            self.history.violate(f"stopping failed: {outcome}")
        left = [call for call in self.reactor.getDelayedCalls() if call.active()]
        if left:
            self.history.violate(f"a stopped agent leaves timers: {left[0].func}")
        self.is_over = True
        self.history.say("world", f"life {self.number} has stopped")
        stopped(self)

    def die(self) -> None:
        """The process is killed."""
        self.is_over = True
        self.reactor.die()

    def forget(self) -> None:
        """Let go of what this life left unfinished. Rows are not seen by the collector of garbage:
        one that still waits for its acceptance would keep the whole world in memory."""
        uncommitted = self.agent.parts.outbox._uncommitted
        for transaction in (uncommitted.running, uncommitted.collecting):
            if transaction is not None:
                for rows in transaction.rows.values():
                    for row in rows.values():
                        row.accepted = None
                for burial in transaction.burials:
                    burial.row.accepted = None

    def _publish(self, events: Any) -> Deferred[None]:
        return self.agent.publish(events)
