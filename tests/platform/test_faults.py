"""Faults as data and as words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.platform.fault_text import read_fault_words, split_target
from oda.platform.faults import (
    MEMBERS,
    NORMAL,
    Fault,
    FaultBoard,
    OperationsMode,
    PongMode,
    Refusal,
    merge,
    read_fault,
    write_fault,
)
from oda.platform.mangling import damage, kinds_of_damage
from oda.platform.naming import wire_name
from oda.platform.scenario import without
from oda.platform.wire import WrongParameter

NUMBERS = st.integers(1, 1000)
FAULTS = st.builds(
    Fault,
    refuse=st.none() | st.sampled_from(Refusal),
    retry_after_s=st.none() | NUMBERS,
    freeze=st.booleans(),
    slow_bytes_per_s=st.none() | NUMBERS,
    pong=st.sampled_from(PongMode),
    pong_delay_s=st.sampled_from([0.5, 1.0, 2.0]),
    terminate_after_pings=st.none() | NUMBERS,
    close_above_bytes=st.none() | NUMBERS,
    reset=st.booleans(),
    close=st.none() | NUMBERS,
    close_reason=st.sampled_from(["", "x"]),
    after_messages=st.integers(0, 5),
    operations=st.sampled_from(OperationsMode),
)


@given(FAULTS)
def test_a_fault_survives_json(fault: Fault) -> None:
    """What is written is read again, and normal members are left out."""
    assert read_fault(write_fault(fault)) == fault
    assert write_fault(NORMAL) == {}


@given(FAULTS, FAULTS)
def test_a_special_fault_lies_over_the_general_one(general: Fault, special: Fault) -> None:
    """Members that the special fault changes win, the others are the general fault's."""
    merged = write_fault(merge(general, special))
    assert merged == {**write_fault(general), **write_fault(special)}


@given(FAULTS, FAULTS)
def test_a_fault_can_be_taken_away(fault: Fault, ended: Fault) -> None:
    """After ``without`` none of the ended members is left, and all the others are."""
    left = write_fault(without(fault, ended))
    assert not set(left) & set(write_fault(ended))
    assert {**write_fault(fault), **left} == write_fault(fault)
    assert set(left) | set(write_fault(ended)) >= set(write_fault(fault))


def test_the_board_tells_who_is_concerned() -> None:
    """Subscribers hear which device changed; clearing restores the general fault."""
    board = FaultBoard(Fault(freeze=True))
    heard: list[str | None] = []
    board.subscribe(heard.append)
    board.set("d", Fault(close=1000))
    assert board.effective("d") == Fault(freeze=True, close=1000)
    assert board.effective("e") == Fault(freeze=True)
    assert board.devices() == {"d": Fault(close=1000)}
    board.clear("d")
    assert board.effective("d") == Fault(freeze=True)
    assert board.devices() == {}
    board.clear(None)
    assert board.effective("d") == NORMAL
    assert heard == ["d", "d", None]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("freeze", Fault(freeze=True)),
        ("refuse=429 retryAfter=5", Fault(refuse=Refusal.TOO_MANY_REQUESTS, retry_after_s=5)),
        ("pong=late pongDelay=2.5", Fault(pong=PongMode.LATE, pong_delay_s=2.5)),
        ("slow=100", Fault(slow_bytes_per_s=100)),
        ("close=1012 afterMessages=3", Fault(close=1012, after_messages=3)),
        (
            "closeReason=x operations=reorder",
            Fault(close_reason="x", operations=OperationsMode.REORDER),
        ),
        ("terminateAfterPings=60", Fault(terminate_after_pings=60)),
        ("closeAboveBytes=9 reset", Fault(close_above_bytes=9, reset=True)),
    ],
)
def test_faults_as_words(words: str, fault: Fault) -> None:
    """The members are called as in JSON; switches need no value."""
    assert read_fault_words(words.split()) == fault


def test_every_member_can_be_said_in_words() -> None:
    """No member of a fault is missing from the words."""
    said = {
        "refuse": "404", "retryAfter": "1", "slow": "1", "pong": "drop", "pongDelay": "1",
        "terminateAfterPings": "1", "closeAboveBytes": "1", "close": "1000", "closeReason": "x",
        "afterMessages": "1", "operations": "duplicate",
    }  # fmt: skip
    for name in MEMBERS:
        read_fault_words([f"{name}={said[name]}" if name in said else name])


@pytest.mark.parametrize(
    ("words", "parameter"),
    [
        ("", "fault"),
        ("frieze", "frieze"),
        ("freeze=1", "freeze"),
        ("freeze freeze", "freeze"),
        ("close", "close"),
        ("close=x", "close"),
        ("close=-1", "close"),
        ("pong=maybe", "pong"),
        ("pongDelay=x", "pongDelay"),
        ("pongDelay=nan", "pongDelay"),
        ("refuse=500", "refuse"),
    ],
)
def test_mistakes_in_words_are_named(words: str, parameter: str) -> None:
    """What is wrong is said with the member's name."""
    with pytest.raises(WrongParameter) as error:
        read_fault_words(words.split())
    assert error.value.parameter == parameter


def test_the_target_of_words() -> None:
    """``on <device>`` names a device, percent-encoded where needed."""
    assert split_target(["on", "a%20b", "freeze"]) == ("a b", ["freeze"])
    assert split_target(["freeze"]) == (None, ["freeze"])
    with pytest.raises(WrongParameter, match="on"):
        split_target(["on"])


def test_damage_is_always_damage_and_repeats() -> None:
    """No kind of damage leaves the request as it was, and no two are the same."""
    good = b'{"operation":{"request":{"id":"1","name":"A"}}}'
    kinds = [damage(good, number) for number in range(kinds_of_damage())]
    assert good not in kinds
    assert len(set(kinds)) == len(kinds)
    assert damage(good, kinds_of_damage()) == kinds[0]


@pytest.mark.parametrize(
    ("field", "name"),
    [("at_ms", "at"), ("first_seen_ms", "firstSeen"), ("is_text", "text"), ("timeout_s", "timeout"),
     ("messages_in", "messagesIn"), ("id", "id")],
)  # fmt: skip
def test_names_outside(field: str, name: str) -> None:
    """camelCase, without unit and without is_."""
    assert wire_name(field) == name
