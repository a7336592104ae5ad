"""Verified doubles of what surrounds the durable outbox, and a device to run it on."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.interfaces import ICounters, IWallClock
from oda.model import MessageClass, OutboxRow, OutgoingMessage
from oda.outbox.clock import Uptime
from oda.outbox.outbox import Outbox
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.store import IStore, StoreError
from oda.outbox.worker import InlineWorker, IWorker
from oda.settings import OutboxSettings

START_MS = 1_750_000_000_000


@implementer(IWallClock)
class FakeWallClock:
    """Follows ``clock`` unless it is set."""

    def __init__(self, clock: Clock, start_ms: int = START_MS) -> None:
        self._clock = clock
        self.start_ms = start_ms

    def now_ms(self) -> int:
        return self.start_ms + int(self._clock.seconds() * 1000)


@implementer(ICounters)
class FakeCounters:
    """Sums by name, and by name and reason."""

    def __init__(self) -> None:
        self.sums: dict[str, int] = {}

    def increment(self, name: str, amount: int = 1, **labels: str) -> None:
        self.sums[name] = self.sums.get(name, 0) + amount
        if "reason" in labels:
            key = f"{name}:{labels['reason']}"
            self.sums[key] = self.sums.get(key, 0) + amount

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Not looked at."""

    def __getitem__(self, name: str) -> int:
        return self.sums.get(name, 0)


@implementer(IWorker)
class StepWorker:
    """Runs a job only when it is told to: a disk that takes its time."""

    def __init__(self) -> None:
        self.hangs = False
        self.jobs: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()
        self.aside: list[bool] = []
        self.is_stopped = False
        self._outcomes: list[Any] = []  # of the oldest job, where it is done and not told

    def run(
        self,
        job: Callable[[], Any],
        done: Callable[[Any], None],
        takes_long: bool = False,
        aside: bool = False,
    ) -> None:
        self.jobs.append((job, done))
        self.aside.append(aside)

    def work(self) -> None:
        """Run the oldest job, unless that was done. The reactor does not know yet."""
        if not self._outcomes:
            try:
                self._outcomes.append(self.jobs[0][0]())
            except Exception:
                self._outcomes.append(Failure())

    def step(self) -> None:
        """Run the oldest job, unless that was done, and tell its outcome."""
        self.work()
        _, done = self.jobs.popleft()
        done(self._outcomes.pop())

    def fail(self, error: BaseException) -> None:
        """Let the oldest job fail, without doing anything, or although it was done."""
        _, done = self.jobs.popleft()
        self._outcomes.clear()
        done(Failure(error))

    def finish(self) -> None:
        """Run all, also those that come meanwhile."""
        while self.jobs:
            self.step()

    def wait(self) -> bool:
        """The oldest job ends while the reactor waits, unless the disk ``hangs``."""
        if self.jobs and not self.hangs:
            self.step()
        return not self.hangs

    def stop(self) -> None:
        self.is_stopped = True


