"""The platform's part in a recorded session, and the comparison of answers. Pure.

The order counts: an operation is sent only after the answers that preceded it in the recording, so
that reads come after writes at any speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from oda.platform.tape.session_file import Entry, Side, What
from oda.platform.wire import Answer, read_message
from oda.wording import counted

#: Members that hold times, which always differ.
TIMES = frozenset({"at", "from", "timestamp"})
_MAX_SHOWN = 60

#: A message's document, None when it has none.
Decode = Callable[[bytes], Any]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the platform, due ``at_ms`` after the start of the session and once the
    operations ``after`` are answered. ``request_id`` None: it is not an operation."""

    at_ms: int
    payload: bytes
    is_text: bool
    after: frozenset[str]
    document: Any = None
    request_id: str | None = None
    name: str = ""


class Script(msgspec.Struct, frozen=True):
    """The platform's part, which starts with the device's first connection at ``began_ms``, and the
    recorded answers by operation, partial ones first."""

    began_ms: int
    steps: Sequence[Step]
    answers: Mapping[str, Sequence[Mapping[str, Any]]]


def read_script(entries: Sequence[Entry], decode: Decode) -> Script:
    """The script of one device's session."""
    steps: list[Step] = []
    answers: dict[str, list[Mapping[str, Any]]] = {}
    answered: set[str] = set()
    asked: set[str] = set()
    for entry in entries:
        if entry.what is not What.MESSAGE:
            continue
        document = decode(entry.payload)
        if entry.side is Side.DEVICE:
            answer = read_message(document)
            if isinstance(answer, Answer) and answer.id in asked:
                add_answer(answers.setdefault(answer.id, []), answer)
                if answer.is_final:
                    answered.add(answer.id)
            continue
        request = request_of(document)
        request_id = None if request is None else str(request["id"])
        if request_id is not None:
            asked.add(request_id)
        steps.append(
            Step(
                at_ms=entry.at_ms,
                payload=entry.payload,
                is_text=entry.is_text,
                after=frozenset(answered),
                document=document,
                request_id=request_id,
                name="" if request is None else str(request.get("name", "")),
            )
        )
    began_ms = entries[0].at_ms if entries else 0
    return Script(began_ms, steps, answers)


def add_answer(answers: list[Mapping[str, Any]], answer: Answer) -> None:
    """Add an answer, unless it only repeats one."""
    if answer.response not in answers:
        answers.append(answer.response)


def request_of(document: Any) -> dict[str, Any] | None:
    """The ``operation.request`` of a message with an id that can be answered, None without one."""
    operation = document.get("operation") if isinstance(document, dict) else None
    request = operation.get("request") if isinstance(operation, dict) else None
    if not isinstance(request, dict):
        return None
    request_id = request.get("id")
    is_id = isinstance(request_id, (str, int)) and not isinstance(request_id, bool)
    return request if is_id and request_id != "" else None


def addressed(document: Any, request_id: str, then: str, now: str) -> Any:
    """The request with another id, and for the device ``now`` if it was for ``then``."""
    request = {**document["operation"]["request"], "id": request_id}
    if request.get("deviceId") == then:
        request["deviceId"] = now
    return {**document, "operation": {**document["operation"], "request": request}}


def as_then(response: Mapping[str, Any], request_id: str, then: str, now: str) -> dict[str, Any]:
    """An answer to such a request, with the recorded names."""
    answer = {**response, "id": request_id}
    if answer.get("deviceId") == now:
        answer["deviceId"] = then
    return answer


def differences(then: Any, now: Any, ignored: frozenset[str], place: str = "$") -> Iterator[str]:
    """Where two documents differ, except in members named in ``ignored``."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys([*then, *now]):
            if name in ignored:
                continue
            here = f"{place}.{name}"
            if name not in now:
                yield f"{here}: recorded {_show(then[name])}, now missing"
            elif name not in then:
                yield f"{here}: not recorded, now {_show(now[name])}"
            else:
                yield from differences(then[name], now[name], ignored, here)
    elif isinstance(then, list) and isinstance(now, list):
        if len(then) != len(now):
            yield f"{place}: recorded {counted(len(then), 'entry', 'entries')}, now {len(now)}"
        for index, (one, other) in enumerate(zip(then, now, strict=False)):
            yield from differences(one, other, ignored, f"{place}[{index}]")
    elif then != now or isinstance(then, bool) is not isinstance(now, bool):
        yield f"{place}: recorded {_show(then)}, now {_show(now)}"


def compare_answers(
    then: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]], ignored: frozenset[str]
) -> list[str]:
    """How the answers to one operation differ from the recorded ones."""
    if len(then) != len(now):
        return [f"recorded {_count(then)}, now {_count(now)}"]
    return [
        line
        for one, other in zip(then, now, strict=True)
        for line in differences(one, other, ignored)
    ]


def _count(answers: Sequence[Any]) -> str:
    return counted(len(answers), "answer") if answers else "no answer"


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
