"""The search for the message over which connections end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.connector.outcome import Outcome
from oda.connector.redelivery import Suspects


def end(code: int = 1006, by_us: bool = False, was_open: bool = True) -> Outcome:
    return Outcome(reason="it ended", was_open=was_open, close_code=code, by_us=by_us)


@pytest.mark.parametrize("code", [1003, 1007, 1008, 1009])
def test_a_refusal_condemns_the_only_message_in_flight(code: int) -> None:
    """There is no doubt about which message was refused."""
    suspects = Suspects()
    assert suspects.connection_ended(end(code), [7], sent=1, proven=True) == 7
    assert not suspects.is_isolated(7)
    assert not suspects


def test_after_a_refusal_each_of_several_is_tried_alone() -> None:
    """Each message that was in flight may be the refused one; those behind it can't be."""
    suspects = Suspects()
    assert suspects.connection_ended(end(1009), [1, 2, 3], sent=3, proven=True) is None
    assert [suspects.is_isolated(row) for row in (1, 2, 3, 4)] == [True, True, True, False]
    suspects.acknowledged([1])
    assert not suspects.is_isolated(1)
    assert suspects.connection_ended(end(1009), [2], sent=2, proven=True) == 2
    assert suspects.is_isolated(3)


@pytest.mark.parametrize("code", [1006, 1011, 1002, 1005, 4000])
def test_other_ends_condemn_at_the_third_in_a_row(code: int) -> None:
    """Two ends isolate a message, the third one with nothing else in flight condemns it."""
    suspects = Suspects()
    assert suspects.connection_ended(end(code), [1, 2], sent=1, proven=True) is None
    assert not suspects.is_isolated(1)
    assert suspects.connection_ended(end(code), [1, 2], sent=1, proven=True) is None
    assert suspects.is_isolated(1)
    assert suspects.connection_ended(end(code), [1], sent=1, proven=True) == 1


def test_an_acknowledgement_starts_the_count_anew() -> None:
    """Only ends in a row count."""
    suspects = Suspects()
    for _ in range(5):
        assert suspects.connection_ended(end(), [1], sent=1, proven=True) is None
        suspects.acknowledged([1])
    assert not suspects


@pytest.mark.parametrize(
    "outcome",
    [end(1000), end(1001), end(1012), end(1013), end(by_us=True), end(1009, was_open=False)],
    ids=["normal", "going away", "restart", "try later", "by the agent", "never open"],
)
def test_ends_that_say_nothing_about_a_message_condemn_nobody(outcome: Outcome) -> None:
    """A platform that restarts, or a network that is silent, costs no message."""
    suspects = Suspects()
    for _ in range(10):
        assert suspects.connection_ended(outcome, [1], sent=1, proven=True) is None
    assert suspects.is_isolated(1) == (outcome.was_open and not outcome.by_us)


@pytest.mark.parametrize("code", [1000, 1001, 1012, 1013])
def test_ends_that_say_nothing_about_a_message_are_none_of_the_three(code: int) -> None:
    """They isolate it, but the three ends in a row that condemn a message are others."""
    suspects = Suspects()
    assert suspects.connection_ended(end(code), [1], sent=1, proven=True) is None
    assert suspects.connection_ended(end(), [1], sent=1, proven=True) is None
    assert suspects.is_isolated(1)
    assert suspects.connection_ended(end(), [1], sent=1, proven=True) is None
    assert suspects.connection_ended(end(code), [1], sent=1, proven=True) is None
    assert suspects.connection_ended(end(), [1], sent=1, proven=True) == 1
    assert suspects.connection_ended(end(), [1], sent=1, proven=True) is None, "counted anew"


def test_a_connection_that_never_worked_condemns_nobody() -> None:
    """A platform that throws the device out at once does so whatever is sent."""
    suspects = Suspects()
    for _ in range(10):
        assert suspects.connection_ended(end(1008), [1], sent=1, proven=False) is None
    assert suspects.is_isolated(1)


