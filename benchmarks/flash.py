"""What a quiet agent writes to its flash: bytes, fdatasyncs and commits.

    python -m benchmarks.flash [--seconds 1200] [--speed 20] [--directory DIR] [--root CHECKOUT]

An agent as it is shipped (``twistd``, everything at its default, durable) is connected to the
stand-in platform. First it publishes one datapoint a second, of 125 bytes with its document; then
another one polls 20 datastreams every 10 s. What happens in the first 90 s is not counted: the
first rows have to linger and be deleted first.

- *bytes* are ``write_bytes`` of ``/proc/PID/io``: the pages that the process made dirty, 4 KiB
  each, and each again after it was synced. That is what a file system on flash has to write at
  least; its own journal and the flash's write amplification come on top. It is 0 on a tmpfs. The
  agent's log goes nowhere.
- *fdatasyncs* are counted by ``tests/slow_disk.py`` within the process; strace counts the same.
- *commits* are the transactions that SQLite counts in the header of its shared memory
  (``<outbox>-shm``, ``iChange``), whoever made them.

Time passes faster for the agent (``benchmarks/hurry.py``), by ``--speed``; 1 is real time. Its
timers (windows, lingering, deletions, heartbeats) keep their order and distance, and the work of a
second takes some milliseconds, so it is far from touching the next. One measurement in real time
(240 s) gave 27.4 KB and 2.03 fdatasyncs for each datapoint, where 300 s at 20 gave 25.9 KB and
1.98. What is missing is the shared memory of the log (the kernel writes it when it likes, every
half minute or so), and some commits that come to share one.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import hurry
from oda.commands.running_agent import connect_to_agent
from oda.control.client import ControlClient
from oda.control.wire import ControlError, Publish
from oda.model import Event
from oda.platform.testing import RunningPlatform
from tests import slow_disk

ROOT = Path(__file__).resolve().parent.parent
DEVICE = "dev-1"
#: Until rows have lingered (``ackLinger``) and are deleted as fast as they come.
SETTLING_S = 90.0
POLLED = 20
POLL_PERIOD_S = 10
#: Of ``WalIndexHdr``: two numbers before ``iChange``.
_CHANGES = struct.Struct("=8xI")
_PREFIX = "es.amplia.oda."


class Written(NamedTuple):
    """What a process has written so far."""

    size: int
    syncs: int
    commits: int


class QuietAgent:
    """``speed`` times as fast as usual, from the source tree ``root``, in ``directory``."""

    def __init__(
        self, directory: Path, root: Path, speed: float, fdatasync_ms: float, polled: int = 0
    ) -> None:
        self._directory = directory
        self.platform = RunningPlatform(["--key", "k"])
        self.platform.start()
        self._conf = directory / "conf"
        self._configure(polled)
        counts = directory / "counts"
        self._counts = slow_disk.Counts(counts)
        twistd = str(Path(sys.executable).with_name("twistd"))
        self._process = subprocess.Popen(
            [
                *slow_disk.command(fdatasync_ms, counts),
                *hurry.arguments(speed),
                *(twistd, "-n", "--pidfile=", "oda-websocket", "--conf", str(self._conf)),
            ],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": f"{root}:{ROOT / 'benchmarks/plugins'}"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _configure(self, polled: int) -> None:
        address = urlsplit(self.platform.device_url)
        self._conf.mkdir()
        files = {
            "connector.websocket": f"host={address.hostname}\nport={address.port}\n"
            f"path={address.path}\noutboxPath={self._directory / 'outbox.sqlite'}\n",
            "datastreams.deviceinfo": f"deviceId={DEVICE}\napiKey=k\n",
        }
        if polled:
            files["plugins"] = f"plugins=benchmark-readings\nbenchmark-readings.count={polled}\n"
            lines = [
                f"reading.{number}={POLL_PERIOD_S};{POLL_PERIOD_S}" for number in range(polled)
            ]
            files["subsystem.poller"] = "\n".join(lines) + "\n"
        for name, text in files.items():
            (self._conf / f"{_PREFIX}{name}.cfg").write_text(text)

    def client(self, timeout_s: float = 30.0) -> ControlClient:
        """A connection to its local socket, once it listens and is connected."""
        self.platform.wait_for_device(DEVICE, timeout_s)
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                return connect_to_agent(self._conf)
            except ControlError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.05)

    def written(self) -> Written:
        """What it has written so far."""
        lines = Path(f"/proc/{self._process.pid}/io").read_text().splitlines()
        io = dict(line.split(": ") for line in lines)
        shared = (self._directory / "outbox.sqlite-shm").read_bytes()
        (commits,) = _CHANGES.unpack_from(shared)
        return Written(int(io["write_bytes"]), self._counts.read().total, commits)

    def messages(self) -> list[int]:
        """The sizes of the telemetry documents that have arrived."""
        return [
            message.size
            for message in self.platform.messages(DEVICE)
            if b'"datastreams"' in message.payload
        ]

    def close(self) -> None:
        """End it, and the platform."""
        self._process.terminate()
        self._process.wait()
        self.platform.stop()


def publishing(agent: QuietAgent, seconds: float, speed: float) -> dict[str, float]:
    """One datapoint a second."""
    published = 0

    def publish(duration_s: float) -> None:
        nonlocal published
        begun_s = time.monotonic()
        for second in range(int(duration_s)):
            time.sleep(max(0.0, begun_s + second / speed - time.monotonic()))
            value = published % 90 + 10.5
            client.send(Publish(Event("temperature.outdoor", value, at_ms=1_700_000_000_000)))
            published += 1
            while next(answers).get("ok", 0) < published:
                pass
        time.sleep(max(0.0, begun_s + duration_s / speed - time.monotonic()))

    with agent.client() as client:
        answers = client.answers()
        publish(SETTLING_S)
        begin, before = agent.written(), len(agent.messages())
        publish(seconds)
        end, sizes = agent.written(), agent.messages()
    return _figures(begin, end, int(seconds), "datapoint") | {
        "messages per datapoint": (len(sizes) - before) / int(seconds),
        "bytes of a message": sum(sizes) / len(sizes),
    }


def polling(agent: QuietAgent, seconds: float, speed: float) -> dict[str, float]:
    """Twenty readings every ten seconds, looked at half way between two polls."""
    with agent.client() as client:
        client.finish()
    while not agent.messages():
        time.sleep(POLL_PERIOD_S / speed / 20)
    polls = max(1, round(seconds / POLL_PERIOD_S))
    begun_s = time.monotonic() - POLL_PERIOD_S / speed / 2
    settled_s = begun_s + SETTLING_S // POLL_PERIOD_S * POLL_PERIOD_S / speed
    time.sleep(max(0.0, settled_s - time.monotonic()))
    begin, before = agent.written(), len(agent.messages())
    time.sleep(max(0.0, settled_s + polls * POLL_PERIOD_S / speed - time.monotonic()))
    end, sizes = agent.written(), agent.messages()
    return _figures(begin, end, polls, "poll") | {
        "messages per poll": (len(sizes) - before) / polls,
    }


def _figures(begin: Written, end: Written, count: int, what: str) -> dict[str, float]:
    return {
        f"bytes per {what}": (end.size - begin.size) / count,
        f"fdatasyncs per {what}": (end.syncs - begin.syncs) / count,
        f"commits per {what}": (end.commits - begin.commits) / count,
    }


#: What is measured, and how many datastreams are polled in it.
LOADS: dict[str, tuple[Callable[[QuietAgent, float, float], dict[str, float]], int]] = {
    "one datapoint a second": (publishing, 0),
    f"{POLLED} readings every {POLL_PERIOD_S} s": (polling, POLLED),
}


def measure(
    name: str,
    seconds: float,
    speed: float,
    fdatasync_ms: float = 0.0,
    root: Path = ROOT,
    parent: Path | None = None,
) -> dict[str, float]:
    """The figures of one of ``LOADS``. Raises ``RuntimeError`` where nothing reaches a disk."""
    load, polled = LOADS[name]
    with tempfile.TemporaryDirectory(prefix="oda-flash-", dir=parent) as directory:
        agent = QuietAgent(Path(directory), root, speed, fdatasync_ms, polled)
        try:
            figures = load(agent, seconds, speed)
        finally:
            agent.close()
    if not next(iter(figures.values())):
        raise RuntimeError("nothing was written: is this a tmpfs? Say --directory, or set TMPDIR")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1200.0, help="of the agent's time")
    parser.add_argument("--speed", type=float, default=20.0)
    parser.add_argument("--fdatasync-ms", type=float, default=0.0)
    parser.add_argument("--root", type=Path, default=ROOT, help="the source tree to measure")
    parser.add_argument("--directory", type=Path, help="where the outbox is: on a disk")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {
        name: measure(
            name,
            options.seconds,
            options.speed,
            options.fdatasync_ms,
            options.root.resolve(),
            options.directory,
        )
        for name in LOADS
    }
    if options.json:
        print(json.dumps(results))
        return
    for name, figures in results.items():
        print(name)
        for figure, value in figures.items():
            print(f"    {figure:<26} {value:>12,.2f}")


if __name__ == "__main__":
    main()
