"""What ends a process whose reactor stands still. tests/e2e/test_stops.py sees it do so."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from oda.last_resort import LIMIT_S, LastResort


class Bench:
    """One on a clock of its own, with the ends that it made."""

    def __init__(self, pid_file: Path | None = None) -> None:
        self.clock = Clock()
        self.guards: list[float] = []
        self.ends: list[int] = []
        self.resort = LastResort(pid_file, self.clock.seconds, self.guards.append, self.ends.append)


def test_other_signals_ask_for_no_end() -> None:
    """A script that ends (SIGCHLD), a reload and a look at the log are no stop."""
    bench = Bench()
    bench.resort.signalled(bytes([signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1]))
    assert bench.resort.left_s() is None
    assert bench.guards == []


def test_the_first_signal_sets_the_limit() -> None:
    """Later ones do not put it off; the guard, which needs no Python, comes a little later."""
    bench = Bench()
    bench.resort.signalled(bytes([signal.SIGCHLD, signal.SIGTERM]))
    bench.clock.advance(4.0)
    bench.resort.signalled(bytes([signal.SIGINT]))
    assert bench.resort.left_s() == LIMIT_S - 4.0
    (guarded_s,) = bench.guards
    assert LIMIT_S < guarded_s <= LIMIT_S + 1.0


def test_the_end_says_where_the_process_stands(tmp_path: Path) -> None:
    """It names the calls of the main thread, and leaves no PID file."""
    pid_file = tmp_path / "agent.pid"
    pid_file.touch()
    bench = Bench(pid_file)
    with capturedLogs() as logs:
        thread = threading.Thread(target=bench.resort.end)
        thread.start()
        thread.join()
    assert bench.ends == [1]
    assert not pid_file.exists()
    (line,) = logs
    assert "test_the_end_says_where_the_process_stands" in line["where"]


def test_the_reactor_goes_on_to_hear_of_its_signals() -> None:
    """What signals write goes to whoever had it before: the reactor reaps its processes by it."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    ours = signal.set_wakeup_fd(writing)
    try:
        Bench().resort.watch()
        before = signal.signal(signal.SIGWINCH, lambda *_: None)
        try:
            os.kill(os.getpid(), signal.SIGWINCH)
            assert os.read(reading, 1) == bytes([signal.SIGWINCH])
        finally:
            signal.signal(signal.SIGWINCH, before)
    finally:
        mine = signal.set_wakeup_fd(ours)
        os.close(mine)  # the thread ends with its pipe
        os.close(reading)
        os.close(writing)
