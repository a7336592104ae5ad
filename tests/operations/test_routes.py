"""Operations for gateways behind this device."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oda.errors import OperationFailed
from oda.interfaces import IOperationRoute
from oda.model import OperationRequest, OperationResult, ResultCode
from oda.operations.request import gateways_below
from tests.operations.fakes import Bench, Progress, request

GET = {"name": "GET_DEVICE_PARAMETERS", "parameters": {"variableList": ["q"]}}


@implementer(IOperationRoute)
class Route:
    """Keeps what is handed down; the test answers."""

    def __init__(self, answer: Any) -> None:
        self.handed_down: list[tuple[str, OperationRequest]] = []
        self._answer = answer

    def execute(self, gateway: str, request: OperationRequest, progress: Progress) -> Any:
        self.handed_down.append((gateway, request))
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("device_id", "path", "below"),
    [
        ("", [], ()),
        ("child", [], ()),
        ("child", ["dev-1"], ()),
        ("child", ["top", "dev-1"], ()),
        ("dev-1", ["top"], ()),
        ("dev-1", ["top", "dev-1"], ()),
        ("", ["gw"], ("gw",)),
        ("child", ["gw"], ("gw",)),
        ("child", ["dev-1", "gw"], ("gw",)),
        ("child", ["top", "dev-1", "gw", "gw-2"], ("gw", "gw-2")),
        ("child*", ["dev-1", "gw"], ("gw",)),
    ],
)
def test_what_a_path_still_has_to_pass(
    device_id: str, path: list[str], below: tuple[str, ...]
) -> None:
    """The gateways behind this device's own id; none for an operation on this device itself."""
    operation = OperationRequest(
        "1", "A", "" if device_id == "dev-1" else device_id, device_id, tuple(path)
    )
    assert gateways_below(operation, "dev-1") == below


def test_without_a_route_the_gateway_is_named_and_nothing_is_executed() -> None:
    """An operation for another gateway must not act on the host by mistake."""
    bench = Bench()
    for number, members in enumerate(
        (
            {"name": "SET_DEVICE_PARAMETERS", "parameters": {"variableList": [{"name": "q"}]}},
            {"name": "SET_CLOCK_EQUIPMENT"},
            {"name": "SOMETHING"},
            GET,
        )
    ):
        response = bench.response(id=str(number), path=["dev-1", "gw"], **members)
        assert response["resultCode"] == "NOT_SUPPORTED"
        assert "'gw'" in response["resultDescription"]
        assert response["path"] == ["dev-1", "gw"]
    assert (bench.state.sets, bench.state.gets) == ([], [])


def test_a_route_hands_down_and_its_answer_comes_up() -> None:
    """The next gateway, and a request with the rest of the path; the answer repeats the path of
    the platform's request. Any name is handed down: what the gateway can do is its affair."""
    bench = Bench()
    answer: Deferred[OperationResult] = Deferred()
    route = Route(answer)
    assert verifyObject(IOperationRoute, route)
    bench.dispatcher.route = route
    answers = bench.send(
        request(name="REBOOT", deviceId="child", path=["dev-1", "gw", "gw-2"], parameters={"a": 1})
    )
    ((gateway, handed_down),) = route.handed_down
    assert gateway == "gw"
    assert (handed_down.device_id, handed_down.path) == ("child", ("gw-2",))
    assert handed_down.parameters == {"a": 1}
    answer.callback(OperationResult(ResultCode.SUCCESSFUL, "done below"))
    (payload,) = answers
    response = bench.decoded(payload)["operation"]["response"]
    assert response["resultDescription"] == "done below"
    assert (response["deviceId"], response["path"]) == ("child", ["dev-1", "gw", "gw-2"])


def test_a_repeated_request_is_handed_down_once() -> None:
    """It counts as an operation that acts: the record answers the repetition."""
    bench = Bench()
    route = Route(OperationResult(description="once"))
    bench.dispatcher.route = route
    for _ in range(2):
        response = bench.response(id="7", name="REBOOT", path=["gw"])
        assert response["resultDescription"] == "once"
    assert len(route.handed_down) == 1


def test_a_route_that_fails_or_takes_too_long_is_answered() -> None:
    """As an operation of this device: every request gets its answer."""
    bench = Bench(timeout_s=10)
    bench.dispatcher.route = Route(OperationFailed("gw does not answer"))
    response = bench.response(name="REBOOT", path=["gw"])
    assert (response["resultCode"], response["resultDescription"]) == (
        "ERROR_PROCESSING",
        "gw does not answer",
    )
    bench.dispatcher.route = Route(Deferred())
    answers = bench.send(request(id="2", name="REBOOT", path=["gw"]))
    bench.clock.advance(10)
    (payload,) = answers
    response = bench.decoded(payload)["operation"]["response"]
    assert response["resultDescription"] == "time limit of 10 s exceeded"


def test_an_operation_of_this_device_is_not_handed_down() -> None:
    """With a route the host's own operations stay what they are."""
    bench = Bench()
    route = Route(OperationResult())
    bench.dispatcher.route = route
    response = bench.response(deviceId="dev-1", path=["top"], **GET)
    assert response["resultCode"] == "SUCCESSFUL"
    assert route.handed_down == []


def test_names_that_are_handed_down_are_counted_together() -> None:
    """A name comes from the wire: each with a counter of its own, the counters would grow for ever.
    Those that have a handler here are counted by their names."""
    bench = Bench()
    bench.dispatcher.route = Route(OperationResult())
    for number in range(3):
        bench.response(id=f"{number}", name=f"NAME_{number}", path=["gw"])
    for _ in range(2):
        bench.answer(request(**{**GET, "id": "a", "path": ["gw"]}))
    assert bench.counters.of("operations", operation="unknown", result="SUCCESSFUL") == 3
    named = str(GET["name"])
    assert bench.counters.of("operations", operation=named, result="SUCCESSFUL") == 1
    assert bench.counters.of("operations_repeated", operation=named) == 1
    assert not any("NAME_" in str(key) for key in bench.counters.counted)
