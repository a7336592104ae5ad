"""What the five operations do beyond the recorded cases."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from oda.errors import ReadingFailed

from .fakes import NOW_MS, READ_AT_MS, Bench, FakeTimeSource, Stored, request

SUCCESS = {"resultCode": "SUCCESS", "resultDescription": "SUCCESS"}


def entries(response: dict[str, Any]) -> Any:
    """The ``response`` of the only step."""
    (step,) = response["steps"]
    return step["response"]


def test_get_tells_why_a_datastream_could_not_be_read() -> None:
    """An unreadable datastream fails its own entry, with the reason, and no other."""
    response = Bench().response(
        name="GET_DEVICE_PARAMETERS", parameters={"variableList": ["failing", "q"]}
    )
    assert response["resultCode"] == "SUCCESSFUL"
    assert entries(response) == [
        {
            "variableName": "failing",
            "resultCode": "ERROR",
            "resultDescription": "actuator broken",
        },
        {"variableName": "q", "variableValue": 17, **SUCCESS},
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_reading_no_format_can_carry_does_not_cost_the_others(value: float) -> None:
    """NaN fails its entry in GET and is left out of REFRESH, like any unreadable datastream."""
    bench = Bench()
    bench.state.datastreams = {("", "bad"): Stored(value), ("", "good"): Stored(1)}
    got = bench.response(name="GET_DEVICE_PARAMETERS", parameters={"variableList": ["bad", "good"]})
    assert [entry["resultCode"] for entry in entries(got)] == ["ERROR", "SUCCESS"]
    assert str(value) in entries(got)[0]["resultDescription"]
    refreshed = bench.response(id="2", name="REFRESH_INFO")
    assert [entry["variableName"] for entry in entries(refreshed)] == ["good"]


@pytest.mark.parametrize("value", [0, False, "", [], {}, 0.0])
def test_a_value_that_looks_like_nothing_is_a_value(value: Any) -> None:
    """Only null is no value."""
    bench = Bench()
    bench.state.datastreams = {("", "v"): Stored(value)}
    got = bench.response(name="GET_DEVICE_PARAMETERS", parameters={"variableList": ["v"]})
    assert entries(got) == [{"variableName": "v", "variableValue": value, **SUCCESS}]
    (entry,) = entries(bench.response(id="2", name="REFRESH_INFO"))
    assert entry["variableValue"][0]["value"] == value


def test_get_of_a_pattern_has_one_entry_for_each_device() -> None:
    """``*`` in the device id reads every matching device; the answer echoes the pattern."""
    bench = Bench()
    bench.state.datastreams |= {("child-2", "child.t"): Stored(8), ("x", "child.t"): Stored(9)}
    response = bench.response(
        name="GET_DEVICE_PARAMETERS",
        deviceId="child*",
        parameters={"variableList": ["child.t", "q"]},
    )
    assert response["deviceId"] == "child*"
    assert entries(response) == [
        {"variableName": "child.t", "variableValue": 7, **SUCCESS},
        {"variableName": "child.t", "variableValue": 8, **SUCCESS},
        {
            "variableName": "q",
            "resultCode": "NON_EXISTENT",
            "resultDescription": "No datastream found",
        },
    ]
    assert bench.state.gets == [("child*", ["child.t", "q"])]


def test_refresh_of_a_pattern_lists_the_values_of_every_device() -> None:
    """One entry per datastream, with one value per device in it."""
    bench = Bench()
    bench.state.datastreams |= {("child-2", "child.t"): Stored(8)}
    (entry,) = entries(bench.response(name="REFRESH_INFO", deviceId="child*"))
    read = {"datastreamId": "child.t", "status": "OK", "at": READ_AT_MS}
    assert entry == {
        "variableName": "child.t",
        "variableValue": [{**read, "value": 7}, {**read, "value": 8}],
        **SUCCESS,
    }
    assert bench.state.gets == [("child*", None)]


def test_set_writes_in_order_and_judges_the_whole_list_first() -> None:
    """The order of ``variableList`` is the order of writing; a wrong list writes nothing."""
    bench = Bench()
    good = [{"name": "q", "value": 1}, {"variableName": "q", "variableValue": None}]
    bench.response(
        name="SET_DEVICE_PARAMETERS", deviceId="dev-1", parameters={"variableList": good}
    )
    assert bench.state.sets == [("", [("q", 1), ("q", None)])]
    bad = [{"name": "q", "value": 2}, {"name": "q"}]
    bench.response(id="2", name="SET_DEVICE_PARAMETERS", parameters={"variableList": bad})
    assert len(bench.state.sets) == 1


@pytest.mark.parametrize(
    ("datetime", "instant_ms"),
    [
        # instants computed with date(1)
        ({"date": "2024-02-03", "time": "04:05:06"}, 1_706_933_106_000),
        ({"date": "2024-02-03", "time": "04:05"}, 1_706_933_100_000),
        ({"date": "2024-02-03", "time": "04:05:06.789"}, 1_706_933_106_789),
        ({"date": "2024-02-03", "time": "04:05:06.7"}, 1_706_933_106_700),
        ({"date": "2024-02-03", "time": "04:05:06", "timezone": None}, 1_706_933_106_000),
        ({"date": "2024-02-03", "time": "04:05:06", "timezone": -5}, 1_706_951_106_000),
        ({"date": "2024-02-03", "time": "04:05:06", "timezone": 5.5}, 1_706_913_306_000),
        ({"date": "2024-02-03", "time": "04:05:06", "dst": 1}, 1_706_929_506_000),
        ({"date": "2024-02-29", "time": "23:59:59"}, 1_709_251_199_000),
        ({"date": "1970-01-01", "time": "00:00:00", "timezone": 1}, -3_600_000),
        ({"date": "0001-01-01", "time": "00:00:00", "timezone": 14}, -62_135_647_200_000),
        ({"date": "9999-12-31", "time": "23:59:59", "timezone": -12}, 253_402_343_999_000),
        (None, NOW_MS),
    ],
    ids=repr,
)
def test_set_clock_computes_the_instant(datetime: Any, instant_ms: int) -> None:
    """Local time minus (timezone + dst) hours; the time of day where none is given."""
    bench = Bench()
    response = bench.response(name="SET_CLOCK_EQUIPMENT", parameters={"datetime": datetime})
    assert response["resultCode"] == "SUCCESSFUL"
    assert bench.state.sets == [("", [("device.clock", instant_ms)])]


_FLAT = {"date": "2024-02-03", "time": "04:05:06", "timezone": 1, "dst": 1}
_FLAT_LIST = [
    {"name": "date", "value": {"string": "2024-02-03"}},
    {"name": "time", "value": {"string": "04:05:06"}},
    {"name": "timezone", "value": {"number": 1}},
    {"name": "dst", "value": {"number": 1}},
]


@pytest.mark.parametrize(
    "parameters",
    [
        _FLAT,
        _FLAT_LIST,
        {"datetime": _FLAT},
        {"datetime": _FLAT, "date": None},
        [{"name": "datetime", "value": {"object": _FLAT}}],
    ],
    ids=["flat", "flat list", "wrapped", "wrapped beside null", "wrapped list"],
)
def test_set_clock_takes_its_members_flat_or_wrapped(parameters: Any) -> None:
    """``date``, ``time``, ``timezone`` and ``dst`` mean the same as parameters of their own and
    inside ``datetime``, in both dialects."""
    bench = Bench()
    response = bench.response(name="SET_CLOCK_EQUIPMENT", parameters=parameters)
    assert response["resultCode"] == "SUCCESSFUL"
    assert bench.state.sets == [("", [("device.clock", 1_706_925_906_000)])]


_VARIABLES = [{"name": "q", "value": 1}]


@pytest.mark.parametrize(
    ("name", "parameters", "culprit"),
    [
        ("SET_CLOCK_EQUIPMENT", {"dateTime": _FLAT}, "dateTime"),
        ("SET_CLOCK_EQUIPMENT", {**_FLAT, "zone": 1}, "zone"),
        ("SET_CLOCK_EQUIPMENT", {"datetime": {**_FLAT, "zone": 1}}, "datetime.zone"),
        ("SET_CLOCK_EQUIPMENT", {"datetime": _FLAT, "date": "2024-02-03"}, "date"),
        ("SET_CLOCK_EQUIPMENT", {"timezone": 1}, "date"),
        ("SET_CLOCK_EQUIPMENT", {"date": None, "time": None}, "date"),
        ("SET_CLOCK_EQUIPMENT", {"datetime": {"date": None, "time": None}}, "datetime.date"),
        ("SET_CLOCK_EQUIPMENT", [{"name": "time", "value": {"string": None}}], "date"),
        (
            "SET_CLOCK_EQUIPMENT",
            [{"name": "date", "valeu": {"string": "x"}}],
            "parameters[0].value",
        ),
        ("SET_CLOCK_EQUIPMENT", {"date": "2024-02-03"}, "time"),
        ("SET_CLOCK_EQUIPMENT", {**_FLAT, "dst": "1"}, "dst"),
        ("SET_CLOCK_EQUIPMENT", {"variableList": _VARIABLES}, "variableList"),
        ("SET_CLOCK_EQUIPMENT", [*_FLAT_LIST, {"name": "x", "value": {"number": 1}}], "x"),
        ("SYNCHRONIZE_CLOCK", {"server": "ntp://good"}, "server"),
        ("SYNCHRONIZE_CLOCK", {"variableList": _VARIABLES}, "variableList[0].name"),
        (
            "SYNCHRONIZE_CLOCK",
            {"source": "ntp://good", "variableList": [{"name": "source", "value": "ntp://odd"}]},
            "source",
        ),
        ("SET_DEVICE_PARAMETERS", {"variableList": _VARIABLES, "force": True}, "force"),
    ],
)
def test_an_operation_that_acts_ignores_no_parameter(
    name: str, parameters: Any, culprit: str
) -> None:
    """What is not understood is ERROR_IN_PARAM that names it, and nothing is written: acting
    without it would do something else than was asked."""
    bench = Bench(time_source="ntp://good")
    response = bench.response(name=name, parameters=parameters)
    assert response["resultCode"] == "ERROR_IN_PARAM"
    assert response["resultDescription"].startswith(f"{culprit}: ")
    assert bench.state.sets == []


def test_without_a_time_source_the_time_of_the_host_counts() -> None:
    """As the reference documents: a device behind the gateway takes over the gateway's time."""
    bench = Bench()
    bench.state.datastreams["child-1", "device.clock"] = Stored(writes=True)
    response = bench.response(name="SYNCHRONIZE_CLOCK", deviceId="child-1")
    assert response["resultCode"] == "SUCCESSFUL"
    assert bench.state.sets == [("child-1", [("device.clock", NOW_MS)])]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("SET_CLOCK_EQUIPMENT", {}), ("SYNCHRONIZE_CLOCK", {"source": "ntp://good"})],
)
def test_a_clock_that_can_not_be_set_says_why(name: str, parameters: dict[str, str]) -> None:
    """A clock that refuses gives its reason; a device without clock has none to give."""
    bench = Bench()
    bench.state.datastreams["", "device.clock"] = Stored(writes=True, error="not permitted")
    refused = bench.response(name=name, parameters=parameters)
    assert refused == {
        "id": "1",
        "deviceId": "dev-1",
        "path": [],
        "name": name,
        "resultCode": "ERROR_PROCESSING",
        "resultDescription": "not permitted",
        "steps": [{"name": name, "result": "ERROR"}],
    }
    absent = bench.response(id="2", name=name, deviceId="child-1", parameters=parameters)
    assert "resultDescription" not in absent
    assert absent["resultCode"] == "ERROR_PROCESSING"
    assert absent["steps"] == [{"name": name, "result": "ERROR"}]


