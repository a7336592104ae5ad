"""The outbox's file among other processes and on a disk that is full."""

from __future__ import annotations

from pathlib import Path

import pytest

from oda.platform.testing import RunningPlatform
from tests.chaos import disk, readonly
from tests.chaos.world import ROOT
from tests.e2e.processes import AgentProcess, write_configuration


def test_the_disk_is_full(tmp_path: Path, fdatasync_ms: float) -> None:
    """Live data flows, the outbox recovers when there is room again, nothing accepted is lost."""
    report = disk.run(seed=8, count=2, directory=tmp_path, fdatasync_ms=fdatasync_ms)
    assert not report.problems, str(report)


def test_the_disk_is_read_only(tmp_path: Path, fdatasync_ms: float) -> None:
    """At a start, and met while running: the agent runs all the same, says so, live data flows, and
    the outbox recovers when it is writable again."""
    report = readonly.run(seed=9, count=1, directory=tmp_path, fdatasync_ms=fdatasync_ms)
    if "skipped" in report.figures:
        pytest.skip(report.figures["skipped"])
    assert not report.problems, str(report)


def test_a_second_agent_on_the_same_outbox_refuses(
    oda_platform: RunningPlatform, tmp_path: Path
) -> None:
    """It says why and ends with a status that is not 0; the first one is not disturbed."""
    outbox = tmp_path / "outbox.sqlite"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_configuration(tmp_path / name / "conf", oda_platform, name, {"outboxPath": outbox})
    with AgentProcess(tmp_path / "first/conf", PYTHONPATH=str(ROOT)) as first:
        oda_platform.wait_for_device("first", 30)
        with AgentProcess(tmp_path / "second/conf", PYTHONPATH=str(ROOT)) as second:
            assert second.wait() == 1
        log = second.text()
        assert f"{outbox}: the outbox is in use by another agent (process {first.pid})" in log
        assert "Traceback" not in log
        answer = oda_platform.send_operation("first", "REFRESH_INFO", timeout_s=30)
        assert answer["resultCode"] == "SUCCESSFUL"
        assert oda_platform.device("second") is None
        first.stop()
    assert "Traceback" not in first.text()
