"""The recorded requests get the recorded answers, in every format and dialect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oda.model import ContentType

from .fakes import NOW_MS, Bench, custom_operations

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "operations.json").read_text("utf-8")
)
WITH_PARAMETERS = [v for v in VECTORS if v["request"]["operation"]["request"]["parameters"]]


def in_list_dialect(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """The older spelling of ``parameters`` (OpenGate protocol, "Operation request")."""
    return [{"name": name, "value": wrapped(value)} for name, value in parameters.items()]


def wrapped(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {"array": [with_long_names(entry) for entry in value]}
    kind = {dict: "object", str: "string", int: "number"}[type(value)]
    return {kind: value}


def with_long_names(entry: Any) -> Any:
    if isinstance(entry, dict) and entry.keys() == {"name", "value"}:
        return {"variableName": entry["name"], "variableValue": entry["value"]}
    return entry


def comparable(answer: dict[str, Any]) -> dict[str, Any]:
    """The order of the entries of a step's ``response`` means nothing."""
    for step in answer["operation"]["response"]["steps"]:
        if "response" in step:
            step["response"] = sorted(json.dumps(e, sort_keys=True) for e in step["response"])
    return answer


def expected(vector: dict[str, Any]) -> dict[str, Any]:
    return comparable(json.loads(json.dumps(vector["response"])))


@pytest.mark.parametrize("content_type", list(ContentType), ids=lambda c: c.name)
@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_recorded_request_gets_recorded_answer(
    vector: dict[str, Any], content_type: ContentType
) -> None:
    """The answer equals the recorded one as a JSON value, in the format of its request."""
    bench = Bench(*custom_operations())
    assert comparable(bench.answer(vector["request"], content_type)) == expected(vector)


@pytest.mark.parametrize("content_type", list(ContentType), ids=lambda c: c.name)
@pytest.mark.parametrize("vector", WITH_PARAMETERS, ids=lambda v: v["name"])
def test_list_dialect_gets_the_same_answer(
    vector: dict[str, Any], content_type: ContentType
) -> None:
    """Both dialects of ``parameters`` mean the same."""
    request = dict(vector["request"]["operation"]["request"])
    request["parameters"] = in_list_dialect(request["parameters"])
    bench = Bench(*custom_operations())
    answer = bench.answer({"operation": {"request": request}}, content_type)
    assert comparable(answer) == expected(vector)


@pytest.mark.parametrize("nothing", [None, [], {}], ids=repr)
@pytest.mark.parametrize(
    "vector", [v for v in VECTORS if v not in WITH_PARAMETERS], ids=lambda v: v["name"]
)
def test_no_parameters_can_be_said_in_several_ways(vector: dict[str, Any], nothing: object) -> None:
    """null, ``[]`` and ``{}`` are no parameters."""
    request = {**vector["request"]["operation"]["request"], "parameters": nothing}
    bench = Bench(*custom_operations())
    answer = bench.answer({"operation": {"request": request}})
    assert comparable(answer) == expected(vector)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_members_have_the_order_of_the_protocol(vector: dict[str, Any]) -> None:
    """The members of an answer come in the recorded order, also those of its steps."""
    bench = Bench(*custom_operations())
    ours = bench.answer(vector["request"])["operation"]["response"]
    theirs = vector["response"]["operation"]["response"]
    assert list(ours) == list(theirs)
    for our_step, their_step in zip(ours["steps"], theirs["steps"], strict=True):
        assert list(our_step) == list(their_step)
        our_entries = {json.dumps(e) for e in our_step.get("response", [])}
        assert our_entries == {json.dumps(e) for e in their_step.get("response", [])}


def test_all_vectors_on_one_agent() -> None:
    """Some recorded ids were used for two operations: that is no repetition, and both run."""
    bench = Bench(*custom_operations())
    for vector in VECTORS:
        assert comparable(bench.answer(vector["request"])) == expected(vector), vector["name"]


def test_clock_is_set_to_the_instant_the_parameters_name() -> None:
    """2024-02-03 04:05:06 at UTC+1 with one hour of daylight saving is 02:05:06 UTC."""
    bench = Bench()
    vector = next(v for v in VECTORS if v["name"].startswith("SET_CLOCK with datetime"))
    bench.answer(vector["request"])
    assert bench.state.sets == [("", [("device.clock", 1_706_925_906_000)])]


_MOMENT = {"date": "2024-02-03", "time": "04:05:06", "timezone": 0, "dst": 0}
_MOMENT_MS = 1_706_933_106_000
_SOURCE = "ntp://good"


@pytest.mark.parametrize("content_type", list(ContentType), ids=lambda c: c.name)
@pytest.mark.parametrize(
    ("name", "parameters", "set_ms"),
    [
        ("SET_CLOCK_EQUIPMENT", {"datetime": _MOMENT}, _MOMENT_MS),
        ("SET_CLOCK_EQUIPMENT", in_list_dialect({"datetime": _MOMENT}), _MOMENT_MS),
        ("SET_CLOCK_EQUIPMENT", _MOMENT, _MOMENT_MS),
        ("SET_CLOCK_EQUIPMENT", in_list_dialect(_MOMENT), _MOMENT_MS),
        ("SET_CLOCK_EQUIPMENT", [], NOW_MS),
        ("SYNCHRONIZE_CLOCK", [], NOW_MS),
        ("SYNCHRONIZE_CLOCK", {"source": _SOURCE}, NOW_MS + 5),
        ("SYNCHRONIZE_CLOCK", in_list_dialect({"source": _SOURCE}), NOW_MS + 5),
        (
            "SYNCHRONIZE_CLOCK",
            {"variableList": [{"name": "source", "value": _SOURCE}]},
            NOW_MS + 5,
        ),
        (
            "SYNCHRONIZE_CLOCK",
            in_list_dialect({"variableList": [{"name": "source", "value": _SOURCE}]}),
            NOW_MS + 5,
        ),
    ],
)
def test_clock_operations_in_every_form(
    name: str, parameters: Any, set_ms: int, content_type: ContentType
) -> None:
    """Flat or wrapped, in both dialects and every format: the same time is set, and the answer is
    the recorded one of SET_CLOCK_EQUIPMENT."""
    bench = Bench()
    vector = next(v for v in VECTORS if v["name"].startswith("SET_CLOCK with datetime"))
    request = {
        **vector["request"]["operation"]["request"],
        "name": name,
        "parameters": parameters,
    }
    answer = bench.answer({"operation": {"request": request}}, content_type)
    recorded = json.dumps(vector["response"]).replace("SET_CLOCK_EQUIPMENT", name)
    assert comparable(answer) == comparable(json.loads(recorded))
    assert bench.state.sets == [("", [("device.clock", set_ms)])]
