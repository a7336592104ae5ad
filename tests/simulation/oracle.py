"""Holds the promises of docs/delivery.md against the facts. Nothing of the agent's code is used.

What can be seen at once is seen where it happens: an event that is accepted while it is not on
disk (``workload``), one that arrives altered (``platform``), an answer that is read before it is on
disk (``world``), an operation that runs twice. Here is
what only the end can tell.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

from tests.simulation.history import Facts, History, Published

#: After so many repetitions in vain the agent goes on without (docs/delivery.md).
_IN_VAIN = 3

_NOT_RECORDED = b"the operation could not be recorded"
_STOPPING = b"the agent is stopping"
#: Reasons for which an operation is answered and not run; it may be asked for again.
_REFUSALS = (
    _STOPPING,
    _NOT_RECORDED,
    b"too many operations at once",
)


#: What a request gets that comes again after its answer was forgotten.
_FORGOTTEN = b"already executed; the answer is no longer kept"
#: What it gets while the store can't be read.
_UNREADABLE = b"already executed; the answer can't be read now"
#: What it gets after the limit was lowered below the answer's size.
_TOO_LARGE = b"; maxMessageSize is "


#: What is answered after a crash where the end of an operation was not on disk.
_INTERRUPTED = b"interrupted: the agent was restarted"


def _in_vain(facts: Facts) -> int:
    """How often the platform must have lost something that is not sent to it again. Acknowledged
    rows are let go early where there is no room."""
    return 1 if "room" in facts.excuses else _IN_VAIN


def judge_rest(facts: Facts, history: History, life: int) -> None:
    """The world has come to rest, and nothing was asked again: is anything missing?"""
    missing: list[str] = []
    for key, asked in sorted(facts.asked.items()):
        if key in facts.answers or facts.answers_lost[key] >= _in_vain(facts):
            continue
        if _was_let_go(facts, key):
            continue
        name = f"{key[0]}/{key[1]}"
        if any(one.is_read and one.life == life for one in asked):
            missing.append(f"{name} was read and is not answered")
        elif facts.executions[key] and asked[0].acts and "store" not in facts.excuses:
            missing.append(f"{name} was executed and is not answered")
    _tell_missing(missing, facts, history)
    for number, event in facts.published.items():
        if not event.outcome and event.life == life:
            history.violate(f"event {number} was neither accepted nor refused")
            break


def _was_let_go(facts: Facts, key: tuple[str, str]) -> bool:
    """Where there is no room, answers that were written to the network are forgotten before the
    platform has proved that it read them. Its connection may end in between."""
    return "room" in facts.excuses and facts.answers_forgotten > 0 and key in facts.unread


def _tell_missing(missing: list[str], facts: Facts, history: History) -> None:
    """Answers may be dropped where there is no room for them, if that is counted."""
    if "purge" not in facts.excuses and len(missing) > facts.answers_dropped:
        for one in missing:
            history.violate(one)


def judge(facts: Facts, history: History, life: int) -> None:
    """Everything is over."""
    _judge_losses(facts, history)
    _judge_order(facts, history)
    _judge_answers(facts, history)
    for number, event in facts.published.items():
        if not event.outcome and event.life not in facts.crashed:
            history.violate(f"event {number} was never accepted or refused, in life {event.life}")
            break


def _judge_losses(facts: Facts, history: History) -> None:
    """What was accepted has arrived, and the platform has kept it."""
    missing = [
        number
        for number, event in facts.published.items()
        if event.outcome == "accepted"
        and number not in facts.committed
        and number not in facts.purged
        and number not in facts.refused_by_platform
        and number not in facts.destroyed
        and facts.lost_by_platform[number] < _in_vain(facts)
        and not _was_in_memory_only(facts, event)
    ]
    if facts.dropped < 0:
        history.violate(f"{facts.dropped} events are counted as dropped")
    elif len(missing) > facts.dropped + facts.set_aside:
        history.violate(
            f"{len(missing)} accepted events are lost ({facts.dropped} are counted as dropped),"
            f" the first is {missing[0]}"
        )


def _was_in_memory_only(facts: Facts, event: Published) -> bool:
    """While the disk fails, an event is accepted when the platform has read it. What the platform
    loses then goes with the process."""
    number = event.number
    return (
        number in facts.only_read
        and facts.lost_by_platform[number] > 0
        and event.life in facts.crashed
    )


def _judge_order(facts: Facts, history: History) -> None:
    """Within a datastream, events arrive first in the order in which they were published."""
    if facts.excuses & {"store", "opening", "reading"}:
        return  # live data does not wait for what can't be read, or is being recovered
    # What was purged comes back, and late, where a crash comes before the commit of the purge.
    excused = facts.refused_by_platform | facts.purged
    for stream, numbers in facts.order.items():
        seen = [number for number in numbers if number not in excused]
        for before, after in pairwise(seen):
            if after < before:
                history.violate(f"event {after} of {stream} arrived after {before}")
                break


def _judge_answers(facts: Facts, history: History) -> None:
    """Every request has one answer, and one only.

    A refusal says that the operation was not run. The same request may be run when it comes again;
    but nothing that was answered otherwise is refused afterwards.
    """
    missing: list[str] = []
    for key, asked in sorted(facts.asked.items()):
        name = f"{key[0]}/{key[1]}"
        answers = facts.answers.get(key, [])
        while len(answers) > 1 and any(text in answers[0] for text in _REFUSALS):
            answers = answers[1:]
        if facts.answers_forgotten:
            answers = [one for one in answers if _FORGOTTEN not in one] or answers
        if "reading" in facts.excuses:
            answers = [one for one in answers if _UNREADABLE not in one] or answers
        if "size" in facts.excuses:
            answers = [one for one in answers if _TOO_LARGE not in one] or answers
        if "opening" in facts.excuses:
            # An agent whose store can't be opened knows nothing of what was answered before.
            answers = [one for one in answers if _NOT_RECORDED not in one] or answers
        if "disk" in facts.excuses:
            # While the disk fails, answers don't wait for it.
            answers = [one for one in answers if _INTERRUPTED not in one] or answers
        if answers and not asked[0].acts and (key, answers[0]) not in facts.answers_on_disk:
            # An answer of an operation that only reads does not wait for the disk. One that never
            # was on it leaves no record: the request is run again, by an agent that may be stopped.
            answers = [one for one in answers if _STOPPING not in one] or answers
        if "store" in facts.excuses:
            continue  # the journal may be gone
        if len(answers) > 1:
            texts = " | ".join(_told(one) for one in answers)
            history.violate(f"{name} has {len(answers)} different answers: {texts}")
        is_missing = not answers and facts.answers_lost[key] < _in_vain(facts)
        if is_missing and not _was_let_go(facts, key):
            missing.append(f"{name} has no answer")
        is_continued = key in facts.saved and not facts.excuses & {"disk", "opening"}
        if is_continued and any(_INTERRUPTED in one for one in answers):
            history.violate(f"{name} had saved its state and was answered as interrupted")
        if facts.executions[key] > 1 and asked[0].acts:
            history.violate(f"{name} was executed {facts.executions[key]} times")
    _tell_missing(missing, facts, history)


def _told(answer: bytes) -> str:
    response = msgspec.json.decode(answer)["operation"]["response"]
    return f"{response['resultCode']} {response.get('resultDescription', '')}"[:80].strip()
