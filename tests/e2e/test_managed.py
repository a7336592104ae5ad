"""A managed device as a whole process: operations by script, and a restart of the agent.

The configured commands are scripts of the test: none of them restarts this machine.
"""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

from oda.platform.testing import RunningPlatform
from tests.e2e.processes import AgentProcess, write, write_configuration

EXAMPLES = Path(__file__).parents[2] / "docs/examples/operations"
WATER = (EXAMPLES / "water.sh").read_text()
RESTART_AGENT = (EXAMPLES / "restart-agent.sh").read_text()
#: Ends the agent as a restart by systemd does, and tells that it ran.
RESTART = f"""\
{RESTART_AGENT}
echo once >> restarts
sleep 2
echo survived >> restarts
"""


def script(directory: Path, name: str, text: str) -> None:
    (directory / name).write_text(text)
    (directory / name).chmod(0o755)


def configure(tmp_path: Path, platform: RunningPlatform, operations: str) -> Path:
    conf = write_configuration(tmp_path / "conf", platform)
    write(conf, "operations.scripts", f"path=ops\n{operations}")
    (tmp_path / "ops").mkdir(exist_ok=True)
    return conf


def test_an_operation_by_script(platform: RunningPlatform, tmp_path: Path) -> None:
    """Parameters in, steps and result out; what fails says why; DISCOVER lists it; a line that is
    added while the agent runs takes effect."""
    conf = configure(tmp_path, platform, "WATER=water.sh\n")
    script(tmp_path / "ops", "water.sh", WATER)
    with AgentProcess(conf) as agent:
        platform.wait_for_device("dev-1")
        answer = platform.send_operation("dev-1", "WATER", {"litres": 5, "zone": "a'; touch b"})
        assert answer["resultCode"] == "SUCCESSFUL", answer
        assert answer["resultDescription"] == "5 l given by dev-1"
        assert [step["name"] for step in answer["steps"]] == ["OPEN_VALVE", "CLOSE_VALVE"]
        assert not (tmp_path / "b").exists()
        failed = platform.send_operation("dev-1", "WATER", {"litres": 50})
        assert failed["resultCode"] == "ERROR_PROCESSING"
        assert failed["resultDescription"] == "exit status 3: the tank holds 20 l"
        wrong = platform.send_operation("dev-1", "WATER", {"litres": "5 ]; touch b"})
        assert wrong["resultCode"] == "ERROR_IN_PARAM"
        assert wrong["resultDescription"] == "litres: must be a whole number"
        found = platform.send_operation("dev-1", "DISCOVER", {})
        variables = {one["variableName"]: one for one in found["steps"][0]["response"]}
        assert "WATER" in variables["operations"]["variableValue"]
        refused = platform.send_operation("dev-1", "POWER_OFF_EQUIPMENT", {})
        assert refused["resultCode"] == "NOT_SUPPORTED"
        assert "POWER_OFF_EQUIPMENT=<script>" in refused["resultDescription"]
        script(tmp_path / "ops", "off.sh", "#!/bin/sh\necho pretended\n")
        write(conf, "operations.scripts", "path=ops\nPOWER_OFF_EQUIPMENT=off.sh\n")
        agent.signal(signal.SIGHUP)
        agent.wait_for_log("operations by script")
        allowed = platform.send_operation("dev-1", "POWER_OFF_EQUIPMENT", {})
        assert allowed["resultDescription"] == "pretended"
        agent.stop()
    assert "Traceback" not in agent.text()


def test_a_restart_of_the_agent_is_answered_by_the_next_process(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    """One final answer, from after the restart, and then the readings that are configured. The
    command is not killed with the agent that it ends."""
    conf = configure(
        tmp_path, platform, "restartCommand=restart.sh\nreadAfterRestart=device.cpu.total\n"
    )
    script(tmp_path / "ops", "restart.sh", RESTART)
    answers: list[dict[str, Any]] = []

    def ask() -> None:
        answers.append(
            platform.send_operation("dev-1", "REBOOT_EQUIPMENT", {"type": "SOFTWARE"}, 60.0)
        )

    with AgentProcess(conf) as first:
        platform.wait_for_device("dev-1")
        asking = threading.Thread(target=ask)
        asking.start()
        first.wait()
    assert "continues when the agent starts again" in first.text()
    with AgentProcess(conf) as second:
        asking.join(60)
        (answer,) = answers
        assert answer["resultCode"] == "SUCCESSFUL", answer
        assert answer["resultDescription"] == "the agent has restarted"
        assert len(answer["steps"]) == 2
        platform.wait_for_datapoints("dev-1", "device.cpu.total", 1)
        second.stop()
    deadline_s = time.monotonic() + 10
    while "survived" not in (tmp_path / "restarts").read_text():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    assert (tmp_path / "restarts").read_text() == "once\nsurvived\n"
    assert "Traceback" not in second.text()
    (operation,) = platform.operations("dev-1")
    assert (operation.extra_answers, operation.differing_answers) == (0, 0)
    assert [len(partial["steps"]) for partial in operation.partials] == [1]


def test_a_device_that_was_not_restarted_is_told(platform: RunningPlatform, tmp_path: Path) -> None:
    """The command restarts the agent only: this machine's boot id is the same. Killed in between,
    not stopped in order."""
    conf = configure(tmp_path, platform, "rebootCommand=restart.sh\n")
    script(tmp_path / "ops", "restart.sh", "#!/bin/sh\nkill -KILL $PPID\n")
    answers: list[dict[str, Any]] = []

    def ask() -> None:
        answers.append(platform.send_operation("dev-1", "REBOOT_EQUIPMENT", {}, 60.0))

    with AgentProcess(conf) as first:
        platform.wait_for_device("dev-1")
        asking = threading.Thread(target=ask)
        asking.start()
        assert first.wait() == -signal.SIGKILL
    with AgentProcess(conf) as second:
        asking.join(60)
        (answer,) = answers
        assert answer["resultCode"] == "ERROR_PROCESSING", answer
        assert "the boot id is the same" in answer["resultDescription"]
        second.stop()
