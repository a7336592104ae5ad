"""Operations that act, all at once: each gets its answer, and so does what comes after them.

They wait on the platform while the agent is away, and are sent when it connects. Everything is at
its default, and what is asked for is SET_DEVICE_PARAMETERS: each has to be on record before it
runs, and its answer before it is sent, so commits come as fast as the disk takes them.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from oda.platform.client import NotWithinTime
from tests.chaos.report import Report
from tests.chaos.world import DEVICE, World

_NAME_BYTES = 1000
#: The burst is given up when no answer has come for so long.
_SILENCE_S = 10.0
_TIMEOUT_S = 600.0


class Burst(NamedTuple):
    """``share`` is how many operations there are for each of the run's count; ``answer_bytes`` is
    about how long each answer becomes, ``id_bytes`` is how long each id is (0: as short as can be).
    """

    share: int
    answer_bytes: int
    id_bytes: int = 0


BURSTS = {
    "40 kB answers": Burst(1, 40_000),
    "3 kB answers": Burst(10, 3_000),
    "ids of 1,000 bytes": Burst(1, 100, 1000),
}


def run(seed: int, count: int, directory: Path, fdatasync_ms: float = 0.0) -> Report:
    """Each of ``BURSTS``, each with a new agent."""
    report = Report("burst", seed, count)
    for number, name in enumerate(BURSTS):
        one = run_one(name, seed, count, directory / str(number), fdatasync_ms)
        report.figures[name] = ", ".join(map(str, one.figures.values()))
        report.problems += [f"{name}: {problem}" for problem in one.problems]
    return report


def run_one(name: str, seed: int, count: int, directory: Path, fdatasync_ms: float = 0.0) -> Report:
    """One answer for each id, and then for what is not supported, and for one more of the same."""
    burst = BURSTS[name]
    report = Report(name, seed, burst.share * count)
    world = World(directory, fdatasync_ms=fdatasync_ms)
    try:
        ids = [f"{seed}-{n}-".ljust(burst.id_bytes, "i") for n in range(report.count)]
        for request_id in ids:
            _order(world, request_id, burst)
        begun_s = time.monotonic()
        with world.start_agent() as agent:
            arrived = _wait_for_answers(world, ids, burst)
            report.figures["seconds"] = f"{time.monotonic() - begun_s:.1f}"
            for times in sorted(set(map(arrived.__getitem__, ids)) - {1}):
                wrong = sum(arrived[one] == times for one in ids)
                report.problems.append(f"{wrong} of {len(ids)} were answered {times} times")
            _ask_for_more(world, burst, report)
            agent.stop()
        _, whole = _answers(world, burst)
        report.figures["answered"] = f"{sum(1 for one in ids if arrived[one])} of {len(ids)}"
        report.require(whole >= len(ids), f"{whole} answers have the length that was asked for")
        world.require_clean_log(report)
    finally:
        world.close()
    return report


def _order(world: World, request_id: str, burst: Burst) -> None:
    """Have an operation queued. No such datastream exists, and the answer names each of them."""
    names = range(0, burst.answer_bytes, _NAME_BYTES)
    length = min(_NAME_BYTES, burst.answer_bytes)
    variables = [{"name": f"none.{n}.".ljust(length, "n"), "value": n} for n in names]
    world.platform.post_operation(
        DEVICE,
        "SET_DEVICE_PARAMETERS",
        {"variableList": variables},
        id=request_id,
        timeout=_TIMEOUT_S,
    )


def _answers(world: World, burst: Burst) -> tuple[Counter[str], int]:
    """How often each id was answered, and how many answers are as long as they should be."""
    arrived: Counter[str] = Counter()
    whole = 0
    for message in world.platform.messages(DEVICE):
        response = json.loads(message.payload).get("operation", {}).get("response")
        if response is not None:
            arrived[response["id"]] += 1
            whole += message.size >= burst.answer_bytes
    return arrived, whole


def _wait_for_answers(world: World, ids: list[str], burst: Burst) -> Counter[str]:
    silence_s = _SILENCE_S + 20 * world.fdatasync_ms / 1000
    heard_s = time.monotonic()
    before = 0
    while True:
        arrived, _ = _answers(world, burst)
        now_s = time.monotonic()
        if arrived.total() > before:
            before, heard_s = arrived.total(), now_s
        if all(arrived[one] for one in ids) or now_s - heard_s > silence_s:
            return arrived
        time.sleep(0.5)


def _ask_for_more(world: World, burst: Burst, report: Report) -> None:
    """What needs no commit, and what does, are both answered as at any time."""
    try:
        answer = world.platform.send_operation(DEVICE, "NO_SUCH_OPERATION", timeout_s=20)
        report.require(answer["resultCode"] == "NOT_SUPPORTED", f"no such operation: {answer}")
    except NotWithinTime as error:
        report.problems.append(f"afterwards: {error}")
    before, _ = _answers(world, burst)
    _order(world, "one-more", burst)
    after = _wait_for_answers(world, ["one-more"], burst)
    report.require(after["one-more"] == 1, f"one more was answered {after['one-more']} times")
    again = [one for one in after if one != "one-more" and after[one] > before[one]]
    report.require(not again, f"{len(again)} others were answered meanwhile, or again")
