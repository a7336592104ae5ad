"""A device that starts in 1970: the process has a wall clock of its own, never the machine's."""

from __future__ import annotations

import time
from pathlib import Path

from oda.platform.testing import RunningPlatform
from tests.e2e.processes import AgentProcess, write_configuration

POLLER = "device.upTime=0;1\n"

#: Sets the time of day back by what a file says, in this process alone.
WRONG_CLOCK = """
import time
from pathlib import Path

_right = time.time_ns
time.time_ns = lambda: _right() - int(Path({file!r}).read_text())
"""


def test_readings_of_1970_arrive_with_their_true_time(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    """The agent connects and reads while its clock says 1970, and is killed. The next one sends
    what both have read once the clock is right: each reading once, with the second in which it
    was taken, though the first process never knew it. Nothing arrives before."""
    wrong = tmp_path / "wrong"
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(WRONG_CLOCK.format(file=str(wrong)))
    wrong.write_text(str(time.time_ns()))
    conf = write_configuration(tmp_path / "conf", platform, poller=POLLER)
    began_ms = time.time_ns() // 1_000_000
    with AgentProcess(conf, PYTHONPATH=str(site)) as agent:
        platform.wait_for_device("dev-1")
        agent.wait_for_log("the clock is not right (it says 1970-01-01)")
        time.sleep(3.5)
        agent.kill()
    assert platform.datapoints("dev-1") == []
    killed_ms = time.time_ns() // 1_000_000
    with AgentProcess(conf, PYTHONPATH=str(site)) as agent:
        agent.wait_for_log("the clock is not right (it says 1970-01-01)")
        time.sleep(2.5)
        assert platform.datapoints("dev-1") == []
        wrong.write_text("0")
        platform.wait_for_datapoints("dev-1", "device.upTime", 7)
        agent.wait_for_log("have their true time")
        agent.stop()
    points = [one for one in platform.datapoints("dev-1") if one.datastream == "device.upTime"]
    times = [one.at_ms for one in points]
    assert times == sorted(times)
    assert len(set(times)) == len(times)
    assert all(began_ms <= one <= time.time_ns() // 1_000_000 for one in times)
    assert sum(one < killed_ms for one in times) >= 3
    # A reading of the uptime says itself when it was taken.
    offsets = [one.at_ms / 1000 - one.value for one in points]
    assert max(offsets) - min(offsets) < 1.5
