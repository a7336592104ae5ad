"""When acknowledged messages are sent again."""

from __future__ import annotations

import pytest

from oda.connector.outcome import Outcome
from oda.connector.redelivery import MAX_IN_VAIN, ReplayRule
from oda.model import MessageClass

RESPONSE, TELEMETRY = MessageClass.RESPONSE, MessageClass.TELEMETRY
CRASH = Outcome(reason="gone", was_open=True, close_code=1006)
NORMAL = Outcome(reason="closed", was_open=True, close_code=1000)


def test_as_long_as_something_new_is_acknowledged() -> None:
    """Each end by which the platform may have lost something is followed by a repetition."""
    rule = ReplayRule()
    for row in range(100):
        assert rule.connection_ended(CRASH, {TELEMETRY: row}, False)


def test_repeating_in_vain_ends() -> None:
    """A platform that ends every connection before it has come to something new gets it at last;
    then everything begins anew."""
    rule = ReplayRule()
    for highest in (50, 60):
        assert rule.connection_ended(CRASH, {TELEMETRY: highest}, False)
        for _ in range(MAX_IN_VAIN - 1):
            assert rule.connection_ended(CRASH, {TELEMETRY: 40}, False)
        for _ in range(5):
            assert not rule.connection_ended(CRASH, {TELEMETRY: 40}, False)


def test_a_connection_without_acknowledgements_does_not_count() -> None:
    """Nothing was repeated on it."""
    rule = ReplayRule()
    rule.connection_ended(CRASH, {TELEMETRY: 50}, False)
    for _ in range(10 * MAX_IN_VAIN):
        assert rule.connection_ended(CRASH, {}, False)


def test_the_classes_count_each_by_itself() -> None:
    """A response overtakes telemetry: its number says nothing about that."""
    rule = ReplayRule()
    assert rule.connection_ended(CRASH, {RESPONSE: 1000}, False)
    for row in range(20):
        assert rule.connection_ended(CRASH, {TELEMETRY: row}, False)


def test_after_the_culprit_everything_is_repeated() -> None:
    """The platform has crashed over it, and may have lost what it had read."""
    rule = ReplayRule()
    for _ in range(10):
        rule.connection_ended(CRASH, {TELEMETRY: 50}, False)
    assert rule.connection_ended(CRASH, {TELEMETRY: 50}, True)


@pytest.mark.parametrize("outcome", [NORMAL], ids=["normal"])
def test_no_other_end_leads_to_a_repetition(outcome: Outcome) -> None:
    """As ``Outcome.replay`` says."""
    assert not ReplayRule().connection_ended(outcome, {TELEMETRY: 1}, False)
