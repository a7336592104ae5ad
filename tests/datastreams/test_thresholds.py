"""The status texts of numbers."""

from __future__ import annotations

import pytest

from oda.datastreams.thresholds import cpu_status, temperature_status


@pytest.mark.parametrize(
    ("usage", "status"),
    [
        (0, "IDLE"),
        (4.9, "IDLE"),
        (5, "IDLE/WORKING"),
        (19.9, "IDLE/WORKING"),
        (20, "WORKING"),
        (59.9, "WORKING"),
        (60, "STRESSED"),
        (79.9, "STRESSED"),
        (80, "OVERLOAD"),
        (100, "OVERLOAD"),
    ],
)
def test_cpu_status(usage: float, status: str) -> None:
    """Each status holds below its limit; the limit itself belongs to the next."""
    assert cpu_status(usage) == status


@pytest.mark.parametrize(
    ("celsius", "status"),
    [
        (-60, "LOW_CRITICAL"),
        (-50, "LOW_CRITICAL"),
        (-49.9, "LOW_WARNING"),
        (-25, "LOW_WARNING"),
        (-24.9, "NORMAL"),
        (24.9, "NORMAL"),
        (25, "HIGH_WARNING"),
        (49.9, "HIGH_WARNING"),
        (50, "HIGH_CRITICAL"),
    ],
)
def test_temperature_status(celsius: float, status: str) -> None:
    """The limits belong to the status that is further from normal."""
    assert temperature_status(celsius) == status