@pytest.mark.parametrize(
    ("configured", "parameters"),
    [
        (None, {"source": "ntp://good"}),
        ("ntp://silent", {"source": "ntp://good"}),
        ("ntp://good", {}),
        ("ntp://good", {"source": None}),
        ("ntp://good", {"source": ""}),
        ("ntp://good", {"variableList": []}),
        (None, {"variableList": [{"name": "source", "value": "ntp://good"}]}),
        (
            "ntp://silent",
            {"variableList": [{"variableName": "source", "variableValue": "ntp://good"}]},
        ),
        (None, [{"name": "source", "value": {"string": "ntp://good"}}]),
        (
            None,
            [
                {
                    "name": "variableList",
                    "value": {"array": [{"variableName": "source", "variableValue": "ntp://good"}]},
                }
            ],
        ),
    ],
)
def test_synchronize_prefers_the_source_of_the_request(
    configured: str | None, parameters: Any
) -> None:
    """The request's source, else the configured one, sets the clock; success looks like that of
    SET_CLOCK_EQUIPMENT."""
    bench = Bench(time_source=configured)
    response = bench.response(name="SYNCHRONIZE_CLOCK", parameters=parameters)
    assert response == {
        "id": "1",
        "deviceId": "dev-1",
        "path": [],
        "name": "SYNCHRONIZE_CLOCK",
        "resultCode": "SUCCESSFUL",
        "steps": [{"name": "SYNCHRONIZE_CLOCK", "result": "SUCCESSFUL"}],
    }
    assert bench.state.sets == [("", [("device.clock", NOW_MS + 5)])]


