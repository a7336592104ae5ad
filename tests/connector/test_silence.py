"""What is learnt from connections that die in silence."""

from __future__ import annotations

import pytest
from twisted.logger import capturedLogs

from oda.connector.peer import FLOOR_S, Silence


def test_two_deaths_after_the_same_silence_are_a_limit() -> None:
    """From then on a ping goes out twice as often, and the log says so once."""
    silence = Silence()
    with capturedLogs() as logs:
        silence.ended(61.0, 180.0)
        assert silence.interval_s(180.0) == 180.0
        silence.ended(60.0, 180.0)
        assert silence.interval_s(180.0) == 30.0
        silence.ended(60.0, 180.0)
        silence.ended(60.0, 180.0)
    assert silence.interval_s(180.0) == 30.0
    assert len(logs) == 1


def test_who_dies_without_a_word_is_found_in_steps() -> None:
    """All that is known is the time of the ping that nobody answered; the floor is the end."""
    silence = Silence()
    found = []
    for _ in range(12):
        silence.ended(silence.interval_s(180.0), 180.0)
        found.append(silence.interval_s(180.0))
    assert found[:6] == [180.0, 90.0, 90.0, 45.0, 45.0, 22.5]
    assert found[-1] == FLOOR_S


@pytest.mark.parametrize("between", [None, 0.0, 19.0, 120.0])
def test_other_ends_in_between_break_the_row(between: float | None) -> None:
    """A busy connection, a close frame, or another length of silence says nothing."""
    silence = Silence()
    for _ in range(5):
        silence.ended(60.0, 180.0)
        silence.ended(between, 180.0)
    assert silence.interval_s(180.0) == 180.0


def test_the_configured_interval_is_the_upper_limit() -> None:
    """A setting that is shorter than what was learnt holds."""
    silence = Silence()
    for _ in range(2):
        silence.ended(60.0, 180.0)
    assert silence.interval_s(10.0) == 10.0
    assert silence.interval_s(100.0) == 30.0
