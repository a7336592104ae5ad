"""A disk that is read-only, at a start and while the agent runs, under load.

A file system with files that are open for writing can't be made read-only by force, so while the
agent runs it is filled first: the agent closes its store then, and meets the read-only mount that
lies over it when it tries again.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oda.control.wire import ControlError
from tests.chaos.disk import (
    TROUBLE,
    Disk,
    is_in_trouble,
    see_data_flow,
    see_the_outbox_recover,
    small_disk,
)
from tests.chaos.report import Report
from tests.chaos.world import World

#: So much longer than on a disk that works may a start take.
_START_S = 2.0
#: So often is a disk that was covered too late covered again.
_ATTEMPTS = 3
#: The agent tries to write again so often.
_RETRY_S = 3.0


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


@contextmanager
def _covered(path: Path) -> Iterator[None]:
    """Whatever is opened here meanwhile can't be written."""
    _mount("--bind", path, path)
    try:
        _mount("-o", "remount,bind,ro", path)
        yield
    finally:
        # Lazily: the agent may have something open.
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def run(seed: int, count: int, directory: Path, fdatasync_ms: float = 0.0) -> Report:
    """``count`` times: start on a read-only disk, make it writable; fill it, make it read-only,
    make room, make it writable. Live data flows all the time, and the outbox recovers."""
    report = Report("readonly", seed, count)
    with small_disk(directory / "disk") as disk:
        if type(disk) is not Disk:
            report.figures["skipped"] = "nothing can be mounted here"
            return report
        outbox = {"outboxPath": disk.path / "outbox.sqlite"}
        world = World(directory, outbox, fdatasync_ms=fdatasync_ms)
        slowest_s = 0.0
        agent = world.start_agent()
        try:
            world.load.start()
            usual_s = _wait_until_running(world)
            for _ in range(count):
                world.load.wait_until_taken()
                agent.kill()
                _mount("-o", "remount,ro", disk.path)
                before = _lines_of_trouble(world)
                agent = world.start_agent()
                slowest_s = max(slowest_s, _wait_until_running(world))
                world.wait_until_ready()
                see_data_flow(world, report)
                report.require(is_in_trouble(world), "a read-only disk was no trouble at a start")
                report.require(_lines_of_trouble(world) == before + 1, "it was not said once")
                _mount("-o", "remount,rw", disk.path)
                see_the_outbox_recover(world)

                for attempt in range(_ATTEMPTS):
                    disk.fill(agent)
                    see_data_flow(world, report)
                    report.require(is_in_trouble(world), "a full disk was no trouble")
                    with disk.ballast.open("r+b") as ballast, _covered(disk.path):
                        ballast.truncate(0)
                        time.sleep(_RETRY_S + 0.5)
                        see_data_flow(world, report)
                        is_seen = is_in_trouble(world)
                    disk.free(agent)
                    see_the_outbox_recover(world)
                    if is_seen:
                        break
                    # The agent had found room on the full disk and opened its store before the
                    # disk was covered: that file stays writable.
                    report.require(attempt + 1 < _ATTEMPTS, "a read-only disk was no trouble")
            world.wait_until_ready()
            world.load.stop()
            world.conclude(report, rereads=True, in_order=False)
            agent.stop()
        finally:
            agent.__exit__()
            world.close()
    report.figures["slowest start (s)"] = f"{slowest_s:.1f} (usual {usual_s:.1f})"
    report.require(slowest_s < usual_s + _START_S, "a start on a read-only disk takes too long")
    return report


def _wait_until_running(world: World) -> float:
    """How long it took until the agent answered."""
    begun_s = time.monotonic()
    while True:
        try:
            world.status()
        except (ControlError, OSError):
            assert time.monotonic() < begun_s + 30, "the agent does not answer"
            time.sleep(0.02)
        else:
            return time.monotonic() - begun_s


def _lines_of_trouble(world: World) -> int:
    log = (world.directory / "agent.log").read_text(errors="replace")
    return log.count(TROUBLE)
