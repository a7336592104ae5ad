"""What is a request, and what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest

from oda.model import OperationRequest
from oda.operations.request import Refusal, echo_of_answer, recognise, recognise_refused


def recognised(**members: Any) -> OperationRequest | Refusal | None:
    return recognise({"operation": {"request": members}}, "dev-1")


@pytest.mark.parametrize(
    "message",
    [
        None,
        5,
        "operation",
        [],
        [{"operation": {"request": {}}}],
        {},
        {"operation": None},
        {"operation": "request"},
        {"operation": {}},
        {"operation": {"request": None}},
        {"operation": {"request": []}},
        {"operation": {"request": "GET"}},
        {"operation": {"response": {"id": "1"}}},
        {"request": {"id": "1", "name": "A"}},
    ],
    ids=repr,
)
def test_other_messages_are_no_requests(message: Any) -> None:
    """A request is a map under ``operation.request``, nothing else."""
    assert recognise(message, "dev-1") is None


def test_a_whole_request_is_understood() -> None:
    """Every member arrives where it belongs; members nobody knows are ignored."""
    request = recognised(
        id="1",
        timestamp=1700000000123,
        deviceId="child-1",
        path=["gw", "dev-1"],
        name="A",
        parameters={"a": 1},
        colour="red",
    )
    assert request == OperationRequest(
        "1", "A", "child-1", "child-1", ("gw", "dev-1"), {"a": 1}, 1700000000123
    )


@pytest.mark.parametrize(
    ("given", "meant"), [(17, "17"), (-1, "-1"), (1.5, "1.5"), (2**64, "18446744073709551616")]
)
def test_a_number_is_an_id(given: float, meant: str) -> None:
    """An id that is a number is taken as its text."""
    request = recognised(id=given, name="A")
    assert isinstance(request, OperationRequest)
    assert request.id == meant


@pytest.mark.parametrize(
    ("members", "device_id", "requested"),
    [
        ({}, "", ""),
        ({"deviceId": None}, "", ""),
        ({"deviceId": ""}, "", ""),
        ({"deviceId": "dev-1"}, "", "dev-1"),
        ({"deviceId": "other"}, "other", "other"),
        ({"deviceId": "*"}, "*", "*"),
    ],
)
def test_no_device_and_the_own_id_mean_the_host(
    members: dict[str, Any], device_id: str, requested: str
) -> None:
    """The host has many spellings; the answer echoes the one that was used."""
    request = recognised(id="1", name="A", **members)
    assert isinstance(request, OperationRequest)
    assert (request.device_id, request.requested_device_id) == (device_id, requested)


@pytest.mark.parametrize("nothing", [{}, {"path": None}, {"path": []}])
def test_path_is_optional(nothing: dict[str, Any]) -> None:
    """No path, null and [] are the same."""
    request = recognised(id="1", name="A", **nothing)
    assert isinstance(request, OperationRequest)
    assert request.path == ()


@pytest.mark.parametrize("timestamp", [None, "now", 1.5, True, []])
def test_an_unusable_timestamp_is_ignored(timestamp: Any) -> None:
    """No operation needs the time of its request, so none is refused for it."""
    request = recognised(id="1", name="A", timestamp=timestamp)
    assert isinstance(request, OperationRequest)
    assert request.timestamp_ms is None


@pytest.mark.parametrize(
    ("members", "refusal"),
    [
        ({"name": "A"}, ("id: missing", None, "A", "", ())),
        ({"id": None, "name": "A"}, ("id: missing", None, "A", "", ())),
        ({"id": "", "name": "A"}, ("id: must not be empty", "", "A", "", ())),
        ({"id": True, "name": "A"}, ("id: must be a text, not a boolean", None, "A", "", ())),
        ({"id": ["1"], "name": "A"}, ("id: must be a text, not a list", None, "A", "", ())),
        ({"id": b"1", "name": "A"}, ("id: must be a text, not bytes", None, "A", "", ())),
        ({"id": 2**256, "name": "A"}, ("id: has too many digits", str(2**256), "A", "", ())),
        ({"id": 2**8192, "name": "A"}, ("id: has too many digits", None, "A", "", ())),
        (
            {"id": float("inf"), "name": "A"},
            ("id: inf is not a finite number", "inf", "A", "", ()),
        ),
        (
            {"id": "a\ud800b", "name": "A"},
            ("id: contains invalid Unicode", "a\ufffdb", "A", "", ()),
        ),
        (
            {"id": "1", "name": "\udcff"},
            ("name: contains invalid Unicode", "1", "\ufffd", "", ()),
        ),
        (
            {"id": "1", "name": "A", "path": ["gw", "\ud800"]},
            ("path[1]: contains invalid Unicode", "1", "A", "", ("gw", "\ufffd")),
        ),
        ({"id": "1"}, ("name: missing", "1", None, "", ())),
        ({"id": "1", "name": None}, ("name: missing", "1", None, "", ())),
        ({"id": "1", "name": ""}, ("name: must not be empty", "1", "", "", ())),
        ({"id": "1", "name": 5}, ("name: must be a text, not a number", "1", None, "", ())),
        (
            {"id": "1", "name": "A", "deviceId": 6000},
            ("deviceId: must be a text, not a number", "1", "A", "", ()),
        ),
        (
            {"id": "1", "name": "A", "deviceId": "d", "path": "gw"},
            ("path: must be a list of texts, not a text", "1", "A", "d", ()),
        ),
        (
            {"id": "1", "name": "A", "path": 0},
            ("path: must be a list of texts, not a number", "1", "A", "", ()),
        ),
        (
            {"id": "1", "name": "A", "path": ["gw", None]},
            ("path[1]: must be a text, not null", "1", "A", "", ()),
        ),
        (
            {"id": "1", "name": "A", "deviceId": "d", "path": ["gw"], "parameters": "x"},
            ("parameters: must be an object or a list, not a text", "1", "A", "d", ("gw",)),
        ),
        ({}, ("id: missing", None, None, "", ())),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_can_not_run_is_refused_by_its_first_fault(
    members: dict[str, Any], refusal: tuple[Any, ...]
) -> None:
    """A refusal names the fault, and keeps all that the answer can echo."""
    refused = recognised(**members)
    assert isinstance(refused, Refusal)
    assert refusal == (
        str(refused.fault),
        refused.id,
        refused.name,
        refused.requested_device_id,
        refused.path,
    )


def test_a_codec_that_can_not_read_a_part_recognises_nothing() -> None:
    """A plugin's codec need not be tolerant: a message that it refuses is no request then."""

    class Codec:
        def members(self, payload: bytes, *path: str, names: tuple[str, ...]) -> dict[str, bytes]:
            raise AssertionError("it is not asked")

    assert recognise_refused(Codec(), b"{", "torn", "dev-1") is None


