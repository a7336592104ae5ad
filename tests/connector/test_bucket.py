"""A token bucket: never more than its rate over time, and no waiting without need."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.connector.rate_limit import TokenBucket


def test_it_starts_full_and_fills_at_its_rate() -> None:
    """A burst at once, then one token every 1/rate seconds, never more than the burst."""
    bucket = TokenBucket(rate_per_s=10, burst=3)
    assert bucket.available(100.0) == 3
    bucket.spend(3)
    assert bucket.available(100.0) == 0
    assert bucket.wait_s(100.0) == pytest.approx(0.1)
    assert bucket.available(100.1) == 1
    assert bucket.available(500.0) == 3


def test_what_is_owed_has_to_come_first() -> None:
    """Tokens spent beyond what was there lengthen the wait."""
    bucket = TokenBucket(rate_per_s=2, burst=1)
    bucket.available(0.0)
    bucket.spend(3)
    assert bucket.wait_s(0.0) == pytest.approx(1.5)


@given(
    st.floats(0.5, 1000),
    st.integers(1, 50),
    st.lists(st.floats(0, 5), min_size=1, max_size=60),
)
def test_the_rate_is_kept_and_the_wait_is_enough(
    rate: float, burst: int, pauses: list[float]
) -> None:
    """Whoever takes all there is, whenever, gets at most burst + rate x time; and after the wait
    that was named there is a token."""
    bucket = TokenBucket(rate, burst)
    now_s, taken = 50.0, 0
    for pause_s in pauses:
        now_s += pause_s
        tokens = bucket.available(now_s)
        bucket.spend(tokens)
        taken += tokens
        wait_s = bucket.wait_s(now_s)
        assert 0 <= wait_s <= 1 / rate + 1e-6
        now_s += wait_s
        assert bucket.available(now_s) >= 1
    assert taken <= burst + rate * (now_s - 50.0) + 1e-3
