"""Carries out a plan: one machine with its clock, disk and network, and the agent's lives on it.

After the plan's end everything works again. Then the world must come to rest: what was accepted has
arrived, every request is answered, and the agent stops when it is asked to.
"""

from __future__ import annotations

import gc
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import txaio
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from oda.config.changes import difference
from oda.errors import OutboxFull
from oda.reload import apply_settings
from oda.settings import (
    AgentSettings,
    ConnectorSettings,
    DeviceInfoSettings,
    DispatcherSettings,
    OutboxPolicy,
    OutboxSettings,
    Schedule,
    Secret,
)
from tests.simulation.disk import Disk, FakeDisk, SqliteDisk
from tests.simulation.history import Facts, History
from tests.simulation.life import Life
from tests.simulation.network import Network, Weather
from tests.simulation.oracle import judge, judge_rest
from tests.simulation.plan import Plan, Step
from tests.simulation.platform import Habits, Platform
from tests.simulation.scheduler import Scheduler, SteppedWallClock, StuckError
from tests.simulation.worker import DiskWeather
from tests.simulation.workload import Numbers

START_MS = 1_800_000_000_000
#: So long the world has to come to rest: longer than any back-off, time limit and linger time.
REST_S = 150.0
#: So long requests that were never read, and are asked again, may take.
ASK_AGAIN_S = 200.0
#: So long the agent may take to notice that its files are gone.
_NOTICED_S = 1.1
#: No world takes so much processor time, in seconds: a callback goes round in circles.
_ENDLESS_S = 6.0
#: So long a stop may take.
STOP_S = 10.0
#: So often the world is looked at, whether it has come to rest.
LOOK_S = 4.0
#: What the outbox still counts while it has something to do.
_BUSY = ("waiting", "in_flight", "lingering", "recovering", "uncommitted_bytes")

MakeDisk = Callable[[Scheduler, History, str, Path], Disk]


class Result(msgspec.Struct):
    """What came of a plan."""

    plan: Plan
    violations: list[str]
    history: str
    facts: Any = None


class EndlessError(BaseException):
    """The agent does not come back from a callback."""


def _ended(*_: Any) -> None:
    raise EndlessError("this callback does not end")


def disk_of(plan: Plan) -> MakeDisk:
    """The disk that a plan needs: files only where something happens to them, or as a sample."""
    touches_files = any(
        step.kind == "strike" or step.arguments.get("damage") is not None for step in plan.steps
    )
    return SqliteDisk if touches_files or plan.settings["disk"]["has_files"] else FakeDisk


def run(plan: Plan, make_disk: MakeDisk | None = None) -> Result:
    """Carry out ``plan``, on the disk that it needs or another one."""
    make_disk = make_disk or disk_of(plan)
    folder = Path(tempfile.mkdtemp(prefix="oda-simulation-", dir=_fast_folder()))
    loop = txaio.config.loop
    before = signal.signal(signal.SIGVTALRM, _ended)
    try:
        world = World(plan, make_disk, folder)
        signal.setitimer(signal.ITIMER_VIRTUAL, _ENDLESS_S)
        try:
            world.run()
        except (Exception, EndlessError) as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            world.history.violate(f"the world broke: {error!r} {at.filename}:{at.lineno}")
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            facts, history = world.facts, world.history
            world.close()
            del world
            gc.collect()  # what is left in Deferreds unhandled is logged now
            globalLogPublisher.removeObserver(history.observer)
    finally:
        txaio.config.loop = loop
        signal.signal(signal.SIGVTALRM, before)
        shutil.rmtree(folder, ignore_errors=True)
    return Result(plan, list(facts.violations), history.text(), facts)


def _fast_folder() -> str | None:
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() else None


