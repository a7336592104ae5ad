"""What the commands print."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.platform.fault_text import as_incident, read_fault_words, write_fault_words
from oda.platform.faults import Fault, Incident, OperationsMode, PongMode, Refusal
from oda.platform.lines import (
    device_lines,
    event_lines,
    fault_lines,
    latest_lines,
    printable,
    show_json,
    show_time,
    show_value,
)
from oda.platform.store import LatestValue

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def is_harmless(line: str) -> bool:
    """Whether no character of it is a control, a format character or a line break."""
    return all(unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in line)


@given(st.text())
def test_nothing_reaches_the_terminal_but_text(text: str) -> None:
    """Escape sequences, line breaks and marks that reorder text are shown, not done."""
    assert is_harmless(printable(text))
    if text.isascii() and text.isprintable():
        assert printable(text) == text


@given(JSON)
def test_values_take_one_line(value: Any) -> None:
    """Whatever a device sends as a value; and a long one is cut."""
    shown = show_value(value)
    assert is_harmless(shown)
    assert len(shown) <= 203
    assert all(is_harmless(line) for line in show_json(value).split("\n"))


@given(st.text(min_size=1), JSON, st.text())
def test_live_changes_are_harmless_lines(name: str, value: Any, feed: str) -> None:
    """A datastream may be called as it likes."""
    point = {"datastream": name, "feed": feed, "at": 1, "value": value}
    changes = [
        ("device", {"device": name, "connected": True}),
        ("datapoints", {"device": name, "datapoints": [point, {**point, "omitted": 5000}]}),
        ("operation", {"id": name, "device": name, "name": name, "state": "timed_out"}),
        ("unreadable", {"device": name, "message": 1, "reason": name}),
        ("fault", {"device": name}),
    ]
    for kind, data in changes:
        lines = event_lines(kind, data)
        assert lines
        assert all(map(is_harmless, lines))


def test_live_changes_in_words() -> None:
    """Who, what, and its value."""
    assert event_lines("device", {"device": "d", "connected": False}) == ["d disconnected"]
    point = {"datastream": "t", "feed": "f", "at": 1, "value": 21.5}
    (line,) = event_lines("datapoints", {"device": "d", "datapoints": [point]})
    assert line.split() == ["d", "t", "(f)", "21.5"]
    operation = {"id": "1", "device": "d", "name": "A", "state": "timed_out"}
    assert event_lines("operation", operation) == ["d  A 1: timed out"]
    assert event_lines("fault", {"device": None}) == ["the faults of all devices have changed"]
    assert event_lines("lost", {"events": 7}) == ["(missed 7 changes)"]
    assert event_lines("something new", {}) == []


def test_tables() -> None:
    """A device that is connected shows its counters, one behind another shows which."""
    connection = {"messagesIn": 5, "messagesOut": 2, "pingsIn": 1, "pongsOut": 0}
    lines = device_lines(
        [
            {"id": "dev-1", "lastSeen": 0, "via": None, "connection": connection},
            {"id": "child", "lastSeen": 0, "via": "dev-1", "connection": None},
            {"id": "old", "lastSeen": 0, "via": None, "connection": None},
        ]
    )
    assert [line.split()[:6] for line in lines[1:2]] == [["dev-1", "connected", "5", "2", "1", "0"]]
    assert lines[2].split()[:3] == ["child", "via", "dev-1"]
    assert lines[3].split()[:2] == ["old", "away"]
    words = zip(lines, ["STATE", "conn", "via", "away"], strict=True)
    assert len({line.index(word) for line, word in words}) == 1
    (_, line) = latest_lines([LatestValue("d", "t", "", 0, {"a": 1}, 0)])
    assert line.endswith('{"a": 1}')
    assert line.startswith("t ")


def test_a_time_that_is_none_is_a_number() -> None:
    """A device may date its datapoints beyond any calendar."""
    assert show_time(10**18) == f"{10**18} ms"
    assert show_time(-(2**63)) == f"{-(2**63)} ms"


def test_faults_in_words() -> None:
    """Those in force, all devices first."""
    assert fault_lines(Fault(), {"d": Fault(freeze=True)}) == [
        "all devices: no faults",
        "d: freeze",
    ]


FAULTS = st.builds(
    Fault,
    refuse=st.none() | st.sampled_from(Refusal),
    retry_after_s=st.none() | st.integers(0, 10**9),
    freeze=st.booleans(),
    slow_bytes_per_s=st.none() | st.integers(1, 10**9),
    pong=st.sampled_from(PongMode),
    pong_delay_s=st.floats(0, 10**9),
    reset=st.booleans(),
    close=st.none() | st.integers(0, 65535),
    after_messages=st.integers(0, 10**9),
    operations=st.sampled_from(OperationsMode),
)


@given(FAULTS)
def test_words_say_the_whole_fault(fault: Fault) -> None:
    """What is written for a fault reads as that fault."""
    words = write_fault_words(fault)
    if fault == Fault():
        assert words == ""
    else:
        assert read_fault_words(words.split()) == fault


@pytest.mark.parametrize(
    ("fault", "incident"),
    [
        (Fault(reset=True), Incident(reset=True)),
        (Fault(close=1011), Incident(close=1011)),
        (Fault(close=1011, close_reason="x"), Incident(close=1011, reason="x")),
        (Fault(close=1011, after_messages=1), None),
        (Fault(freeze=True), None),
        (Fault(reset=True, close=1000), None),
    ],
)
def test_what_may_happen_once(fault: Fault, incident: Incident | None) -> None:
    """A reset, or a closure with or without its reason; nothing that lasts."""
    assert as_incident(fault) == incident