@pytest.mark.parametrize(
    ("configured", "parameters", "reason"),
    [
        (
            "sundial",
            {},
            "the configured time source is unusable: 'sundial' is not a time source",
        ),
        (None, {"source": "ntp://silent"}, "the time source gave no time: no answer within 5 s"),
        ("ntp://silent", {}, "the time source gave no time: no answer within 5 s"),
    ],
)
def test_synchronize_always_answers(
    configured: str | None, parameters: dict[str, Any], reason: str
) -> None:
    """Without a time there is an answer with the reason, and the clock is left alone."""
    bench = Bench(time_source=configured)
    response = bench.response(name="SYNCHRONIZE_CLOCK", parameters=parameters)
    assert response["resultCode"] == "ERROR_PROCESSING"
    assert response["resultDescription"] == reason
    assert bench.state.sets == []


def test_synchronize_is_cancelled_at_the_time_limit() -> None:
    """A source that never answers costs the time limit, and its question is cancelled."""
    bench = Bench(timeout_s=10)
    question: Deferred[int] = Deferred()
    bench.time_sources.sources["ntp://mute"] = FakeTimeSource(question)
    answers = bench.send(request(name="SYNCHRONIZE_CLOCK", parameters={"source": "ntp://mute"}))
    bench.clock.advance(10)
    (payload,) = answers
    response = bench.decoded(payload)["operation"]["response"]
    assert response["resultDescription"] == "time limit of 10 s exceeded"
    assert question.called
    assert bench.state.sets == []


