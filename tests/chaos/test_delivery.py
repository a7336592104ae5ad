"""The short forms: what was accepted arrives, whatever breaks. ``python -m tests.chaos`` does the
same for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import backlog, burst, cuts, herd, kills, misbehaviour, operations, pongs
from tests.chaos.report import Report


def passed(report: Report) -> None:
    """Fails with the seed, the figures and every problem."""
    assert not report.problems, str(report)


def test_the_agent_is_killed(tmp_path: Path, fdatasync_ms: float) -> None:
    """SIGKILL at random moments: nothing accepted is lost, reordered or altered; what comes twice
    is explained by the window and the linger time."""
    report = kills.run(seed=1, count=8, directory=tmp_path, fdatasync_ms=fdatasync_ms)
    passed(report)
    assert report.figures["accepted"] > 200


def test_the_network_is_cut(tmp_path: Path, fdatasync_ms: float) -> None:
    """One cut of each kind: the same."""
    report = cuts.run(2, len(cuts.KINDS), tmp_path, fdatasync_ms)
    passed(report)
    assert report.figures["connections"] >= len(cuts.KINDS) - 1


def test_the_platform_dies_after_its_pong(tmp_path: Path) -> None:
    """What was acknowledged and not kept comes again, as long as it lingers; without that time
    it is lost."""
    report = pongs.run(seed=3, count=2, directory=tmp_path)
    passed(report)


@pytest.mark.parametrize("name", misbehaviour.PLATFORMS)
def test_the_platform_misbehaves(name: str, tmp_path: Path) -> None:
    """Nothing is lost and the agent doesn't go in circles, however pings are answered and
    connections end."""
    passed(misbehaviour.run_one(name, seed=4, load_s=2, directory=tmp_path))


def test_operations_come_three_times(tmp_path: Path, fdatasync_ms: float) -> None:
    """With kills in between: none runs twice, each has an answer, and always the same one."""
    report = operations.run(seed=5, count=60, directory=tmp_path, fdatasync_ms=fdatasync_ms)
    passed(report)
    assert report.figures["kills"] > 0
    assert report.figures["executions"] > 30


@pytest.mark.parametrize("answer_bytes", [3_000, 70_000, 2_500_000])
def test_operations_with_long_answers(
    tmp_path: Path, fdatasync_ms: float, answer_bytes: int
) -> None:
    """The same where the answers fill the journal's room, and the outbox."""
    passed(operations.run(11, 20, tmp_path, fdatasync_ms, answer_bytes))


@pytest.mark.parametrize("name", burst.BURSTS)
def test_operations_come_all_at_once(name: str, tmp_path: Path, fdatasync_ms: float) -> None:
    """At default settings each id gets one answer, and what comes afterwards is answered."""
    passed(burst.run_one(name, 10, 100, tmp_path, fdatasync_ms))


def test_a_platform_that_comes_back_is_not_stormed(tmp_path: Path) -> None:
    """Of ten thousand agents no second sees more than two in a hundred, after two minutes without
    a platform, and at any time when the platform says that it goes."""
    passed(herd.run(seed=6, count=10_000, directory=tmp_path))


def test_a_backlog_is_drained_beside_the_work(tmp_path: Path, fdatasync_ms: float) -> None:
    """50,000 messages from an earlier life: all arrive in their order, operations are answered
    meanwhile, and the memory does not grow with their number."""
    passed(backlog.run(7, 50_000, tmp_path, fdatasync_ms))
