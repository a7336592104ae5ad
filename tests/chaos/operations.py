"""Operations that come three times each, while the agent is killed again and again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.caller import Answer, Caller
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
#: What was lost is asked for again when nothing was answered for so long, and so often in a row.
_SILENCE_S = 3.0
_MOST_SILENCES = 20


def run(
    seed: int, count: int, directory: Path, fdatasync_ms: float = 0.0, answer_bytes: int = 0
) -> Report:
    """``count`` operations. None may run twice; each must be answered, with one answer only.

    A copy may be told, instead of the answer, that it has been executed and that the answer is no
    longer kept: long answers fill the journal's room.
    """
    report = Report("operations", seed, count)
    random = Random(seed)
    directory.mkdir(parents=True, exist_ok=True)
    waits = {f"{seed}-{number}": random.random() * _LONGEST_WAIT_S for number in range(count)}
    executions = directory / "executions"
    with Caller() as caller:
        _configure(directory, caller, executions)
        agent = _start(directory, fdatasync_ms)
        kills = 0
        try:
            for request_id in _schedule(list(waits), random):
                caller.ask(request_id, "COUNT", _parameters(waits[request_id], answer_bytes))
                time.sleep(random.random() * 2 * _PAUSE_S)
                if random.random() < 1 / _REQUESTS_PER_KILL:
                    agent.kill()
                    agent = _start(directory, fdatasync_ms)
                    kills += 1
            # What was lost on the way is asked for again, as a platform does.
            asked_again = _ask_until_answered(caller, waits, answer_bytes)
            time.sleep(2 * _LONGEST_WAIT_S)
            # The last request may have been its reason to start. Until its reactor runs, a signal
            # ends it as it ends any program: without a word.
            agent.wait_for_log("connected to", is_own=True)
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


def _start(directory: Path, fdatasync_ms: float) -> AgentProcess:
    path = f"{ROOT}:{Path(__file__).parent / 'plugins'}"
    return AgentProcess(directory / "conf", fdatasync_ms=fdatasync_ms, PYTHONPATH=path)


def _parameters(wait_s: float, answer_bytes: int) -> dict[str, float]:
    return {"wait": wait_s, "fill": answer_bytes}


def _schedule(request_ids: list[str], random: Random) -> list[str]:
    """Each id as often as it is sent, the copies a little apart."""
    places = [
        (number + (random.random() * _SPREAD if copy else 0.0), request_id)
        for number, request_id in enumerate(request_ids)
        for copy in range(_COPIES)
    ]
    return [request_id for _, request_id in sorted(places)]


def _ask_until_answered(caller: Caller, waits: dict[str, float], answer_bytes: int) -> int:
    asked = silences = 0
    while silences < _MOST_SILENCES:
        missing = [one for one in waits if not _real_answers(caller.answers.get(one, ()))]
        if not missing:
            break
        before = sum(map(len, caller.answers.values()))
        time.sleep(_SILENCE_S)
        if sum(map(len, caller.answers.values())) > before:
            silences = 0
            continue
        silences += 1
        for request_id in missing:
            caller.ask(request_id, "COUNT", _parameters(waits[request_id], answer_bytes))
            asked += 1
    return asked


def _real_answers(answers: Iterable[Answer]) -> set[Answer]:
    unreal = ("the answer is no longer kept", "the answer can't be read now")
    return {one for one in answers if not one.description.endswith(unreal)}


def _judge(
    report: Report, runs: Counter[str], answers: dict[str, list[Answer]], waits: dict[str, float]
) -> None:
    results: Counter[str] = Counter()
    for request_id in waits:
        report.require(runs[request_id] <= 1, f"{request_id} ran {runs[request_id]} times")
        given = answers.get(request_id, [])
        real = _real_answers(given)
        results["told that it is no longer kept"] += any(one not in real for one in given)
        if len(real) != 1:
            report.problems.append(f"{request_id} has {len(real)} different answers")
            continue
        _, code, description = real.pop()
        if code == "SUCCESSFUL":
            results["successful"] += 1
            report.require(runs[request_id] == 1, f"{request_id} succeeded without running")
        else:
            results["interrupted"] += 1
            report.require(
                code == "ERROR_PROCESSING" and "interrupted" in description,
                f"{request_id} was answered {code}: {description}",
            )
    report.figures.update(
        {**results, "executions": sum(runs.values()), "answers": sum(map(len, answers.values()))}
    )
