"""``python -m benchmarks``: every benchmark of the whole agent, as one table.

Each figure is the median of several runs. The agent and its baselines take turns within a run, each
in a new process against a new sink in another one, so that the ratios (in brackets) hold on a
machine that is busy or changes its clock. The baselines are ``benchmarks/bare.py``,
``benchmarks/websockets_client.py``, and for the paced stream ``nobody``, the benchmark's own share.
CPU time is what the operating system counted for the measured process; the sink's is shown beside
it, to see that the sink was not the bottleneck.

``--json FILE`` writes everything that was measured; ``--only NAME`` picks benchmarks; ``--runs N``
and ``--scale F`` (the fraction of the usual counts) choose between patience and precision.
``--fdatasync-ms N`` measures on a disk that takes so much longer for each fdatasync of SQLite.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import flash
from tests import slow_disk

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
Figures = dict[str, float]
#: One run of who is measured, on which disk.
Measurement = Callable[[str, "Disk"], Figures]


class Sink:
    """The sink's process, asked for its figures over its standard input and output."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "sink.py"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = self._read()["port"]

    def report(self) -> dict[str, Any]:
        """What it has seen so far."""
        assert self._process.stdin is not None
        self._process.stdin.write("report\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line: dict[str, Any] = json.loads(self._process.stdout.readline())
        return line


@contextmanager
def sink(*arguments: str) -> Iterator[Sink]:
    """A running sink."""
    running = Sink(*arguments)
    try:
        yield running
    finally:
        running.close()


class Disk:
    """Where the measured process keeps its data: this machine's disk, or one that takes
    ``fdatasync_ms`` longer for each fdatasync."""

    def __init__(self, fdatasync_ms: float = 0.0) -> None:
        self.fdatasync_ms = fdatasync_ms

    def python(self) -> list[str]:
        """What runs a script on this disk."""
        return slow_disk.command(self.fdatasync_ms) if self.fdatasync_ms else [sys.executable]


def subject(disk: Disk, who: str, what: str, port: int, *arguments: str) -> subprocess.Popen[str]:
    """The measured process."""
    script = [str(HERE / "subject.py"), who]
    if who == "websockets":
        script = [str(HERE / "websockets_client.py")]
    return subprocess.Popen(
        [*disk.python(), *script, what, "--port", str(port), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def last_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a process reported in its last line."""
    out, _ = process.communicate(timeout=900)
    line: dict[str, Any] = json.loads(out.splitlines()[-1])
    return line


def publishing(what: str, count: int, *arguments: str) -> Measurement:
    """Publish ``count`` datapoints and wait until all are acknowledged."""

    def run(who: str, disk: Disk) -> Figures:
        with sink() as end:
            process = subject(disk, who, what, end.port, "--count", str(count), *arguments)
            line = last_line(process)
            seen = end.report()
        datapoints = line["datapoints"]
        figures = {
            "us CPU each": line["cpu_s"] / datapoints * 1e6,
            "per second": datapoints / line["wall_s"],
            "peak MiB": line["peak_mib"],
            "sink us each": seen["cpu_s"] / datapoints * 1e6,
        }
        for name in ("accepted_p50_ms", "accepted_p99_ms"):
            if name in line:
                figures[name.replace("_", " ")] = line[name]
        return figures

    return run


def operations(name: str, count: int, in_flight: int) -> Measurement:
    """``count`` operations, ``in_flight`` at a time; times as the platform's side sees them."""

    def run(who: str, disk: Disk) -> Figures:
        arguments = ("--operations", str(count), "--in-flight", str(in_flight), "--name", name)
        with sink(*arguments) as end:
            process = subject(disk, who, "serve", end.port)
            deadline = time.monotonic() + 300
            seen = end.report()
            while seen["answered"] < count and time.monotonic() < deadline:
                time.sleep(0.2)
                seen = end.report()
            line = last_line(process)
        return {
            "p50 ms": seen["p50_ms"],
            "p99 ms": seen["p99_ms"],
            "per second": seen["answered"] / seen["span_s"],
            "us CPU each": line["cpu_s"] / seen["answered"] * 1e6,
            "sink us each": seen["cpu_s"] / seen["answered"] * 1e6,
        }

    return run


def draining(rows: int) -> Measurement:
    """Connect with a backlog of ``rows`` messages and deliver it."""

    def run(who: str, disk: Disk) -> Figures:
        with sink() as end:
            line = last_line(subject(disk, who, "drain", end.port, "--count", str(rows)))
        return {
            "us CPU each": line["cpu_s"] / rows * 1e6,
            "per second": rows / line["wall_s"],
            "peak MiB": line["peak_mib"],
        }

    return run


def idling(what: str, seconds: float, count: int = 1) -> Measurement:
    """Be connected and do nothing."""

    def run(who: str, disk: Disk) -> Figures:
        arguments = ("--seconds", str(seconds), "--count", str(count))
        with sink() as end:
            line = last_line(subject(disk, who, what, end.port, *arguments))
        return {
            "resident MiB": line["resident_mib"],
            "% CPU": line["cpu_s"] / line["wall_s"] * 100,
        }

    return run


def starting(who: str, disk: Disk) -> Figures:
    """``twistd -n oda-websocket`` from its start to the open WebSocket and the first datapoint."""
    with sink() as end, tempfile.TemporaryDirectory() as directory:
        conf = Path(directory) / "conf"
        conf.mkdir()
        prefix = str(conf / "es.amplia.oda.")
        Path(prefix + "connector.websocket.cfg").write_text(
            f"host=127.0.0.1\nport={end.port}\npath=p\n"
        )
        Path(prefix + "datastreams.deviceinfo.cfg").write_text("deviceId=dev-1\napiKey=k\n")
        Path(prefix + "subsystem.poller.cfg").write_text("device.upTime=0;0\n")
        twistd = Path(sys.executable).with_name("twistd")
        begun = time.monotonic()
        process = subprocess.Popen(
            [*disk.python(), str(twistd), "-n", "--pidfile=", "oda-websocket", "--conf", str(conf)],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seen = end.report()
        while not seen["messages"] and time.monotonic() < begun + 30:
            time.sleep(0.01)
            seen = end.report()
        resident = _resident_mib(process.pid)
        process.terminate()
        process.wait()
    return {
        "open s": seen["first_open_s"] - begun,
        "first datapoint s": seen["first_message_s"] - begun,
        "resident MiB": resident,
    }


def quiet(name: str, seconds: float) -> Measurement:
    """Write little, for long: what that costs the flash."""

    def run(who: str, disk: Disk) -> Figures:
        return flash.measure(name, seconds, speed=20.0, fdatasync_ms=disk.fdatasync_ms)

    return run


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


#: The prototype, and that beside another library.
BARE = ("bare",)
BOTH = ("bare", "websockets")


class Benchmark:
    """A name, what one run measures, and the baselines to compare with."""

    def __init__(self, name: str, run: Measurement, baselines: tuple[str, ...] = ()) -> None:
        self.name = name
        self.run = run
        self.baselines = baselines


def benchmarks(scale: float) -> list[Benchmark]:
    """Everything that is measured."""

    def times(count: int) -> int:
        return max(200, int(count * scale))

    hundreds = times(2_000_000) // 5000 * 5000
    paced_s = str(max(3.0, 20 * scale))
    get, put = "GET_DEVICE_PARAMETERS", "SET_DEVICE_PARAMETERS"
    return [
        Benchmark("start", starting),
        Benchmark("idle", idling("idle", 60 * scale), BOTH),
        Benchmark("GET, 1 in flight", operations(get, times(5000), 1), BOTH),
        Benchmark("GET, 10 in flight", operations(get, times(20_000), 10), BOTH),
        Benchmark("GET, 50 in flight", operations(get, times(50_000), 50), BOTH),
        Benchmark("SET, 1 in flight", operations(put, times(3000), 1), BARE),
        Benchmark("SET, 50 in flight", operations(put, times(30_000), 50), BARE),
        Benchmark("custom, 50 in flight", operations("CUSTOM", times(30_000), 50), BARE),
        Benchmark(
            "paced, 1,000 datapoints/s",
            publishing("paced", 0, "--rate", "1000", "--seconds", paced_s),
            ("bare", "nobody"),
        ),
        Benchmark("one datapoint per message", publishing("messages", times(100_000)), BOTH),
        Benchmark("burst, single datapoints", publishing("burst", times(1_000_000)), BARE),
        Benchmark("burst, lists of 100", publishing("burst", hundreds, "--size", "100"), BARE),
        Benchmark("drain of 10,000 rows", draining(times(10_000))),
        Benchmark("drain of 100,000 rows", draining(times(100_000))),
        Benchmark("drain of 1,000,000 rows", draining(times(1_000_000))),
        Benchmark("drain of 10,000,000 rows", draining(times(10_000_000))),
        *(
            Benchmark(f"flash, {name}", quiet(name, max(100.0, 1200 * scale)))
            for name in flash.LOADS
        ),
        Benchmark("1 agent, at rest", idling("many", 10 * scale, 1)),
        Benchmark("100 agents, at rest", idling("many", 10 * scale, 100)),
        Benchmark("1,000 agents, at rest", idling("many", 10 * scale, 1000)),
    ]


def median(runs: list[Figures]) -> Figures:
    """The median of each figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", action="append", default=[], help="a part of a name")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--fdatasync-ms", type=float, default=0.0)
    options = parser.parse_args()
    # An installed package has been compiled; this tree may not be, where writing is switched off.
    compileall.compile_dir(ROOT / "oda", quiet=1)
    disk = Disk(options.fdatasync_ms)
    results: dict[str, Any] = {}
    for benchmark in benchmarks(options.scale):
        if options.only and not any(part in benchmark.name for part in options.only):
            continue
        who = ("agent", *benchmark.baselines)
        runs: dict[str, list[Figures]] = {name: [] for name in who}
        for _ in range(options.runs):
            for name in who:
                runs[name].append(benchmark.run(name, disk))
        medians = {name: median(figures) for name, figures in runs.items()}
        results[benchmark.name] = {"median": medians, "runs": runs}
        print(f"{benchmark.name}", flush=True)
        for figure, value in medians["agent"].items():
            line = f"    {figure:<24} {value:>14,.3f}"
            for name in benchmark.baselines:
                if figure in medians[name]:
                    other = medians[name][figure]
                    line += f"   {name} {other:>12,.3f} ({value / other if other else 0:.2f})"
            print(line, flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
