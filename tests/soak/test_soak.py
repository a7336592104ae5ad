"""A short soak: every kind of trouble follows closely on the one before, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.soak import slope_per_hour, soak


@pytest.mark.e2e
def test_nothing_is_lost(tmp_path: Path) -> None:
    """What the agent has accepted arrives, unaltered, through resets, closures, silence and the
    death of the platform; the agent's log holds no traceback."""
    outcome = soak(tmp_path, seconds=14.0, rate=300, fault_every_s=1.5)
    assert outcome.problem is None
    assert outcome.accepted > 14 * 300 * 0.8
    assert (outcome.missing, outcome.wrong) == (0, 0)
    assert len(outcome.struck) >= 3
    assert "Traceback" not in outcome.log


def test_the_slope_is_that_of_the_floor() -> None:
    """Peaks (a backlog while the platform is away) don't count; a steady rise does, in bytes per
    hour; the warm-up is left out."""
    flat = [(float(s), 100 + (50 if s % 20 < 5 else 0)) for s in range(200)]
    assert slope_per_hour(flat, 40, 20) == 0
    rising = [(float(s), 1000 + s) for s in range(200)]
    assert slope_per_hour(rising, 40, 20) == pytest.approx(3600)
    late = [(float(s), 0 if s < 40 else 500) for s in range(200)]
    assert slope_per_hour(late, 40, 20) == 0
    assert slope_per_hour(flat[:50], 40, 20) is None
