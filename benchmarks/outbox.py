"""Measures the durable outbox: what a message costs, and what a backlog costs.

    python -m benchmarks.outbox [--rows 100000] [--backlog 10000,100000,1000000] [--directory DIR]

1. Rows per second and CPU per row for put + commit + take + retire in groups of 500, with commits
   in the reactor's thread, in a thread of their own, and chosen by the disk (the default); beside
   them a bare loop over SQLite that does nothing but insert, commit, select and delete the same
   rows. The variants take turns, and the median of the rounds is shown.
2. For each backlog: how long opening takes, how fast it drains, and how much memory it needs.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from twisted.internet.base import ReactorBase

from oda.model import MessageClass, OutgoingMessage
from oda.monitor.counters import Counters
from oda.outbox.outbox import make_outbox
from oda.outbox.worker import InlineWorker, ThreadWorker
from oda.settings import OutboxSettings

GROUP = 500
PAYLOADS = [
    b'{"version":"9.0","device":"dev-1","datastreams":[{"id":"temperature.%d","datapoints":'
    b'[{"at":1700000000000,"value":21.5}]}]}' % number
    for number in range(GROUP)
]


class SystemClock:
    """The time of day."""

    def now_ms(self) -> int:
        return int(time.time() * 1000)


class Measured:
    """Rows per second and microseconds of CPU per row."""

    def __init__(self, rows: int, wall_s: float, cpu_s: float) -> None:
        self.per_second = rows / wall_s
        self.cpu_us = cpu_s / rows * 1e6


def measure(rows: int, work: Callable[[], None]) -> Measured:
    """Run ``work``, which handles so many rows."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    return Measured(rows, time.perf_counter() - wall_s, time.process_time() - cpu_s)


def bare(path: Path, rows: int) -> Measured:
    """The least that SQLite needs for the same rows and the same promise."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, payload BLOB NOT NULL)")

    def work() -> None:
        for start in range(0, rows, GROUP):
            connection.execute("BEGIN")
            connection.executemany(
                "INSERT INTO messages (payload) VALUES (?)", [(one,) for one in PAYLOADS]
            )
            connection.execute("COMMIT")
            connection.execute(
                "SELECT id, payload FROM messages WHERE id > ? LIMIT ?", (start, GROUP)
            ).fetchall()
            if start % (20 * GROUP) == 0:
                connection.execute("DELETE FROM messages WHERE id <= ?", (start,))

    try:
        return measure(rows, work)
    finally:
        connection.close()


def fresh_reactor() -> Any:
    """A reactor of its own for each run."""
    from twisted.internet.epollreactor import EPollReactor

    reactor: ReactorBase = EPollReactor()
    return reactor


def drive(path: Path, rows: int, worker_of: Callable[[Any], Any]) -> Measured:
    """put, commit, take and retire through the outbox, each group in a turn of the reactor."""
    reactor = fresh_reactor()
    outbox = make_outbox(
        OutboxSettings(path=path, linger_s=1.0),
        reactor,
        SystemClock(),
        Counters(),
        worker_of(reactor),
    )
    accepted = taken = produced = 0

    def produce() -> None:
        nonlocal produced
        for payload in PAYLOADS:
            outbox.put(
                OutgoingMessage(payload=payload, message_class=MessageClass.TELEMETRY, datapoints=1)
            ).addCallback(count)
        produced += GROUP
        if produced < rows:
            reactor.callLater(0, produce)

    def count(row_id: int) -> None:
        nonlocal accepted
        accepted += 1
        finish()

    def pump() -> None:
        nonlocal taken
        while found := outbox.take(64, 1 << 20):
            taken += len(found)
            outbox.retire([row.row_id for row in found])
        finish()

    def finish() -> None:
        if accepted >= rows and taken >= rows and reactor.running:
            reactor.crash()

    outbox.subscribe(pump)
    outbox.open()
    reactor.callWhenRunning(produce)
    result = measure(rows, lambda: reactor.run(installSignalHandlers=False))
    closing = outbox.close()
    if not closing.called:
        closing.addCallback(lambda _: reactor.crash())
        reactor.run(installSignalHandlers=False)
    return result


VARIANTS: dict[str, Callable[[Path, int], Measured]] = {
    "bare SQLite loop": bare,
    "outbox, inline": lambda path, rows: drive(path, rows, lambda _: InlineWorker()),
    "outbox, thread": lambda path, rows: drive(
        path, rows, lambda reactor: ThreadWorker(reactor.callFromThread)
    ),
    "outbox, default": lambda path, rows: drive(path, rows, lambda _: None),
}


def compare(rows: int, rounds: int, directory: Path) -> None:
    """Print the medians of all variants."""
    results: dict[str, list[Measured]] = {name: [] for name in VARIANTS}
    for number in range(rounds):
        for name, run in VARIANTS.items():
            results[name].append(run(directory / f"{number}-{abs(hash(name))}.sqlite", rows))
    print(f"{'':20} {'rows/s':>12} {'us CPU/row':>12}")
    for name, found in results.items():
        per_second = statistics.median(one.per_second for one in found)
        cpu_us = statistics.median(one.cpu_us for one in found)
        print(f"{name:20} {per_second:12,.0f} {cpu_us:12.2f}")


def drain(rows: int, directory: Path) -> None:
    """Fill, then drain in a process of its own, so that memory is that of the backlog alone."""
    path = directory / f"backlog-{rows}.sqlite"
    settings = OutboxSettings(path=path, max_bytes=1 << 40, max_rows=1 << 30)
    reactor = fresh_reactor()
    outbox = make_outbox(settings, reactor, SystemClock(), Counters(), InlineWorker())
    outbox.open()
    for start in range(0, rows, GROUP):
        for payload in PAYLOADS[: rows - start]:
            outbox.put(
                OutgoingMessage(payload=payload, message_class=MessageClass.TELEMETRY, datapoints=1)
            )
        reactor.runUntilCurrent()
    outbox.close()
    subprocess.run([sys.executable, "-m", "benchmarks.outbox", "--drain", str(path)], check=True)


def drain_here(path: Path) -> None:
    """Open the store, take and acknowledge everything, and print what it took."""
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    reactor = fresh_reactor()
    settings = OutboxSettings(path=path, max_bytes=1 << 40, max_rows=1 << 30, linger_s=0.0)
    outbox = make_outbox(settings, reactor, SystemClock(), Counters(), InlineWorker())
    started_s = time.perf_counter()
    outbox.open()
    opened_s = time.perf_counter() - started_s
    rows = highest = 0

    def work() -> None:
        nonlocal rows, highest
        while found := outbox.take(256, 1 << 20):
            rows += len(found)
            outbox.retire([row.row_id for row in found])
            reactor.runUntilCurrent()
            if rows % 5120 == 0:
                highest = max(highest, process.memory_info().rss)

    wall_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    highest = max(highest, process.memory_info().rss)
    outbox.close()
    print(
        f"backlog of {rows:,}: open {opened_s * 1000:.1f} ms, drain {rows / wall_s:,.0f} rows/s, "
        f"{cpu_s / rows * 1e6:.2f} us CPU/row, {(highest - before) / 2**20:.1f} MiB"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backlog", default="10000,100000,1000000")
    parser.add_argument("--directory", type=Path, default=None)
    parser.add_argument("--drain", type=Path, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drain is not None:
        drain_here(arguments.drain)
        return
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        compare(arguments.rows, arguments.rounds, Path(directory))
        for rows in arguments.backlog.split(","):
            if rows:
                drain(int(rows), Path(directory))


if __name__ == "__main__":
    main()
