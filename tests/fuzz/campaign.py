"""Sends frame after frame and holds what comes back against the oracle."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.fuzz.live import MAX_MESSAGE_BYTES, LiveAgent
from tests.fuzz.memory import Cost, MemoryWatch, give_back, resident_bytes
from tests.fuzz.mutation import Frame, make_frame, make_giant, make_large
from tests.fuzz.oracle import Judgement, Verdict, judge

#: Every so many frames one is larger than the agent accepts, which ends the connection.
_GIANT_EVERY = 5_000
#: And every so many frames one is large.
_LARGE_EVERY = 200
_CODES = {"SUCCESSFUL", "ERROR_IN_PARAM", "NOT_SUPPORTED", "ERROR_PROCESSING"}


class Complaint(NamedTuple):
    """A frame that was not treated as it should be."""

    number: int
    problem: str

    def __str__(self) -> str:
        return f"frame {self.number}: {self.problem}"


class Report(NamedTuple):
    """What a campaign found; ``memory`` are (frames sent, resident bytes), ``objects`` (frames
    sent, objects that the garbage collector knows). ``costs`` is what each kind of frame cost,
    behind the first fifth of the campaign, and ``expensive`` says which cost too much."""

    complaints: list[Complaint]
    verdicts: Counter[str]
    results: Counter[str]
    reconnects: int
    times_clock_set: int
    memory: list[tuple[int, int]]
    objects: list[tuple[int, int]]
    costs: dict[str, Cost]
    expensive: list[str]


def run(
    seed: int,
    numbers: range,
    measure_every: int = 1000,
    progress: Callable[[int, int], None] = lambda sent, resident_bytes: None,
    max_complaints: int = 20,
) -> Report:
    """Send the frames of these numbers to a fresh agent."""
    live = LiveAgent()
    complaints: list[Complaint] = []
    verdicts: Counter[str] = Counter()
    results: Counter[str] = Counter()
    memory: list[tuple[int, int]] = []
    objects: list[tuple[int, int]] = []
    watch = MemoryWatch()
    for sent, number in enumerate(numbers, 1):
        frame = frame_of(seed, number)
        judgement = judge(frame.payload, frame.is_text)
        if len(frame.payload) > MAX_MESSAGE_BYTES:
            judgement = Judgement(Verdict.SILENCE)
        verdicts[judgement.verdict.value] += 1
        watch.before(frame)
        answers = live.exchange(frame, judgement.verdict is Verdict.ANSWER)
        if sent > len(numbers) // 5:
            watch.after(frame)
        results.update(str(answer.get("resultCode")) for answer in answers)
        problem = find_fault(frame, judgement, answers, live)
        if problem:
            complaints.append(Complaint(number, problem))
            if len(complaints) >= max_complaints:
                break
        if not live.is_alive and not live.reconnect():
            complaints.append(Complaint(number, "the agent never connected again"))
            break
        if sent % 8 == 0:
            live.let_time_pass(0.2)
        if sent % measure_every == 0:
            gc.collect()
            give_back()
            memory.append((sent, resident_bytes()))
            objects.append((sent, len(gc.get_objects())))
            progress(*memory[-1])
    live.close()
    return Report(
        complaints,
        verdicts,
        results,
        live.reconnects,
        live.clock.times_set,
        memory,
        objects,
        watch.costs,
        watch.complaints(),
    )


def frame_of(seed: int, number: int) -> Frame:
    """The frame of that number: mostly a small one, now and then a large one, rarely one that is
    larger than the agent accepts."""
    if number % _GIANT_EVERY == _GIANT_EVERY - 1:
        return make_giant(MAX_MESSAGE_BYTES)
    if number % _LARGE_EVERY == _LARGE_EVERY // 2:
        return make_large(seed, number)
    return make_frame(seed, number)


def find_fault(frame: Frame, judgement: Judgement, answers: list[Any], live: LiveAgent) -> str:
    """What is wrong with the agent's behaviour; "" when nothing is."""
    if live.failures:
        failures = "\n".join(live.failures)
        live.failures.clear()
        return f"logged a failure: {failures}"
    ends_connection = frame.is_text and not _is_utf8(frame.payload)
    if not live.is_alive and not ends_connection and len(frame.payload) <= MAX_MESSAGE_BYTES:
        return "the connection ended"
    if judgement.verdict is Verdict.EITHER:
        return f"{len(answers)} answers" if len(answers) > 1 else ""
    wanted = 1 if judgement.verdict is Verdict.ANSWER else 0
    if len(answers) != wanted:
        return f"{len(answers)} answers instead of {wanted}"
    for answer in answers:
        if answer.get("resultCode") not in _CODES or not isinstance(answer.get("steps"), list):
            return f"a malformed answer: {str(answer)[:200]}"
        if judgement.request_id is not None and answer.get("id") != judgement.request_id:
            return f"answered id {answer.get('id')!r} instead of {judgement.request_id!r}"
    return ""


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
