"""Operations that come three times each, while the agent is killed again and again."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.caller import Caller
from tests.chaos.report import Report
from tests.chaos.world import DEVICE, ROOT
from tests.e2e.processes import AgentProcess, write, write_configuration

_COPIES = 3
#: The copies of one request come within so many requests.
_SPREAD = 20
_LONGEST_WAIT_S = 0.1
_PAUSE_S = 0.01
#: So many requests are sent, on average, between one kill and the next.
_REQUESTS_PER_KILL = 40


def run(seed: int, count: int, directory: Path) -> Report:
    """``count`` operations. None may run twice; each must be answered, with one answer only."""
    report = Report("operations", seed, count)
    random = Random(seed)
    directory.mkdir(parents=True, exist_ok=True)
    waits = {f"{seed}-{number}": random.random() * _LONGEST_WAIT_S for number in range(count)}
    executions = directory / "executions"
    with Caller() as caller:
        _configure(directory, caller, executions)
        agent = _start(directory)
        kills = 0
        try:
            for request_id in _schedule(list(waits), random):
                caller.ask(request_id, "COUNT", {"wait": waits[request_id]})
                time.sleep(random.random() * 2 * _PAUSE_S)
                if random.random() < 1 / _REQUESTS_PER_KILL:
                    agent.kill()
                    agent = _start(directory)
                    kills += 1
            # What was lost on the way is asked for again, as a platform does.
            asked_again = _ask_until_answered(caller, waits)
            time.sleep(2 * _LONGEST_WAIT_S)
            agent.stop()
        finally:
            agent.__exit__()
    runs = Counter(executions.read_text().split())
    _judge(report, runs, caller.answers, waits)
    report.figures.update({"kills": kills, "asked again": asked_again})
    log = (directory / "agent.log").read_text()
    report.require("Traceback" not in log, "the agent's log has a traceback")
    return report


def _configure(directory: Path, caller: Caller, executions: Path) -> None:
    platform: Any = caller  # it has an address, and that is all that is asked for
    conf = write_configuration(
        directory / "conf", platform, DEVICE, {"reconnectMaxDelay": 1, "ackLinger": 1}
    )
    write(conf, "plugins", f"plugins=chaos-counter\nchaos-counter.file={executions}\n")


def _start(directory: Path) -> AgentProcess:
    plugins = Path(__file__).parent / "plugins"
    return AgentProcess(directory / "conf", PYTHONPATH=f"{ROOT}:{plugins}")


def _schedule(request_ids: list[str], random: Random) -> list[str]:
    """Each id as often as it is sent, the copies a little apart."""
    places = [
        (number + (random.random() * _SPREAD if copy else 0.0), request_id)
        for number, request_id in enumerate(request_ids)
        for copy in range(_COPIES)
    ]
    return [request_id for _, request_id in sorted(places)]


def _ask_until_answered(caller: Caller, waits: dict[str, float], timeout_s: float = 60.0) -> int:
    asked = 0
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        time.sleep(0.5)
        missing = [request_id for request_id in waits if request_id not in caller.answers]
        if not missing:
            break
        for request_id in missing:
            caller.ask(request_id, "COUNT", {"wait": waits[request_id]})
            asked += 1
    return asked


def _judge(
    report: Report, runs: Counter[str], answers: dict[str, list[bytes]], waits: dict[str, float]
) -> None:
    results: Counter[str] = Counter()
    for request_id in waits:
        report.require(runs[request_id] <= 1, f"{request_id} ran {runs[request_id]} times")
        payloads = set(answers.get(request_id, ()))
        if len(payloads) != 1:
            report.problems.append(f"{request_id} has {len(payloads)} different answers")
            continue
        response = json.loads(payloads.pop())["operation"]["response"]
        description = response.get("resultDescription", "")
        if response["resultCode"] == "SUCCESSFUL":
            results["successful"] += 1
            report.require(runs[request_id] == 1, f"{request_id} succeeded without running")
        else:
            results["interrupted"] += 1
            is_interrupted = response["resultCode"] == "ERROR_PROCESSING"
            report.require(
                is_interrupted and "interrupted" in description,
                f"{request_id} was answered {response['resultCode']}: {description}",
            )
    report.figures.update(
        {**results, "executions": sum(runs.values()), "answers": sum(map(len, answers.values()))}
    )