class Device:
    """An agent's outbox on a fake clock. ``restart`` and ``crash`` begin another process.

    ``make_store`` makes the store of each process; None means the file at ``path``.
    """

    def __init__(
        self,
        path: Path,
        worker: Callable[[], Any] = InlineWorker,
        head_rows: int = 1024,
        make_store: Callable[[], IStore] | None = None,
        **settings: Any,
    ) -> None:
        self.make_store = make_store
        self.settings = OutboxSettings(path=path, **{"ack_commit_delay_s": 5.0, **settings})
        self.clock = Clock()
        self.wall = FakeWallClock(self.clock)
        self.make_worker = worker
        self.head_rows = head_rows
        self.crashes = 0
        self.boot_id = "a boot"
        self.start()

    def start(self) -> None:
        self.counters = FakeCounters()
        self.worker = self.make_worker()
        self.told = 0
        self.store: Any
        if self.make_store is not None:
            self.store = self.make_store()
        else:
            self.store = SqliteStore(self.settings.path, self.settings)
        self.outbox = Outbox(
            self.settings,
            self.store,
            self.worker,
            self.clock,
            self.wall,
            self.counters,
            Uptime(self.boot_id, self.clock.seconds),
            self.head_rows,
        )
        self.outbox.subscribe(self._on_pending)
        self.outbox.open()
        self.turn()

    def _on_pending(self) -> None:
        self.told += 1

    def turn(self) -> None:
        """Let one turn of the reactor pass. The invariants of the package hold after it."""
        self.clock.advance(0)
        self.check()

    def check(self) -> None:
        """The invariants of the package hold. A start in the middle of a recovery knows the rows
        that are not copied yet as a part of a range of unread ones: then the look has to wait."""
        if not self.outbox.is_recovering:
            self.outbox.check_invariants()

    def put(
        self, payload: bytes, response: bool = False, datapoints: int = 1, **more: Any
    ) -> Deferred[int]:
        return self.outbox.put(
            OutgoingMessage(
                payload=payload,
                message_class=MessageClass.RESPONSE if response else MessageClass.TELEMETRY,
                datapoints=datapoints,
                **more,
            )
        )

    def put_all(self, payloads: Sequence[bytes]) -> list[Deferred[int]]:
        """Put them in one turn and let it end."""
        waiting = [self.put(payload) for payload in payloads]
        self.turn()
        return waiting

    def take(self, rows: int = 1 << 30, size: int = 1 << 30) -> Sequence[OutboxRow]:
        return self.outbox.take(rows, size)

    def take_all(self, chunk: int = 64) -> list[OutboxRow]:
        """Everything that is pending, in chunks."""
        rows: list[OutboxRow] = []
        while taken := self.take(chunk):
            rows += taken
        return rows

    def recover(self) -> None:
        """Let a damaged store be copied to its end."""
        for _ in range(10_000):
            if not self.outbox.is_recovering:
                return
            self.turn()
            if isinstance(self.worker, StepWorker):
                self.worker.finish()
        raise AssertionError("a recovery without an end")

    def stop(self) -> None:
        self.check()
        done: list[Any] = []
        self.outbox.close().addBoth(done.append)
        if isinstance(self.worker, StepWorker):
            self.worker.finish()
        assert done == [None]
        assert not self.clock.getDelayedCalls()

    def restart(self, **settings: Any) -> None:
        self.stop()
        self.settings = msgspec.structs.replace(self.settings, **settings)
        self.start()

    def last_id(self, response: bool = False) -> int:
        """The id of the newest row of a class."""
        message_class = MessageClass.RESPONSE if response else MessageClass.TELEMETRY
        return self.outbox.totals().last_ids[message_class.value]

    def crash(self, damage: Callable[[Path], None] | None = None) -> None:
        """The process ends at once; another begins with a copy of the file as it is now."""
        old = self.settings.path
        self.crashes += 1
        new = old.with_name(f"{self.crashes}.sqlite")
        copy_store(old, new)
        self.kill()
        if damage is not None:
            damage(new)
        self.settings = msgspec.structs.replace(self.settings, path=new)
        self.start()

    def kill(self) -> None:
        """The process is dead: nothing of it runs any more, and nothing is open.

        Here closing folds the log into the file, so whoever wants what a dead process leaves takes
        a copy before. Left open, a collection would close it some day: in the middle of a test's
        removal of its directory, perhaps.
        """
        for call in list(self.clock.getDelayedCalls()):
            call.cancel()
        if isinstance(self.store, SqliteStore):
            self.store.release_file()
            self.store._unlock()


def quick_directory() -> Path:
    """A new directory, in memory where there is such a place: a machine of hypothesis opens
    hundreds of stores, and its crashes lose no power."""
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="oda-outbox-", dir=place))


def disk_full() -> StoreError:
    """What the store raises when there is no space left."""
    return StoreError("database or disk is full")


def copy_store(source: Path, target: Path) -> None:
    """What a power failure would leave: the file and its write-ahead log."""
    for suffix in ("", "-wal"):
        if (one := Path(f"{source}{suffix}")).exists():
            shutil.copyfile(one, f"{target}{suffix}")
