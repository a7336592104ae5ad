"""The disk of a simulated machine: what a crash leaves of it, and what is on it at this moment.

``SqliteDisk`` is the agent's own store in files of a real file system, with the timing of
``worker``. Each crash leaves a copy of the files, and the next life works on that.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import Any, Protocol

import msgspec

from oda.interfaces import ICounters, IWallClock
from oda.outbox.clock import Uptime
from oda.outbox.outbox import Outbox
from oda.outbox.queue import HEAD_ROWS
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.transaction import Transaction
from oda.settings import AgentSettings
from tests.simulation.documents import read_document
from tests.simulation.history import History
from tests.simulation.scheduler import LifeReactor, Scheduler
from tests.simulation.store import Image, SimulatedStore, WeatheredStore
from tests.simulation.worker import DiskWeather, SimulatedWorker

_TABLES = ("telemetry", "response")


class Disk(Protocol):
    """What the world needs of a disk."""

    weather: DiskWeather
    #: How many rows of a class the outbox has in memory; the others it reads when it needs them.
    head_rows: int
    numbers: set[int]
    answers: set[tuple[tuple[str, str], bytes]]
    #: Events that were on a disk which is gone or damaged, and were not seen on it again.
    at_risk: set[int]

    def make_outbox(
        self, settings: AgentSettings, reactor: Any, wall_clock: IWallClock, counters: ICounters
    ) -> Any:
        """The outbox of a new life, as ``oda.assembly.build_outbox`` makes it."""

    def weather_changed(self) -> None:
        """``weather`` is another."""

    def strike(self, action: str) -> bool:
        """Do ``action`` to the files of the store while they are in use (see ``plan``); False
        where this disk has no files."""

    def damage(self, action: str) -> None:
        """Do ``action`` to the files of the store between two lives."""

    def is_held_up(self, from_s: float, within_s: float) -> bool:
        """As ``SimulatedWorker.is_held_up``, of the newest life."""

    def crash(self, is_power_loss: bool) -> None:
        """The present life has ended; what it had not brought to the disk is gone."""

    def stopped(self) -> None:
        """The present life has ended in good order."""

    def close(self) -> None:
        """The world ends."""


class SqliteDisk:
    """``numbers`` are what was on the disk at any time since the last crash: rows are deleted only
    after they were delivered or dropped, which others see to. ``answers`` are what ever was: the
    platform may read them when the process that sent them is over."""

    def __init__(self, scheduler: Scheduler, history: History, seed: str, folder: Path) -> None:
        self._scheduler = scheduler
        self._history = history
        self._seed = seed
        self._folder = folder
        self._lives = 0
        self._boots = 0
        self._path = folder / "store" / "outbox.sqlite"
        self._path.parent.mkdir()
        self._worker: SimulatedWorker | None = None
        self._look: sqlite3.Connection | None = None
        self._store: SqliteStore | None = None
        self._guard: WeatheredStore | None = None
        self._seen = dict.fromkeys(_TABLES, 0)
        self._known: dict[str, set[int]] = {one: set() for one in _TABLES}
        self._inode: int | None = None
        #: Older rows may come after newer ones: they are copied from another file.
        self._has_gaps = False
        self.weather = DiskWeather()
        self.head_rows = HEAD_ROWS
        self.numbers: set[int] = set()
        self.answers: set[tuple[tuple[str, str], bytes]] = set()
        self.at_risk: set[int] = set()

    def make_outbox(
        self, settings: AgentSettings, reactor: Any, wall_clock: IWallClock, counters: ICounters
    ) -> Any:
        assert isinstance(reactor, LifeReactor)
        self._lives += 1
        worker = self._worker = SimulatedWorker(
            self._scheduler,
            reactor,
            self.weather,
            self._history,
            Random(f"{self._seed}/disk/{self._lives}"),
            self._look_at_rows,
        )
        self._guard = WeatheredStore(self._make_store(settings), self.weather, self._failed)
        return Outbox(
            settings.outbox,
            self._guard,
            worker,
            reactor,
            wall_clock,
            counters,
            Uptime(f"boot {self._boots}", self._scheduler.seconds),
            self.head_rows,
        )

    def _make_store(self, settings: AgentSettings) -> Any:
        self._store = SqliteStore(
            self._path, msgspec.structs.replace(settings.outbox, path=self._path)
        )
        return self._store

    def _failed(self, what: str) -> None:
        self._history.facts.excuses.add(what)

    def weather_changed(self) -> None:
        if self._worker is not None:
            self._worker.weather_changed()

    def is_held_up(self, from_s: float, within_s: float) -> bool:
        return self._worker is not None and self._worker.is_held_up(from_s, within_s)

    def crash(self, is_power_loss: bool) -> None:
        if self._worker is not None:
            self._worker.died()
        if self._guard is not None:
            self._guard.is_over = True
        self._boots += is_power_loss
        self._next_files()

    def _next_files(self) -> None:
        """The next life works on a copy of the files as they are now."""
        self._forget_rows()
        is_seen = self._look_at_open_file()
        self._close_look()
        place, old = self._path.parent, self._folder / "gone"
        copies = self._folder / "copies"
        copies.mkdir()
        for file in place.iterdir():
            if file.suffix != ".moved" and not file.name.endswith("-shm"):
                (copies / file.name).write_bytes(file.read_bytes())
        place.rename(old)
        copies.rename(place)
        self._close_store()
        shutil.rmtree(old)
        if is_seen:
            self._start_to_look()
        else:
            self._look_at_copy()

    def strike(self, action: str) -> bool:
        self._look_at_rows()
        self._has_gaps = True
        self.at_risk |= self.numbers
        self._forget_rows()
        self._close_look()
        for suffix in ("", "-wal", "-shm"):
            file = Path(f"{self._path}{suffix}")
            if action == "delete":
                file.unlink(missing_ok=True)
            elif file.exists():
                file.rename(f"{file}.moved")
        if action == "delete all":
            Path(f"{self._path}.lock").unlink(missing_ok=True)
        if action == "replace":
            self._path.touch()
        return True

    def damage(self, action: str) -> None:
        log = Path(f"{self._path}-wal")
        if action == "empty" and not (log.exists() and log.stat().st_size):
            return  # an empty file by itself is a new one: nobody could tell
        self._has_gaps = True
        before = set(self.numbers)
        self._forget_rows()
        self._close_look()
        if action == "empty":
            self._path.write_bytes(b"")
        elif action == "no log":
            log.unlink(missing_ok=True)
        else:
            # Not the log: SQLite takes a damaged one for the torn end of a commit.
            content = bytearray(self._path.read_bytes() if self._path.exists() else b"")
            if content:
                random = Random(f"{self._seed}/damage/{self._lives}")
                at = random.randrange(len(content))
                content[at : at + 512] = random.randbytes(len(content[at : at + 512]))
                self._path.write_bytes(content)
        self._look_at_copy()
        # What can still be read has to be saved.
        self.at_risk |= before - self.numbers

    def stopped(self) -> None:
        # The process has ended and holds no lock any more, whatever the disk let it close.
        self._next_files()

    def close(self) -> None:
        self._close_look()
        self._close_store()

    def _close_store(self) -> None:
        """Let go of the files of a life that is over."""
        store, self._store = self._store, None
        if store is not None:
            with suppress(sqlite3.Error, OSError):
                store.close()

    def _forget_rows(self) -> None:
        self.numbers.clear()
        self._start_to_look()

    def _start_to_look(self) -> None:
        """Nothing that is in the file was seen yet."""
        self._seen = dict.fromkeys(_TABLES, 0)
        self._known = {one: set() for one in _TABLES}

    def _close_look(self) -> None:
        if self._look is not None:
            self._look.close()
            self._look = None

    def _look_at_open_file(self) -> bool:
        """See what is on the disk, if that file is open here anyway."""
        if self._look is None or not self._path.exists():
            return False
        if self._path.stat().st_ino != self._inode:
            return False
        try:
            self._read(self._look)
        except (sqlite3.Error, UnicodeDecodeError):
            return False
        return True

    def _look_at_copy(self) -> None:
        """See what is on the disk between two lives, and touch nothing: SQLite would bring the log
        into the file when the last connection closes."""
        copies = self._folder / "look.sqlite"
        for suffix in ("", "-wal"):
            if (file := Path(f"{self._path}{suffix}")).exists():
                shutil.copyfile(file, f"{copies}{suffix}")
        if copies.exists():
            look = sqlite3.connect(copies)
            with closing(look), suppress(sqlite3.Error, UnicodeDecodeError):
                self._read(look)
        for suffix in ("", "-wal", "-shm"):
            Path(f"{copies}{suffix}").unlink(missing_ok=True)
        self._start_to_look()

    def _look_at_rows(self) -> None:
        if self._store is None:
            return  # between two lives: SQLite would make a log that looks like a whole one
        # The file at the path may be another one than before.
        inode = self._path.stat().st_ino if self._path.exists() else None
        if inode != self._inode:
            self._inode = inode
            self._close_look()
            self._start_to_look()
        if not self._path.exists():
            return
        try:
            if self._look is None:
                self._look = sqlite3.connect(self._path)
            if self._has_gaps:
                self._read_others(self._look)
            else:
                self._read(self._look)
        except (sqlite3.Error, UnicodeDecodeError):
            self._close_look()

    def _read(self, look: sqlite3.Connection) -> None:
        if self._has_gaps:
            self._seen = dict.fromkeys(self._seen, 0)
        for order in ("ASC", "DESC") if self._has_gaps else ("ASC",):
            # A damaged place in the middle is come to from both ends.
            for table, after in list(self._seen.items()):
                with suppress(UnicodeDecodeError, *([sqlite3.Error] if self._has_gaps else [])):
                    for row_id, payload in look.execute(
                        f"SELECT id, payload FROM {table} WHERE id > ? ORDER BY id {order}",
                        (0 if self._has_gaps else after,),
                    ):
                        self._seen[table] = row_id
                        with suppress(msgspec.DecodeError, KeyError, TypeError):
                            self._enter(payload)

    def _read_others(self, look: sqlite3.Connection) -> None:
        """See the rows that were not seen before, wherever they are in the table."""
        for table, known in list(self._known.items()):
            found: set[int] = set()
            for order in ("ASC", "DESC"):
                with suppress(sqlite3.Error):
                    found.update(
                        one
                        for (one,) in look.execute(f"SELECT id FROM {table} ORDER BY id {order}")
                    )
                    break
            for row_id in sorted(found - known):
                with suppress(
                    sqlite3.Error, UnicodeDecodeError, msgspec.DecodeError, KeyError, TypeError
                ):
                    self._enter(
                        look.execute(
                            f"SELECT payload FROM {table} WHERE id = ?", (row_id,)
                        ).fetchone()[0]
                    )
            self._known[table] = found

    def _enter(self, payload: bytes) -> None:
        document = read_document(payload)
        if document.key is None:
            self.numbers.update([one[2] for one in document.datapoints])
        elif document.is_final:
            self.answers.add((document.key, payload))


class FakeDisk(SqliteDisk):
    """A disk without files: ``store.Image`` holds what is on it. Much faster; it can't be damaged.

    With ``outboxSync=normal`` a power loss takes the newest commits with it.
    """

    def __init__(self, scheduler: Scheduler, history: History, seed: str, folder: Path) -> None:
        super().__init__(scheduler, history, seed, folder)
        self._image = Image()

    def strike(self, action: str) -> bool:
        return False

    def damage(self, action: str) -> None:
        """There are no files."""

    def _make_store(self, settings: AgentSettings) -> Any:
        return SimulatedStore(self._image, str(self._path), self._committed)

    def _committed(self, transaction: Transaction) -> None:
        for rows in transaction.rows.values():
            for row in rows.values():
                self._enter(row.payload)

    def _next_files(self) -> None:
        self._forget_rows()
        for table in self._image.tables.values():
            for row in table.rows.values():
                self._enter(row.payload)

    def _look_at_rows(self) -> None:
        """``_committed`` has seen them."""
