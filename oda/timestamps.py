"""Recognizes numbers that are not milliseconds since 1970, in a place meant for them. Pure.

Present times in seconds, microseconds and nanoseconds, and dates written as one number, lie outside
the range of present times in milliseconds. So the agent can recognize them. It only warns about
them, and never changes them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

#: From February 19, 1970 to November 20, 2286, a time in milliseconds is beyond doubt.
SURE_FROM_MS = 4_200_000_000
SURE_TO_MS = 9_999_999_999_999

#: The range in seconds, from 2001 to 2103; the smaller units have the same range.
_FIRST_S, _LAST_S = 1_000_000_000, 4_199_999_999
_UNITS = (("seconds", 1), ("microseconds", 1_000_000), ("nanoseconds", 1_000_000_000))

_DATE = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")
_DATE_AND_TIME = re.compile(_DATE.pattern + r"(?:[01]\d|2[0-3])[0-5]\d[0-5]\d")


def doubt(time_ms: int) -> str | None:
    """What a time in milliseconds seems to be instead; None if it is plausible."""
    if SURE_FROM_MS <= time_ms <= SURE_TO_MS:
        return None
    for name, in_a_second in _UNITS:
        if _FIRST_S * in_a_second <= time_ms <= _LAST_S * in_a_second + in_a_second - 1:
            return name
    digits = str(time_ms)
    if _DATE.fullmatch(digits):
        return "a date (YYYYMMDD)"
    if _DATE_AND_TIME.fullmatch(digits):
        return "a date and time (YYYYMMDDhhmmss)"
    return None


def show(time_ms: int) -> str:
    """The date that the number means in milliseconds, for people."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return "no date of this era"