@pytest.mark.parametrize(
    ("bits", "fault", "echoed"),
    [
        (256, None, True),
        (257, "id: has too many digits", True),
        (3392, "id: has too many digits", True),
        (3393, "id: has too many digits", False),
    ],
)
def test_a_number_may_be_so_large_as_an_id(bits: int, fault: str | None, echoed: bool) -> None:
    """256 bits to be run, 3392 to be echoed."""
    number = (1 << bits) - 1
    request = recognised(id=number, name="A")
    if fault is None:
        assert isinstance(request, OperationRequest)
        assert request.id == str(number)
    else:
        assert isinstance(request, Refusal)
        assert str(request.fault) == fault
        assert request.id == (str(number) if echoed else None)


def test_an_answer_in_a_format_that_can_not_be_read_in_part_is_read_as_a_whole() -> None:
    """A plugin's codec need not be tolerant; what is no answer is none."""

    class Codec:
        def __init__(self, decoded: Any) -> None:
            self.decoded = decoded

        def decode(self, payload: bytes) -> Any:
            return self.decoded

    response = {"id": "7", "deviceId": "d", "path": ["g"], "name": "A"}
    echo = echo_of_answer(Codec({"operation": {"response": response}}), b"")
    assert echo is not None
    assert (echo.id, echo.name, echo.requested_device_id, echo.path) == ("7", "A", "d", ("g",))
    assert echo_of_answer(Codec({"operation": {}}), b"") is None
    assert echo_of_answer(Codec(5), b"") is None
