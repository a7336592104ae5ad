"""What is known of the times of the machine's starts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oda.model import Moment
from oda.telemetry.boots import MAX_BOOTS, Boot, Boots

BUILT_MS = 1_793_491_200_000
TRUE_MS = 1_800_000_000_000

#: Each start: how long the machine was off before it, how long it ran, and whether its clock became
#: right (in its last moment).
STARTS = st.lists(
    st.tuples(st.integers(0, 10**9), st.integers(0, 10**8), st.booleans()), min_size=1, max_size=8
)


@given(STARTS)
def test_bounds_hold_and_stay(starts: list[tuple[int, int, bool]]) -> None:
    """Every moment is dated as soon as the clock is right once: exactly in that start, with bounds
    around the truth in the ones before; and never in another way later."""
    known: list[Boot] = []
    truth: dict[Moment, int] = {}
    told: dict[Moment, tuple[int, int | None]] = {}
    now_ms = TRUE_MS
    for number, (off_ms, ran_ms, is_right) in enumerate(starts):
        began_ms = now_ms + off_ms
        boots = Boots(known, f"boot {number}", BUILT_MS)
        for uptime_ms in (0, ran_ms // 2, ran_ms):
            truth[Moment(f"boot {number}", uptime_ms)] = began_ms + uptime_ms
            boots.seen(uptime_ms)
        now_ms = began_ms + ran_ms
        if is_right:
            boots.is_right(now_ms, ran_ms)
        for moment, true_ms in truth.items():
            date = boots.date(moment)
            assert (date is not None) is (moment in told or is_right)
            if date is None:
                continue
            assert told.setdefault(moment, date) == date
            at_ms, from_ms = date
            if from_ms is None:
                assert at_ms == true_ms
            else:
                assert from_ms <= true_ms <= at_ms
        known = [*known, boots.present]


def test_a_start_without_a_time_before_one_that_has_it() -> None:
    """A file may have lost what dated a start: its moments have the widest bounds, and none is
    without any."""
    known = [Boot(1, "a", BUILT_MS), Boot(2, "b", BUILT_MS, 5, TRUE_MS, is_exact=True)]
    boots = Boots(known, "b", BUILT_MS)
    assert boots.date(Moment("a", 7)) == (TRUE_MS, BUILT_MS)


def test_few_are_remembered() -> None:
    """A device that restarts for ever without ever knowing the time."""
    known: list[Boot] = []
    for number in range(MAX_BOOTS + 5):
        boots = Boots(known, f"boot {number}", BUILT_MS)
        known = [*known, boots.present][-MAX_BOOTS:]
    assert boots.oldest >= 5
