"""What is reaped where the agent is the first process."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.task import Clock

from oda.zombies import PERIOD_S, build_reaper, reap, zombies


def child(root: Path, pid: int, state: str, parent: int, session: int) -> None:
    (root / f"proc/{pid}").mkdir(parents=True)
    (root / f"proc/{pid}/stat").write_text(f"{pid} (a ) Z 1) {state} {parent} {pid} {session} 0 0")


def test_only_adopted_children_that_have_ended_are_reaped(tmp_path: Path) -> None:
    """Not what runs, not what others started, not what the process started in its own session, and
    not what Twisted waits for."""
    own, session = os.getpid(), os.getsid(0)
    child(tmp_path, 10, "Z", own, session + 1)
    child(tmp_path, 11, "S", own, session + 1)
    child(tmp_path, 12, "Z", own + 1, session + 1)
    child(tmp_path, 13, "Z", own, session)
    child(tmp_path, 14, "Z", own, session + 2)
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/99").mkdir()
    assert sorted(zombies(tmp_path, own, session)) == [10, 14]
    asked: list[int] = []
    reap(tmp_path, {14}, asked.append)
    assert asked == [10]


def test_a_child_that_somebody_else_reaped_is_no_error(tmp_path: Path) -> None:
    """It may be gone by then."""
    child(tmp_path, 10, "Z", os.getpid(), -1)

    def gone(pid: int) -> None:
        raise ChildProcessError

    reap(tmp_path, (), gone)


def test_only_the_first_process_reaps() -> None:
    """Any other leaves its children's children to the first."""
    assert build_reaper(1234, Clock()) is None
    assert build_reaper(1, Clock()) is not None


def test_the_service_leaves_no_timer(tmp_path: Path) -> None:
    """It looks at its start and every two seconds, until it is stopped."""
    (tmp_path / "proc").mkdir()
    clock = Clock()
    reaper = build_reaper(1, clock, tmp_path)
    assert reaper is not None
    reaper.startService()
    for _ in range(3):
        assert [call.getTime() for call in clock.getDelayedCalls()] == [clock.seconds() + PERIOD_S]
        clock.advance(PERIOD_S)
    reaper.stopService()
    assert clock.getDelayedCalls() == []
