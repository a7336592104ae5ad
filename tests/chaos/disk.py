"""A disk that is full again and again, under load."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from resource import RLIM_INFINITY, RLIMIT_FSIZE, prlimit

from tests.chaos.report import Report
from tests.chaos.world import World
from tests.e2e.processes import AgentProcess

_DISK_BYTES = 8 * 1024 * 1024
#: What the agent's log says when nothing can be written, and when it can be again.
TROUBLE = "the outbox can't be written to"
_RECOVERED = "the outbox is written to"
#: From so slow a disk on there is always a commit under way.
_SLOW_MS = 10.0


class Disk:
    """Where the outbox is. ``fill`` leaves no room, ``free`` gives it back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ballast = path / "ballast"

    def fill(self, agent: AgentProcess) -> None:
        """Write until nothing more can be written."""
        with self.ballast.open("ab", buffering=0) as ballast:
            for size in (65536, 512):
                try:
                    while True:
                        ballast.write(b"\0" * size)
                except OSError:
                    continue

    def free(self, agent: AgentProcess) -> None:
        """Make room again."""
        self.ballast.unlink()


class LimitedFiles(Disk):
    """Stands in where nothing can be mounted: the agent may not make its files any longer."""

    def fill(self, agent: AgentProcess) -> None:
        longest = max(file.stat().st_size for file in self.path.iterdir() if file.is_file())
        prlimit(agent.pid, RLIMIT_FSIZE, (longest, RLIM_INFINITY))

    def free(self, agent: AgentProcess) -> None:
        prlimit(agent.pid, RLIMIT_FSIZE, (RLIM_INFINITY, RLIM_INFINITY))


@contextmanager
def small_disk(path: Path) -> Iterator[Disk]:
    """A small file system of its own where that is allowed, else a limit on files."""
    path.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "none", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield LimitedFiles(path)
        return
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", str(path)], check=True)


def run(seed: int, count: int, directory: Path, fdatasync_ms: float = 0.0) -> Report:
    """``count`` times: fill the disk under load, see live data flow all the same, make room, see
    the outbox recover. Once in a while the agent is killed after that."""
    report = Report("disk", seed, count)
    random = Random(seed)
    with small_disk(directory / "disk") as disk:
        report.figures["disk"] = type(disk).__name__
        outbox = {"outboxPath": disk.path / "outbox.sqlite"}
        world = World(directory, outbox, fdatasync_ms=fdatasync_ms)
        agent = world.start_agent()
        troubles = 0
        try:
            world.load.start()
            for _ in range(count):
                world.wait_until_ready()
                time.sleep(0.2 + random.random() * 0.5)
                disk.fill(agent)
                see_data_flow(world, report)
                troubles += is_in_trouble(world)
                disk.free(agent)
                see_the_outbox_recover(world)
                if random.random() < 0.3:
                    agent.kill()
                    agent = world.start_agent()
            world.wait_until_ready()
            world.load.stop()
            world.conclude(report, rereads=True)
            agent.stop()
        finally:
            agent.__exit__()
            world.close()
    report.figures["times in trouble"] = troubles
    report.require(troubles > count / 2, f"the disk was full {troubles} times only")
    return report


def see_data_flow(world: World, report: Report) -> None:
    """While nothing can be written, new datapoints arrive nevertheless."""
    time.sleep(1.0)
    world.read_record()
    before = world.ledger.datapoints
    time.sleep(1.0)
    world.read_record()
    report.require(world.ledger.datapoints > before, "no live data while the disk was full")


def is_in_trouble(world: World) -> bool:
    """True when the agent says so, and there is always something that is only in memory."""
    if not _says_that_it_is_in_trouble(world):
        return False
    for _ in range(5):
        if not world.status()["outbox"]["uncommitted_bytes"]:
            return False
        time.sleep(0.05)
    return True


def see_the_outbox_recover(world: World, timeout_s: float = 20.0) -> None:
    """It tries again every few seconds; then everything is on the disk, at least for a moment. On a
    slow disk there is no such moment under load: the next commit begins when one has ended."""
    deadline_s = time.monotonic() + timeout_s
    while _says_that_it_is_in_trouble(world) or (
        world.status()["outbox"]["uncommitted_bytes"] and world.fdatasync_ms < _SLOW_MS
    ):
        assert time.monotonic() < deadline_s, "the outbox does not recover"
        time.sleep(0.02)


def _says_that_it_is_in_trouble(world: World) -> bool:
    log = (world.directory / "agent.log").read_text(errors="replace")
    return log.rfind(TROUBLE) > log.rfind(_RECOVERED)
