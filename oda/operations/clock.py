"""The shared parts of the two clock operations: the ``datetime`` parameter and the answer. Pure.

Sources: OpenGate protocol, "Operations". Recorded answers have one step without description and
response, and no ``resultDescription`` unless there is a reason to give.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from twisted.internet.defer import Deferred

from oda.errors import InvalidParameter
from oda.interfaces import IStateManager
from oda.model import DatastreamValue, OperationResult, ResultCode, Step, StepResult, ValueStatus
from oda.operations.parameters import kind_of, refuse_unknown

#: No time zone is further from UTC than this, daylight saving included.
MAX_OFFSET_HOURS = 18

_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_TIME = re.compile(r"(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


#: The members of a point in time.
_MEMBERS = ("date", "time", "timezone", "dst")


def read_datetime_ms(parameters: Mapping[str, Any]) -> int | None:
    """The time in ``parameters``, in milliseconds since the Unix epoch; None if there is none.

    The members ``date``, ``time``, ``timezone`` and ``dst`` are inside ``datetime`` or, in older
    requests, separate parameters. ``timezone`` and ``dst`` are hours and add up to the zone's
    offset; either may be missing. Raises ``InvalidParameter`` that names the fault, also for any
    other parameter: a time that is misunderstood would set the wrong time.
    """
    refuse_unknown(parameters, ("datetime", *_MEMBERS))
    given = parameters.get("datetime")
    flat = [member for member in _MEMBERS if parameters.get(member) is not None]
    if given is None:
        # As inside datetime, a null date is a forgotten date, not the current time.
        is_meant = flat or "date" in parameters or "time" in parameters
        return _read_ms(parameters, "") if is_meant else None
    if flat:
        raise InvalidParameter(flat[0], "is given beside datetime")
    if not isinstance(given, dict):
        raise InvalidParameter("datetime", f"must be an object, not {kind_of(given)}")
    refuse_unknown(given, _MEMBERS, "datetime")
    return _read_ms(given, "datetime.")


def _read_ms(given: Mapping[str, Any], prefix: str) -> int:
    year, month, day = _matched(given, prefix, "date", _DATE, "YYYY-MM-DD").groups()
    hour, minute, second, fraction = _matched(given, prefix, "time", _TIME, "HH:MM:SS").groups("0")
    offset = timedelta(hours=_hours(given, prefix, "timezone") + _hours(given, prefix, "dst"))
    if abs(offset) > timedelta(hours=MAX_OFFSET_HOURS):
        raise InvalidParameter(
            f"{prefix}timezone", f"with dst it must be within {MAX_OFFSET_HOURS} hours of UTC"
        )
    try:
        date = datetime(int(year), int(month), int(day), tzinfo=UTC)
    except ValueError:
        raise InvalidParameter(f"{prefix}date", f"there is no {given['date']}") from None
    if int(hour) > 23 or int(minute) > 59 or int(second) > 59:
        raise InvalidParameter(f"{prefix}time", f"there is no {given['time']}")
    clock = timedelta(
        hours=int(hour),
        minutes=int(minute),
        seconds=int(second),
        milliseconds=int(fraction.ljust(3, "0")[:3]),
    )
    # Subtracted as durations, because a datetime is limited to the years 1 to 9999.
    return ((date - _EPOCH) + clock - offset) // timedelta(milliseconds=1)


def set_clock(
    state: IStateManager, device_id: str, clock_datastream: str, now_ms: int, name: str
) -> Deferred[OperationResult]:
    """Write ``now_ms`` to the clock datastream; fires with the answer of the operation ``name``."""
    writing = state.set(device_id, [(clock_datastream, now_ms)])
    return writing.addCallback(_answer_of(name))


def _answer_of(name: str) -> Callable[[Sequence[DatastreamValue]], OperationResult]:
    def answer(outcomes: Sequence[DatastreamValue]) -> OperationResult:
        outcome = outcomes[0]
        if outcome.status is ValueStatus.OK:
            return OperationResult(steps=(Step(name, StepResult.SUCCESSFUL),))
        steps = (Step(name, StepResult.ERROR),)
        # As recorded: a device without a clock gives no description.
        return OperationResult(ResultCode.ERROR_PROCESSING, outcome.error, steps)

    return answer


def _matched(
    given: Mapping[str, Any], prefix: str, member: str, pattern: re.Pattern[str], form: str
) -> re.Match[str]:
    text = given.get(member)
    if text is None:
        raise InvalidParameter(prefix + member, "missing")
    if not isinstance(text, str):
        raise InvalidParameter(prefix + member, f"must be a text, not {kind_of(text)}")
    match = pattern.fullmatch(text)
    if match is None:
        raise InvalidParameter(prefix + member, f"must be {form}")
    return match


def _hours(given: Mapping[str, Any], prefix: str, member: str) -> float:
    hours = given.get(member)
    if hours is None:
        return 0
    if isinstance(hours, bool) or not isinstance(hours, int | float):
        raise InvalidParameter(prefix + member, f"must be a number, not {kind_of(hours)}")
    # This comparison also refuses NaN.
    if not abs(hours) <= MAX_OFFSET_HOURS:
        raise InvalidParameter(prefix + member, f"must be within {MAX_OFFSET_HOURS} hours")
    return hours