class World:
    """One machine and its platform."""

    def __init__(self, plan: Plan, make_disk: MakeDisk, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self.scheduler = Scheduler()
        self.history = History(self.scheduler)
        self.facts: Facts = self.history.facts
        self.wall_clock = SteppedWallClock(self.scheduler, START_MS)
        self.network = Network(self.scheduler, self.history, plan.seed)
        self.platform = Platform(self.scheduler, self.history, plan.seed)
        self.network.accept = self.platform.accept
        self.platform.on_answer = self._answered
        self.disk = make_disk(self.scheduler, self.history, plan.seed, folder)
        self.facts.answers_on_disk = self.disk.answers
        self.disk.head_rows = plan.settings["disk"]["head_rows"]
        self.settings = settings_of(plan)
        self._numbers = Numbers()
        self._lives: list[Life] = []
        self._is_power_loss = False
        self._down_s = 0.0
        self._damage: str | None = None
        self._again: int | None = None
        self._errors = 0
        self._struck_s = float("-inf")
        self._is_ending = False
        self.history.observer = self._logged
        globalLogPublisher.addObserver(self._logged)

    @property
    def life(self) -> Life:
        """The newest life."""
        return self._lives[-1]

    def run(self) -> None:
        """From the first start to the last stop."""
        plan, scheduler = self._plan, self.scheduler
        self._set_disk()
        if "max_bytes" in plan.settings["outbox"]:
            self.facts.excuses.add("room")
        self._begin_life()
        for step in plan.steps:
            scheduler.later(step.at_s, self._do, step)
        try:
            scheduler.run_until(plan.end_s)
            self._calm()
            self._rest(REST_S)
            if self.life.is_over:
                self._begin_life()  # an operation has stopped it just now
                self._rest(REST_S)
            if self.life.agent.parts.outbox._committer._is_given_up:
                # The log says that the store is taken up at the next start: so there has to be one.
                self._do_stop(0.0)
                self._rest(REST_S)
            self._count_dropped()
            judge_rest(self.facts, self.history, self.life.number)
            self._ask_again()
            self._rest(ASK_AGAIN_S)
            self._look_at_counts()
            self._is_ending = True
            self.life.stop(lambda life: None)
            self._rest(STOP_S)
            if not self.life.is_over:
                self.history.violate("the agent does not stop")
        except StuckError as error:
            self.history.violate(str(error))
        self._settle_risk()
        self._count_dropped()
        judge(self.facts, self.history, self.life.number)

    def close(self) -> None:
        """Leave nothing open."""
        for life in self._lives:
            life.reactor.die()
            life.forget()
        self.disk.close()

    # -- the steps -----------------------------------------------------------------------------

    def _do(self, step: Step) -> None:
        if step.kind not in ("publish", "ask") or not self.life.is_over:
            self.history.say("world", str(step)[9:])
        getattr(self, f"_do_{step.kind}")(**step.arguments)

    def _do_publish(self, **arguments: Any) -> None:
        if not self.life.is_over and self.life.reactor.enter():
            self.life.publishers.publish(**arguments)

    def _do_ask(
        self, first: str, name: str, parameters: dict[str, Any], count: int, times: int
    ) -> None:
        acts = name not in ("SIM_READ", "GET_DEVICE_PARAMETERS")
        for _ in range(times):
            for index in range(count):
                self.platform.ask(f"{first}.{index}", name, parameters, acts)

    def _do_cut(self, direction: str, after: int) -> None:
        wire = self.network.wire
        if wire is not None and wire.is_up:
            pipe = wire.up if direction == "up" else wire.down
            pipe.cut_after = after

    def _do_reset(self) -> None:
        if self.network.wire is not None:
            self.network.wire.reset()

    def _do_finish(self) -> None:
        if self.network.wire is not None:
            self.network.wire.finish()

    def _do_hold(self, direction: str, for_s: float) -> None:
        wire = self.network.wire
        if wire is None or not wire.is_up or not self.platform.is_trusted:
            return  # a platform that never answered is taken for one that never does
        pipes = [wire.up, wire.down]
        for pipe in pipes if direction == "both" else [getattr(wire, direction)]:
            pipe.is_held = True

        def release() -> None:
            for pipe in pipes:
                pipe.is_held = False
                pipe.release()

        self.scheduler.later(for_s, release)

    def _do_weather(
        self, answer: str, latency_s: tuple[float, float], piece_bytes: int, for_s: float
    ) -> None:
        weather = self.network.weather
        if not self.platform.is_trusted and answer == "accept":
            latency_s = weather.latency_s
            piece_bytes = max(piece_bytes, 100)
        weather.answer, weather.latency_s = answer, latency_s
        weather.piece_bytes = piece_bytes
        self.scheduler.later(for_s, self._calm_weather)

    def _do_habits(self, for_s: float, **habits: Any) -> None:
        self._set_habits(Habits(**habits))
        self.scheduler.later(for_s, self._set_habits, Habits())

    def _do_close(self, code: int) -> None:
        peer = self.platform.peer
        if peer is None:
            return
        if code == 1006:
            peer.wire.finish()
        else:
            peer.close(code)

    def _do_platform_crash(self) -> None:
        self.platform.crash()

    def _do_disk(self, state: str, commit_s: tuple[float, float], for_s: float) -> None:
        if state != "works":
            self.facts.excuses.add("disk")
        self.disk.weather.state, self.disk.weather.commit_s = state, commit_s
        self.disk.weather_changed()
        self.scheduler.later(for_s, self._set_disk)

    def _do_strike(self, action: str) -> None:
        if not self.life.is_over and self.disk.strike(action):
            self._struck_s = self.scheduler.now_s
            self.facts.excuses |= {"disk", "store"}

    def _do_crash(
        self,
        fuse: int,
        is_power_loss: bool,
        down_s: float,
        damage: str | None = None,
        again: int | None = None,
    ) -> None:
        self._is_power_loss, self._down_s = is_power_loss, down_s
        self._damage, self._again = damage, again
        if fuse:
            self.life.reactor.fuse = fuse
        else:
            self._crash()

    def _do_stop(self, down_s: float) -> None:
        self._down_s = down_s
        if self.life.reactor.enter():
            self.life.stop(self._stopped)

    def _do_reload(self, what: str, value: int) -> None:
        life = self.life
        if life.is_over or life.is_stopping or not life.reactor.enter():
            return
        before = life.agent.settings
        change = msgspec.structs.replace
        connector, dispatcher = before.connector, before.dispatcher
        if what == "keepalive":
            connector = change(connector, keep_alive_interval_s=10.0 * value)
        elif what == "path":
            connector = change(connector, path=f"/sessions/{value}")
        elif what == "size":
            self.facts.excuses.add("size")
            connector = change(connector, max_message_size_bytes=100_000 * value)
        elif what == "timeout":
            dispatcher = change(dispatcher, operation_timeout_s=3.0 * value)
        elif what == "reduced":
            return  # its documents have no time: the oracle could not tell copies apart
        else:
            line = Schedule(datastream_id="sim.a", first_s=1.0, period_s=float(value))
            dispatcher = change(dispatcher, schedules=(line,) if value % 2 else ())
        after = change(before, connector=connector, dispatcher=dispatcher)
        changes = difference(before, after)
        if not changes:
            return
        if changes.reconnect:
            self.platform.is_trusted = False
        self.settings = after
        apply_settings(life.agent, after, changes)

    def _do_clock(self, by_ms: int) -> None:
        self.wall_clock.offset_ms += by_ms

    def _do_purge(self) -> None:
        if self.life.is_over or not self.life.reactor.enter():
            return
        self.facts.purged.update(
            number for number in self.facts.published if number not in self.facts.committed
        )
        self.facts.excuses.add("purge")
        self.life.agent.parts.outbox.purge()

    def _do_retry_dead(self) -> None:
        if self.life.is_over or not self.life.reactor.enter():
            return
        outbox = self.life.agent.parts.outbox
        if self.facts.lone_ends and outbox.counts()["dead"]:
            self.facts.excuses.add("reading")  # what was set aside comes after what was not
        try:
            outbox.retry_dead()
        except OutboxFull:
            self.history.say("agent", "can't read the dead letters now")

    # -- lives ---------------------------------------------------------------------------------

    def begin(self) -> Life:
        """The first life, or the one after a stop."""
        self._set_disk()
        self._begin_life()
        return self.life

    def _begin_life(self) -> None:
        if self._lives and not self.life.is_over:
            return
        life = Life(
            len(self._lives) + 1,
            self.settings,
            self.scheduler,
            self.wall_clock,
            self.network,
            self.disk,
            self.history,
            self._numbers,
            self._plan.seed,
            self._crash,
            lambda: self._do_stop(0.1),
        )
        self._lives.append(life)
        self._errors = 0
        self.platform.life = life.number
        self.platform.is_trusted = False
        self.platform.is_life_over = lambda: life.is_over or life.is_stopping
        life.reactor.fuse, self._again = self._again, None  # a start that does not get far
        life.start()

    def _count_dropped(self) -> None:
        """What the agent says it has lost, in all its lives."""
        facts = self.facts
        facts.dropped = facts.answers_dropped = facts.answers_forgotten = 0
        for life in self._lives:
            count = life.agent.counters.count
            facts.dropped += count("datapoints_dropped")
            facts.answers_dropped += count("messages_dropped", message_class="response")
            facts.answers_dropped += count("answers_lost")
            facts.answers_forgotten += count("journal_answers_forgotten")

    def _stopped(self, life: Life) -> None:
        self.disk.stopped()
        life.reactor.die()
        self._settle_risk()
        self.scheduler.later(self._down_s, self._begin_life)

    def _crash(self) -> None:
        life = self.life
        if life.is_over:
            return
        self.history.say(
            "world",
            f"life {life.number} {'loses its power' if self._is_power_loss else 'is killed'}",
        )
        life.die()
        self.facts.crashed.add(life.number)
        self.disk.crash(self._is_power_loss)
        if self.network.wire is not None:
            self.network.wire.killed()
        self._settle_risk()
        if self._damage is not None:
            self.history.say("disk", f"is damaged: {self._damage}")
            self.disk.damage(self._damage)
            self.facts.excuses |= {"disk", "store"}
            self._damage = None
        self.scheduler.later(self._down_s, self._begin_life)

    def _settle_risk(self) -> None:
        """A life ends: what was on a disk that is gone can't be written anew any more. That is
        nobody's fault if it was said, or if there was no time to notice, and to write a new store:
        the agent can't touch the store during a commit, however long that takes, and looks at the
        file after it."""
        lost = self.disk.at_risk - self.disk.numbers - self.facts.committed
        had_no_time = self.scheduler.now_s - self._struck_s < _NOTICED_S
        if self._errors or had_no_time or self.disk.is_held_up(self._struck_s, _NOTICED_S):
            self.facts.destroyed |= lost
            self.disk.at_risk.clear()

    def _answered(self, key: tuple[str, str], payload: bytes) -> None:
        """The platform has read a final answer: of what was executed, it must be on disk, or a
        crash at this moment would have another answer follow."""
        facts = self.facts
        if not facts.asked[key][0].acts or not facts.executions[key]:
            return
        is_excused = facts.excuses & {"disk", "opening", "store"}
        if (key, payload) not in self.disk.answers and not is_excused:
            self.history.violate(f"the answer {key[0]}/{key[1]} was read before it was on disk")

    # -- the end -------------------------------------------------------------------------------

    def _rest(self, limit_s: float) -> None:
        """Let ``limit_s`` seconds pass; less if nothing is left to do, unless the plan is to wait
        all the same."""
        scheduler = self.scheduler
        ends_s = scheduler.now_s + limit_s
        was_at_rest = False
        while scheduler.now_s < ends_s:
            scheduler.run_until(min(ends_s, scheduler.now_s + LOOK_S))
            is_at_rest = not self._plan.is_patient and self._is_at_rest()
            if is_at_rest and was_at_rest:
                return
            was_at_rest = is_at_rest

    def _is_at_rest(self) -> bool:
        """Whether only timers and pings are still to come."""
        life = self.life
        if life.is_over:
            return self._is_ending  # otherwise another one is about to begin
        if life.is_stopping or self.platform.peer is None or self.platform.has_uncommitted():
            return False
        outbox = life.agent.parts.outbox
        counts = outbox.counts()
        if any(counts[name] for name in _BUSY) or outbox.is_recovering:
            return False
        facts = self.facts
        if any(
            not event.outcome and event.life == life.number for event in facts.published.values()
        ):
            return False
        return all(
            key in facts.answers
            or (not facts.executions[key] and asked[-1].life != life.number)
            or facts.answers_lost[key]
            for key, asked in facts.asked.items()
        )

    def _calm(self) -> None:
        self.history.say("world", "everything works from now on")
        self.life.reactor.fuse = self._again = None
        self._down_s = 0.1
        self._calm_weather()
        self._set_habits(Habits())
        self._set_disk()
        wire = self.network.wire
        if wire is not None:
            for pipe in (wire.up, wire.down):
                pipe.is_held, pipe.cut_after = False, None
                pipe.release()

    def _calm_weather(self) -> None:
        calm = Weather()
        weather = self.network.weather
        weather.answer, weather.latency_s = calm.answer, calm.latency_s
        weather.piece_bytes = calm.piece_bytes

    def _set_habits(self, habits: Habits) -> None:
        self.platform.habits = replace(habits)

    def _set_disk(self) -> None:
        calm = DiskWeather()
        self.disk.weather.state = calm.state
        self.disk.weather.commit_s = tuple(self._plan.settings["disk"]["commit_s"])
        self.disk.weather_changed()

    def _ask_again(self) -> None:
        """What was never read, the platform asks again, word for word."""
        self.facts.is_ending = True
        for key, asked in sorted(self.facts.asked.items()):
            if key not in self.facts.answers:
                self.history.say("world", f"{key[0]}/{key[1]} has no answer yet")
                self.platform.ask(*key, self._parameters(key), asked[0].acts)

    def _parameters(self, key: tuple[str, str]) -> Any:
        wanted = (key[0].rpartition(".")[0], key[1])
        for step in self._plan.steps:
            arguments = step.arguments
            if step.kind == "ask" and wanted == (arguments["first"], arguments["name"]):
                return arguments["parameters"]
        raise AssertionError(key)

    def _look_at_counts(self) -> None:
        if self.life.is_over:
            return
        counts = dict(self.life.agent.parts.outbox.counts())
        counts.pop("bytes")
        dead = counts.pop("dead")
        totals = self.life.agent.parts.outbox.totals()
        settled = totals.delivered.messages + totals.dropped.messages + totals.dead.messages
        settled += sum(stored.rows for stored in totals.stored.values())
        if totals.accepted.messages != settled and "store" not in self.facts.excuses:
            self.history.violate(f"the accounts don't balance at rest: {totals}")
        left = {name: count for name, count in counts.items() if count}
        if left:
            self.history.violate(f"at rest the outbox still counts {left}")
        may_be_dead = self.facts.refused_by_platform or "store" in self.facts.excuses
        if dead < 0 or (dead > self.facts.lone_ends and not may_be_dead):
            self.history.violate(f"there are {dead} dead letters")
        if self.facts.lone_ends:
            self.facts.set_aside = totals.dead.datapoints
        self._look_at_counters(self.life)

    def _look_at_counters(self, life: Life) -> None:
        for name, count in life.agent.counters.counts().items():
            if count < 0:
                self.history.violate(f"a counter is negative: {name} {count}")

    # -- the log -------------------------------------------------------------------------------

    def _logged(self, event: dict[str, Any]) -> None:
        level = event.get("log_level")
        if level is None or level < LogLevel.warn:
            return
        failure = event.get("log_failure")
        text = formatEvent(event).splitlines()[0] if event.get("log_format") else ""
        text = text.replace(str(self._folder), "DISK")
        if failure is not None:
            where = failure.getTraceback().splitlines()
            at = next((line for line in reversed(where) if "File" in line), "").strip()
            self.history.violate(f"a defect: {failure.type.__name__}: {failure.value} {at}")
        self._errors += level >= LogLevel.error
        self.history.say("log", f"{level.name} {text}")


def settings_of(plan: Plan) -> AgentSettings:
    """The agent's settings in the world of ``plan``."""
    outbox = dict(plan.settings["outbox"])
    if "policy" in outbox:
        outbox["policy"] = OutboxPolicy(outbox["policy"])
    connector: dict[str, Any] = {
        "keep_alive_interval_s": 20.0,
        "pong_timeout_s": 8.0,
        "connection_timeout_s": 10.0,
        "reconnect_max_delay_s": 10.0,
        **plan.settings["connector"],
    }
    return AgentSettings(
        connector=ConnectorSettings(host="192.0.2.1", port=9955, path="/sessions", **connector),
        device_info=DeviceInfoSettings(device_id="dev-1", api_key=Secret("key")),
        outbox=OutboxSettings(path=Path("outbox.sqlite"), **outbox),
        dispatcher=DispatcherSettings(operation_timeout_s=20.0),
    )
