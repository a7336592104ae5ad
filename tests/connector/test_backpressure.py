"""The account of requests that were read and are not answered yet."""

from __future__ import annotations

from typing import Any, cast

import pytest

from oda.connector.backpressure import Intake

KIB = 1024
#: So much may be open at once in an outbox of 8 MiB, and at most in any.
BOUND = 512 * KIB


class Outbox:
    """What the account asks of an outbox."""

    waiting_bytes = 0

    def answer_bytes(self) -> int:
        """So much waits."""
        return self.waiting_bytes


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def intake(outbox: Outbox) -> Intake:
    return Intake(cast(Any, outbox), 16 * BOUND)


def test_it_is_full_from_a_sixteenth_of_the_outbox_on(intake: Intake) -> None:
    """One byte less leaves room."""
    intake.began(BOUND - 1)
    assert not intake.is_full
    intake.began(1)
    assert intake.is_full
    assert intake.is_open_full
    intake.concluded(1)
    assert not intake.is_full


def test_it_is_full_while_answers_fill_a_quarter_of_the_outbox(
    intake: Intake, outbox: Outbox
) -> None:
    """Also when nothing is open: then those who ask are not to blame."""
    outbox.waiting_bytes = 4 * BOUND - 1
    assert not intake.is_full
    outbox.waiting_bytes += 1
    assert intake.is_full
    assert not intake.is_open_full


def test_what_is_forgiven_is_forgiven_once(intake: Intake) -> None:
    """Requests that nobody answered make room for others. When they are answered after all, they
    are out of the account, and the others count as always."""
    intake.began(BOUND)
    intake.forgive()
    assert not intake.is_full
    intake.began(BOUND - 1)
    assert not intake.is_full
    intake.concluded(BOUND)
    intake.concluded(BOUND - 1)
    intake.began(BOUND)
    assert intake.is_full


def test_what_was_not_forgiven_counts(intake: Intake) -> None:
    """Only what was open at that moment is forgiven."""
    intake.began(BOUND)
    intake.forgive()
    intake.began(BOUND)
    assert intake.is_full