@pytest.mark.parametrize("code", [1006, 1008, 1011])
def test_the_last_of_many_is_not_the_culprit(code: int) -> None:
    """A platform that ends each connection after its tenth message has nothing against that one."""
    suspects = Suspects()
    for _ in range(10):
        assert suspects.connection_ended(end(code), [9], sent=10, proven=True) is None
    assert suspects.is_isolated(9)
    assert suspects.connection_ended(end(code), [9], sent=1, proven=True) == 9


def test_a_message_outside_the_outbox_may_be_the_culprit() -> None:
    """With it in flight nobody else is alone; and it can't be set aside."""
    suspects = Suspects()
    for _ in range(10):
        assert suspects.connection_ended(end(1009), [1, None], sent=1, proven=True) is None
        assert suspects.connection_ended(end(1009), [None], sent=1, proven=True) is None


def test_a_policy_is_not_enforced_on_one_message_after_the_other() -> None:
    """1008 may mean the device: the second message in a row needs the full count."""
    suspects = Suspects()
    assert suspects.connection_ended(end(1008), [1], sent=1, proven=True) == 1
    assert suspects.connection_ended(end(1008), [2], sent=1, proven=True) is None
    assert suspects.connection_ended(end(1008), [2], sent=1, proven=True) == 2
    suspects = Suspects()
    assert suspects.connection_ended(end(1008), [1], sent=1, proven=True) == 1
    suspects.acknowledged([5])
    assert suspects.connection_ended(end(1008), [2], sent=1, proven=True) == 2


def test_a_culprit_explains_the_ends_that_others_have_shared_with_it() -> None:
    """A message that was behind the culprit is sent alone, and begins anew: one more end, which
    says nothing about it, does not condemn it."""
    suspects = Suspects()
    assert suspects.connection_ended(end(1007), [1, 2], sent=2, proven=True) is None
    assert suspects.connection_ended(end(1007), [1], sent=1, proven=True) == 1
    assert suspects.is_isolated(2)
    for _ in range(2):
        assert suspects.connection_ended(end(1011), [2], sent=1, proven=True) is None
    assert suspects.connection_ended(end(1011), [2], sent=1, proven=True) == 2


def test_a_refusal_of_several_is_one_end_for_each() -> None:
    """Which of them was meant is not known: it isolates all, and takes two more ends otherwise."""
    suspects = Suspects()
    assert suspects.connection_ended(end(1008), [1, 2], sent=2, proven=True) is None
    assert suspects.is_isolated(1)
    assert suspects.connection_ended(end(1011), [1], sent=1, proven=True) is None
    assert suspects.connection_ended(end(1011), [1], sent=1, proven=True) == 1


def test_suspects_that_never_come_back_are_forgotten() -> None:
    """Rows that were dropped meanwhile leave nothing behind for ever."""
    suspects = Suspects()
    for row in range(0, 100_000, 100):
        suspects.connection_ended(end(1009), list(range(row, row + 100)), sent=1, proven=True)
    assert not suspects.is_isolated(0)
    assert sum(suspects.is_isolated(row) for row in range(100_000)) <= 4096


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1000, 1001, 1006, 1008, 1009, 1011, 1012]),
            st.lists(st.integers(0, 5), unique=True, max_size=4),
            st.integers(4, 6) | st.just(1),
            st.booleans(),
            st.lists(st.integers(0, 5), max_size=2),
        )
    )
)
def test_only_a_message_that_was_alone_is_ever_condemned(
    ends: list[tuple[int, list[int], int, bool, list[int]]],
) -> None:
    """Whatever happens: nobody is set aside who was not alone on a connection that worked, and
    none without a refusal or three ends since the last acknowledgement."""
    suspects = Suspects()
    counts: dict[int, int] = {}
    for code, rows, sent, proven, acknowledged in ends:
        suspects.acknowledged(acknowledged)
        for row in acknowledged:
            counts.pop(row, None)
        if rows:
            for row in rows:
                counts[row] = counts.get(row, 0) + (10 if code in (1008, 1009) else 1)
        culprit = suspects.connection_ended(end(code), rows, sent, proven)
        if culprit is not None:
            assert code not in (1000, 1001, 1012)
            assert rows == [culprit]
            assert proven
            assert sent == 1 or code == 1009
            assert counts.pop(culprit) >= 3
