"""What a script of an operation gets, and how its lines are read."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.errors import InvalidParameter
from oda.model import OperationRequest, OperationResult, ResultCode, Step, StepResult
from oda.operations.continuation import read_saved
from oda.operations.script_report import (
    MAX_VARIABLE_BYTES,
    MAX_VARIABLES,
    ScriptReport,
    script_input,
    script_variables,
)


def asked(**parameters: Any) -> OperationRequest:
    return OperationRequest(id="7", name="WATER", path=("gw",), parameters=parameters)


def read(*pieces: bytes, failure: str = "") -> OperationResult:
    """The result of a script that writes these pieces."""
    report = ScriptReport()
    for piece in pieces:
        report.feed(piece)
    return report.result(failure)


def test_the_variables_of_a_request() -> None:
    """A text is the value itself, everything else is JSON; null is empty."""
    request = asked(
        litres=5, dryRun=True, zone="a b;$(c)", none=None, beds=["n", 1], **{"a-b.c é": 1.5}
    )
    assert script_variables(request, "dev-1") == {
        "ODA_OPERATION": "WATER",
        "ODA_OPERATION_ID": "7",
        "ODA_DEVICE_ID": "dev-1",
        "ODA_PARAM_LITRES": "5",
        "ODA_PARAM_DRYRUN": "true",
        "ODA_PARAM_ZONE": "a b;$(c)",
        "ODA_PARAM_NONE": "",
        "ODA_PARAM_BEDS": '["n",1]',
        "ODA_PARAM_A_B_C__": "1.5",
    }


def test_no_parameter_is_a_variable_of_the_system() -> None:
    """Whatever it is called, its variable begins with the prefix and has plain characters."""
    request = asked(**{"PATH": "x", "LD_PRELOAD": "x", "a=b\nIFS": "x", "": "x"})
    names = {name for name in script_variables(request, "d") if "PARAM" in name}
    assert names == {
        "ODA_PARAM_PATH",
        "ODA_PARAM_LD_PRELOAD",
        "ODA_PARAM_A_B_IFS",
        "ODA_PARAM_",
    }


def test_parameters_of_one_variable_are_refused() -> None:
    """One of the two would be lost."""
    with pytest.raises(InvalidParameter, match="is the variable ODA_PARAM_A_B as a-b is"):
        script_variables(asked(**{"a-b": 1, "a_b": 2}), "d")


@pytest.mark.parametrize(
    "value", ["a\0b", b"raw", [b"raw"], {"x": b"x"}, float("nan"), "\ud800", object()]
)
def test_what_no_variable_can_hold_is_refused(value: Any) -> None:
    """The error names the parameter."""
    with pytest.raises(InvalidParameter, match=r"^raw: "):
        script_variables(asked(raw=value), "d")


def test_a_long_value_and_many_are_on_standard_input_only() -> None:
    """The kernel takes no more; the script still gets everything."""
    long = "x" * (MAX_VARIABLE_BYTES + 1)
    request = asked(long=long, **{f"p{number}": number for number in range(MAX_VARIABLES + 5)})
    variables = script_variables(request, "d")
    assert "ODA_PARAM_LONG" not in variables
    assert len(variables) == 3 + MAX_VARIABLES - 1
    assert json.loads(script_input(request, "d"))["parameters"]["long"] == long


def test_the_standard_input_is_the_request_in_one_line() -> None:
    """With the members of the wire; for a device behind the agent with its id."""
    request = OperationRequest("7", "X", "child", "child", ("gw",), {"a": [1, None]})
    written = script_input(request, "dev-1")
    assert written.endswith(b"\n")
    assert written.count(b"\n") == 1
    assert json.loads(written) == {
        "id": "7",
        "name": "X",
        "deviceId": "child",
        "path": ["gw"],
        "parameters": {"a": [1, None]},
    }
    with pytest.raises(InvalidParameter, match=r"^raw: "):
        script_input(asked(raw=b"x"), "d")


STEP = b'{"name": "VALVE", "result": "SUCCESSFUL", "description": "open"}\n'


def test_steps_come_as_they_are_written_whatever_the_pieces() -> None:
    """A line counts once its end is there."""
    report = ScriptReport()
    assert not report.feed(STEP[:10])
    assert report.feed(STEP[10:] + STEP)
    assert report.steps == [Step("VALVE", StepResult.SUCCESSFUL, "open")] * 2
    assert report.result("") == OperationResult(steps=tuple(report.steps))


def test_all_members_of_a_step() -> None:
    """They are those of the wire."""
    line = b'{"name":"A","result":"SKIPPED","response":[1,{"x":null}],"timestamp":17,"more":1}\n'
    (step,) = read(line).steps or ()
    assert step == Step("A", StepResult.SKIPPED, None, [1, {"x": None}], 17)


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_a_result_line(ending: bytes) -> None:
    """It chooses the code and the description; the last one counts."""
    first = b'{"resultCode": "SUCCESSFUL"}\n'
    line = b'{"resultCode": "ERROR_IN_PARAM", "resultDescription": "litres: too many"}'
    assert read(first, line + ending) == OperationResult(
        ResultCode.ERROR_IN_PARAM, "litres: too many", ()
    )
    assert read(STEP, b'{"resultCode": "SUCCESSFUL", "resultDescription": "done"}\n') == (
        OperationResult(
            ResultCode.SUCCESSFUL, "done", (Step("VALVE", StepResult.SUCCESSFUL, "open"),)
        )
    )


def test_without_a_result_the_status_decides_and_the_first_line_describes() -> None:
    """As a script without any JSON is written."""
    assert read(b"\n  5 l given \nmore\n") == OperationResult(description="5 l given")
    assert read() == OperationResult()
    failed = ResultCode.ERROR_PROCESSING
    assert read(failure="exit status 1") == OperationResult(failed, "exit status 1", ())
    assert read(b"no water\n", failure="exit status 1") == OperationResult(
        failed, "exit status 1: no water", ()
    )
    assert read(b"out\n", failure="exit status 1: err") == OperationResult(
        failed, "exit status 1: err", ()
    )


def test_a_script_that_fails_is_not_successful_whatever_it_wrote() -> None:
    """An error that it wrote itself says more than its status."""
    assert read(b'{"resultCode": "SUCCESSFUL"}\n', failure="exit status 2").result_code is (
        ResultCode.ERROR_PROCESSING
    )
    said = b'{"resultCode": "NOT_SUPPORTED", "resultDescription": "no pump"}\n'
    assert read(STEP, said, failure="exit status 2") == OperationResult(
        ResultCode.NOT_SUPPORTED, "no pump", (Step("VALVE", StepResult.SUCCESSFUL, "open"),)
    )


@pytest.mark.parametrize(
    "line",
    [
        b'{"name": "A", "result": "FINE"}',
        b'{"name": 1, "result": "ERROR"}',
        b'{"name": "A"',
        b'{"name": "\xff", "result": "ERROR"}',
        b'{"resultCode": "\xc3\x28"}',
        b"{" * 5000,
    ],
)
def test_a_line_that_is_meant_as_json_and_is_none_is_text(line: bytes) -> None:
    """It is told apart, so that the author hears of it."""
    report = ScriptReport()
    report.feed(line + b"\n")
    assert report.result("").result_code is ResultCode.SUCCESSFUL
    assert len(report.faults) == 1
    assert report.faults[0].startswith("line 1: ")


@pytest.mark.parametrize(
    "line", [b'{"resultCode": "ERROR"}', b'{"resultCode": "SUCCESSFUL", "resultDescription": 5}']
)
def test_a_result_that_can_not_be_read_is_no_success(line: bytes) -> None:
    """The script may have wanted to say that it has failed; a later result counts."""
    report = ScriptReport()
    report.feed(STEP + line + b"\n")
    assert len(report.faults) == 1
    assert report.faults[0].startswith("line 2: ")
    result = report.result("")
    assert result.result_code is ResultCode.ERROR_PROCESSING
    assert (result.description or "").startswith("the script's result can't be read: ")
    assert len(result.steps or ()) == 1
    assert read(line + b"\n", b'{"resultCode": "SUCCESSFUL"}').result_code is (
        ResultCode.SUCCESSFUL
    )
    assert read(b'{"resultCode": "SUCCESSFUL"}\n', line).result_code is (
        ResultCode.ERROR_PROCESSING
    )
    assert read(line, failure="exit status 2").description == f"exit status 2: {line.decode()}"


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\n", STEP, b"{", b'"name":'])))
def test_whatever_is_written_there_is_a_result(pieces: list[bytes]) -> None:
    """Nothing that a script writes breaks the reading, and each line counts once."""
    report = ScriptReport()
    for piece in pieces:
        report.feed(piece)
    assert report.result("").result_code in ResultCode
    assert len(report.steps) <= b"".join(pieces).count(b"{")


@given(st.binary())
def test_what_is_no_saved_state_is_a_value_error(written: bytes) -> None:
    """Damage that its checksum does not show costs the answer "interrupted", and nothing else."""
    with contextlib.suppress(ValueError):
        read_saved(written)


def test_other_json_is_text() -> None:
    """An object of neither kind, and one that is no object."""
    assert read(b'{"a": 1}\n') == OperationResult(description='{"a": 1}')
    assert read(b"[1]\n") == OperationResult(description="[1]")


def test_text_that_is_no_unicode() -> None:
    """It can be sent all the same, and is not endless."""
    description = read(b"\xff" * 5000).description
    assert description == "\ufffd" * 1000
