"""Scenarios: the text, and the run on a clock."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.task import Clock

from oda.errors import ConfigurationError
from oda.platform.faults import NORMAL, Fault, FaultBoard, Incident, PongMode
from oda.platform.scenario import ScenarioStep, parse_scenario
from oda.platform.scenario_runner import ScenarioRunner


def step(**members: Any) -> ScenarioStep:
    return ScenarioStep(**{"device": None, "first_s": 1.0, **members})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at 10s freeze 30s", step(first_s=10.0, fault=Fault(freeze=True), stays_s=30.0)),
        ("every 60s reset", step(first_s=60.0, every_s=60.0, incident=Incident(reset=True))),
        ("at 500ms close=1013", step(first_s=0.5, incident=Incident(close=1013))),
        ("at 2m reset 1h", step(first_s=120.0, fault=Fault(reset=True), stays_s=3600.0)),
        ("at 1s close=1000 afterMessages=2", step(fault=Fault(close=1000, after_messages=2))),
        ("on d%201 at 1s pong=drop", step(device="d 1", fault=Fault(pong=PongMode.DROP))),
        ("at 1s clear", step()),
        (
            "every 1.5s jitter 200ms freeze 1s",
            step(first_s=1.5, every_s=1.5, jitter_s=0.2, fault=Fault(freeze=True), stays_s=1.0),
        ),
    ],
)
def test_steps(text: str, expected: ScenarioStep) -> None:
    """Each form of a step means what the documentation says."""
    assert parse_scenario(text, "f") == [expected]


def test_lines_semicolons_and_comments() -> None:
    """Steps are separated by line breaks or semicolons; comments and empty lines are nothing."""
    text = "# first\nat 1s freeze; at 2s clear # then\n\n;every 60s reset\n"
    assert [one.first_s for one in parse_scenario(text, "f")] == [1.0, 2.0, 60.0]


def test_all_mistakes_are_named() -> None:
    """Each mistake is told with its line and the word that is wrong."""
    text = (
        "at 10 freeze\nsometimes reset\nat 1s frieze\nevery 0s reset\nat 1s clear 5s\non d\nat 1s"
    )
    with pytest.raises(ConfigurationError) as error:
        parse_scenario(text, "chaos.txt")
    assert [(fault.line, fault.key) for fault in error.value.faults] == [
        (1, "10"),
        (2, "sometimes"),
        (3, "frieze"),
        (4, "every"),
        (5, "clear"),
        (6, "step"),
        (7, "fault"),
    ]
    assert "chaos.txt:3: frieze: unknown" in str(error.value)


class Stage:
    """A scenario on a clock, with what it did."""

    def __init__(self, text: str, seed: int = 0) -> None:
        self.clock = Clock()
        self.board = FaultBoard()
        self.strikes: list[tuple[float, str | None]] = []
        self.runner = ScenarioRunner(
            self.clock,
            parse_scenario(text, "f"),
            self.board,
            lambda device, incident: self.strikes.append((self.clock.seconds(), device)),
            Random(seed),
        )
        self.runner.start()


def test_a_fault_comes_and_goes() -> None:
    """It is in force from its time for its duration, besides what is set otherwise."""
    stage = Stage("at 10s freeze 30s")
    stage.board.set(None, Fault(pong=PongMode.DROP))
    stage.clock.advance(9.9)
    assert stage.board.get(None) == Fault(pong=PongMode.DROP)
    stage.clock.advance(0.1)
    assert stage.board.get(None) == Fault(pong=PongMode.DROP, freeze=True)
    stage.clock.advance(29.9)
    assert stage.board.get(None).freeze
    stage.clock.advance(0.2)
    assert stage.board.get(None) == Fault(pong=PongMode.DROP)
    assert stage.clock.getDelayedCalls() == []


def test_incidents_repeat_without_drift() -> None:
    """``every`` counts from the start, however late each turn was."""
    stage = Stage("on d every 60s reset")
    for _ in range(5):
        stage.clock.advance(45)
    assert stage.strikes == [(90.0, "d"), (135.0, "d"), (180.0, "d")]


def test_jitter_stays_within_its_bounds_and_repeats_with_the_seed() -> None:
    """Turns come within the jitter of their time; the same seed gives the same times."""
    text = "every 10s jitter 2s reset"
    one, same, other = Stage(text, 1), Stage(text, 1), Stage(text, 2)
    for stage in (one, same, other):
        stage.clock.pump([0.01] * 10_000)
    assert one.strikes == same.strikes != other.strikes
    for turn, (at_s, _) in enumerate(one.strikes, 1):
        assert abs(at_s - 10 * turn) <= 2.02


def test_clear_and_stop() -> None:
    """``clear`` ends what is in force; after ``stop`` nothing happens any more."""
    stage = Stage("at 1s freeze; at 2s clear; every 1s reset")
    stage.clock.advance(1)
    assert stage.board.get(None) == Fault(freeze=True)
    stage.clock.advance(1)
    assert stage.board.get(None) == NORMAL
    stage.runner.stop()
    assert stage.clock.getDelayedCalls() == []
