"""An agent that starts with a long backlog: it connects first, drains after, and stays small."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Any

from tests.chaos.caller import Caller
from tests.chaos.filling import MAX_BYTES, STREAM
from tests.chaos.ledger import datapoint
from tests.chaos.report import Report
from tests.chaos.world import DEVICE, ROOT
from tests.e2e.processes import AgentProcess, write_configuration

_OUTBOX = "oda-outbox.sqlite"
_ASK_EVERY_S = 0.05
#: From this size on the figures themselves are judged; below they say more about the machine.
_JUDGED_FROM = 500_000
_LONGER_START_S = 1.0
_MORE_MEMORY_MIB = 40.0
_ANSWER_P99_S = 0.1


class Drained:
    """Checks that the backlog arrives in its order, each message once."""

    def __init__(self) -> None:
        self.count = 0
        self.problems: list[str] = []

    def __call__(self, document: dict[str, Any]) -> None:
        for datastream in document["datastreams"]:
            if datastream["id"] != STREAM:
                continue
            for point in datastream["datapoints"]:
                if point != datapoint(STREAM, self.count) and len(self.problems) < 10:
                    self.problems.append(f"number {self.count} is {point}")
                self.count += 1


def run(seed: int, count: int, directory: Path, fdatasync_ms: float = 0.0) -> Report:
    """Compare an agent with ``count`` messages in its outbox with one that has none."""
    report = Report("backlog", seed, count)
    directory.mkdir(parents=True, exist_ok=True)
    empty = _Measured(directory / "empty", 0, seed, fdatasync_ms)
    full = _Measured(directory / "full", count, seed, fdatasync_ms)
    report.problems += full.drained.problems
    report.require(full.drained.count == count, f"{full.drained.count} of {count} arrived")
    report.require(bool(full.answers_s), "no operation was answered during the drain")
    p99_s = quantiles(full.answers_s, n=100)[98] if len(full.answers_s) > 1 else 0.0
    more_mib = full.peak_mib - empty.peak_mib
    report.figures.update(
        {
            "start to connected": f"{empty.connected_s:.2f} s empty, {full.connected_s:.2f} s full",
            "peak memory": f"{empty.peak_mib:.1f} MiB empty, {full.peak_mib:.1f} MiB full",
            "drained": f"{count / full.drain_s:.0f}/s",
            "operations during the drain": len(full.answers_s),
            "answered in": f"p50 {1000 * median(full.answers_s or [0]):.1f} ms,"
            f" p99 {1000 * p99_s:.1f} ms, empty p50 {1000 * median(empty.answers_s):.1f} ms",
        }
    )
    if count >= _JUDGED_FROM:
        longer_s = full.connected_s - empty.connected_s
        report.require(longer_s < _LONGER_START_S, f"the start took {longer_s:.2f} s longer")
        report.require(p99_s < _ANSWER_P99_S, f"an answer took {p99_s:.3f} s (p99)")
    report.require(more_mib < _MORE_MEMORY_MIB, f"{more_mib:.1f} MiB more memory")
    return report


class _Measured:
    """One life of an agent, from its start to the end of its backlog."""

    def __init__(self, directory: Path, count: int, seed: int, fdatasync_ms: float) -> None:
        random = Random(seed)
        directory.mkdir()
        if count:
            _fill(directory / _OUTBOX, count)
        self.drained = Drained()
        self.answers_s: list[float] = []
        with Caller(self.drained) as caller:
            platform: Any = caller  # it has an address, and that is all that is asked for
            conf = write_configuration(
                directory / "conf",
                platform,
                DEVICE,
                {"outboxMaxBytes": MAX_BYTES, "outboxMaxRows": 2 * count + 1000},
            )
            begun_s = time.monotonic()
            with AgentProcess(conf, fdatasync_ms=fdatasync_ms, PYTHONPATH=str(ROOT)) as agent:
                self.connected_s = caller.wait_for_agent() - begun_s
                drain_begun_s = time.monotonic()
                self.drain_s = 0.001
                asked = 0
                while self.drained.count < count or asked < 20:
                    is_draining = self.drained.count < count
                    took_s = caller.ask_and_wait(
                        f"backlog-{asked}",
                        "GET_DEVICE_PARAMETERS",
                        {"variableList": ["device.upTime"]},
                    )
                    asked += 1
                    if is_draining:
                        self.drain_s = time.monotonic() - drain_begun_s
                    if is_draining or not count:
                        self.answers_s.append(took_s)
                    time.sleep(random.random() * 2 * _ASK_EVERY_S)
                self.peak_mib = _peak_mib(agent.pid)
                agent.stop()


def _fill(path: Path, count: int) -> None:
    """In a process of its own: its memory is not kept, and it has a reactor."""
    command = [sys.executable, "-m", "tests.chaos.filling", str(path), str(count)]
    subprocess.run(command, cwd=ROOT, check=True)


def _peak_mib(pid: int) -> float:
    """The most memory the process has ever had resident (VmHWM, proc(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ValueError("no VmHWM")
