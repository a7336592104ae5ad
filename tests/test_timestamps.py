"""Which times are doubted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.timestamps import SURE_FROM_MS, SURE_TO_MS, doubt, show

#: From 2001 to 2099.
times_s = st.integers(1_000_000_000, 4_102_444_799)


@given(times_s)
def test_times_of_ours_are_told_from_other_units(seconds: int) -> None:
    """A time of this century in milliseconds is never doubted; in another unit, or written as a
    date, it always is."""
    moment = datetime.fromtimestamp(seconds, UTC)
    assert doubt(seconds * 1000) is None
    assert SURE_FROM_MS <= seconds * 1000 <= SURE_TO_MS
    assert doubt(seconds) == "seconds"
    assert doubt(seconds * 1_000_000 + 7) == "microseconds"
    assert doubt(seconds * 1_000_000_000 + 7) == "nanoseconds"
    assert doubt(int(moment.strftime("%Y%m%d"))) == "a date (YYYYMMDD)"
    assert doubt(int(moment.strftime("%Y%m%d%H%M%S"))) == "a date and time (YYYYMMDDhhmmss)"


@pytest.mark.parametrize("time_ms", [0, 5, -1, 86_400_000, 20241399, -(2**63), 2**63 - 1])
def test_other_times_are_left_alone(time_ms: int) -> None:
    """The time of a clock that was never set, and what is no date, are no reason to doubt."""
    assert doubt(time_ms) is None


def test_the_day_is_shown() -> None:
    """For people; there is a text for every number."""
    assert show(1_700_000_000) == "1970-01-20"
    assert show(2**63 - 1) == "no date of this era"