def test_synchronize_does_not_hide_a_fault_of_the_source() -> None:
    """Errors that are no failed reading keep their own text (and get their traceback logged)."""
    bench = Bench()
    bench.time_sources.sources["ntp://odd"] = FakeTimeSource(ZeroDivisionError("division"))
    assert not issubclass(ZeroDivisionError, ReadingFailed)
    response = bench.response(name="SYNCHRONIZE_CLOCK", parameters={"source": "ntp://odd"})
    assert response["resultDescription"] == "division"


@pytest.mark.parametrize(
    ("device_id", "named"), [("", ""), ("dev-1", ""), ("child", "child"), ("c*", "child")]
)
def test_a_reading_without_a_value_names_its_device(device_id: str, named: str) -> None:
    """As recorded: the host by its empty id, however the request spells it, another device by its
    own id."""
    bench = Bench()
    bench.state.datastreams = {("", "v"): Stored(None), ("child", "v"): Stored(None)}
    members = {"deviceId": device_id} if device_id else {}
    got = bench.response(
        name="GET_DEVICE_PARAMETERS", parameters={"variableList": ["v"]}, **members
    )
    assert [entry["resultDescription"] for entry in entries(got)] == [
        f"One of these is null : deviceId '{named}', datastreamId 'v' or value 'null'."
    ]
