"""Operations by script: what the script gets, what becomes of what it says, and its limits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from oda.interfaces import IOperation, IScriptRunner
from oda.operations.script_operation import MAX_PARTIAL_ANSWERS, ScriptOperation
from oda.settings import ScriptOperationSettings

from .fake_scripts import FakeRunner
from .fakes import Bench, request

STEP = b'{"name":"S1","result":"SUCCESSFUL"}\n'


class Water:
    """WATER, carried out by a script."""

    def __init__(self, **more: Any) -> None:
        self.runner = FakeRunner()
        settings = ScriptOperationSettings(name="WATER", command="water.sh -x", **more)
        self.operation = ScriptOperation(settings, self.runner, lambda: "dev-1")
        self.bench = Bench(self.operation)

    def ask(self, **members: Any) -> list[bytes | None]:
        return self.bench.send(request(**{"name": "WATER", **members}))

    def response(self, answers: list[bytes | None]) -> dict[str, Any]:
        (payload,) = answers
        response: dict[str, Any] = self.bench.decoded(payload)["operation"]["response"]
        return response


def test_it_is_an_operation_that_acts() -> None:
    """So it is on record before it runs, and never runs twice."""
    water = Water()
    assert verifyObject(IOperation, water.operation)
    assert verifyObject(IScriptRunner, water.runner)
    first = water.ask()
    assert water.ask() == [None]
    assert len(water.runner.scripts) == 1
    water.runner.scripts[0].end()
    assert water.ask() == first
    assert len(water.runner.scripts) == 1


@pytest.mark.parametrize(
    "parameters",
    [
        {"litres": 5},
        [{"name": "litres", "value": {"number": 5}}],
    ],
)
def test_parameters_of_both_dialects_reach_the_script(parameters: Any) -> None:
    """As a variable and as JSON; never as a word of the command."""
    water = Water()
    water.ask(parameters=parameters)
    (script,) = water.runner.scripts
    assert script.command == "water.sh -x"
    assert script.variables["ODA_PARAM_LITRES"] == "5"
    assert json.loads(script.stdin)["parameters"] == {"litres": 5}
    assert not script.survives


def test_its_steps_are_partial_answers_while_it_runs() -> None:
    """One for each piece that has steps; the final answer has them all."""
    water = Water()
    answers = water.ask()
    (script,) = water.runner.scripts
    script.write(STEP + STEP[:5])
    script.write(STEP[5:] + b"a text\n")
    assert answers == []
    assert [len(partial_steps(water, at)) for at in range(len(water.bench.partials))] == [1, 2]
    script.end()
    response = water.response(answers)
    assert response["resultCode"] == "SUCCESSFUL"
    assert response["resultDescription"] == "a text"
    assert [step["name"] for step in response["steps"]] == ["S1", "S1"]


def partial_steps(water: Water, at: int) -> list[Any]:
    document = water.bench.decoded(water.bench.partials[at][0])
    steps: list[Any] = document["operation"]["response"]["steps"]
    return steps


def test_a_flood_of_steps_does_not_become_a_flood_of_answers() -> None:
    """Each partial answer repeats all steps: so many are sent, and the final one has them all."""
    water = Water()
    answers = water.ask()
    (script,) = water.runner.scripts
    for _ in range(MAX_PARTIAL_ANSWERS + 50):
        script.write(STEP)
    script.end()
    assert len(water.bench.partials) == MAX_PARTIAL_ANSWERS
    assert len(water.response(answers)["steps"]) == MAX_PARTIAL_ANSWERS + 50


def test_steps_that_can_not_be_sent_do_not_end_it() -> None:
    """The final answer says what is wrong."""
    water = Water()
    answers = water.ask()
    (script,) = water.runner.scripts
    water.bench.max_answer_bytes = 400
    script.write(b'{"name":"S","result":"ERROR","description":"' + b"x" * 500 + b'"}\n')
    script.end()
    assert water.bench.partials == []
    assert "can't be sent" in water.response(answers)["resultDescription"]


def test_a_script_that_could_not_run_or_was_killed() -> None:
    """The reason is the answer, with the steps that were told."""
    water = Water()
    answers = water.ask()
    (script,) = water.runner.scripts
    script.write(STEP)
    script.fail("the script did not end within 60 s")
    response = water.response(answers)
    assert response["resultCode"] == "ERROR_PROCESSING"
    assert response["resultDescription"] == "the script did not end within 60 s"
    assert [step["name"] for step in response["steps"]] == ["S1"]


def test_the_time_limit_of_operations_ends_the_script() -> None:
    """And so does the end of the agent."""
    water = Water()
    first, second = water.ask(), water.ask(id="2")
    water.bench.clock.advance(80)
    assert [script.was_cancelled for script in water.runner.scripts] == [True, True]
    assert water.response(first)["resultDescription"] == "time limit of 80 s exceeded"
    assert len(second) == 1
    third = water.ask(id="3")
    water.bench.dispatcher.stop()
    assert water.runner.scripts[2].was_cancelled
    assert water.response(third)["resultDescription"] == "the agent is stopping"


def test_parameters_that_no_script_can_get_are_refused() -> None:
    """Before anything runs, and with the name of the parameter."""
    water = Water()
    response = water.response(water.ask(parameters={"a": "x\0y"}))
    assert response["resultCode"] == "ERROR_IN_PARAM"
    assert response["resultDescription"].startswith("a: ")
    assert water.runner.scripts == []


def test_a_request_for_another_device_is_refused_without_the_option() -> None:
    """The script would act on the wrong device; the refusal names the option."""
    water = Water()
    response = water.response(water.ask(deviceId="child"))
    assert response["resultCode"] == "NOT_SUPPORTED"
    assert (
        "DEVICES in its line of es.amplia.oda.operations.scripts.cfg"
        in (response["resultDescription"])
    )
    assert water.runner.scripts == []
    serving = Water(serves_devices=True)
    serving.ask(deviceId="child")
    assert serving.runner.scripts[0].variables["ODA_DEVICE_ID"] == "child"


def test_the_host_has_its_id_in_the_variable() -> None:
    """Whether the request names it or not."""
    water = Water()
    water.ask()
    water.ask(id="2", deviceId="dev-1")
    assert [one.variables["ODA_DEVICE_ID"] for one in water.runner.scripts] == ["dev-1"] * 2
