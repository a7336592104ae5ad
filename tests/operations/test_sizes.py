"""An answer that can't be sent is replaced by one that can; none is dropped."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oda.model import ContentType, OperationRequest, OperationResult, Step, StepResult

from .fakes import Bench, FakeOperation, Progress, request

FORMATS = pytest.mark.parametrize("content_type", list(ContentType), ids=lambda c: c.name)
#: The smallest ``maxMessageSize`` that the configuration allows.
SMALLEST = 1024


class Echoed(NamedTuple):
    """What an answer repeats of its request."""

    id: str | None
    name: str | None
    requested_device_id: str
    path: tuple[str, ...]


def large(request: OperationRequest, progress: Progress) -> OperationResult:
    """An answer of some 5 kB."""
    return OperationResult(steps=[Step("S", StepResult.SUCCESSFUL, response=["x" * 5000])])


@FORMATS
def test_a_repeated_answer_that_has_become_too_large_is_replaced(
    content_type: ContentType,
) -> None:
    """The limit was lowered in between: the repetition says so, whatever format it is in."""
    operation = FakeOperation("X", large)
    bench = Bench(operation)
    bench.send(request(name="X"))
    bench.max_answer_bytes = 4000
    response = bench.answer(request(name="X"), content_type)["operation"]["response"]
    assert (response["id"], response["resultCode"]) == ("1", "ERROR_PROCESSING")
    assert "maxMessageSize is 4000" in response["resultDescription"]
    assert len(operation.requests) == 1


@FORMATS
@pytest.mark.parametrize("member", ["id", "deviceId", "name", "path"])
@pytest.mark.parametrize("name", ["X", "NOBODY"])
def test_what_an_answer_repeats_can_not_make_it_too_large(
    member: str, name: str, content_type: ContentType
) -> None:
    """Path and device go first, the name next, the end of the id last."""
    bench = Bench(FakeOperation("X", large), max_answer_bytes=SMALLEST)
    members: dict[str, Any] = {"id": "1", "name": name, "deviceId": "d"}
    members[member] = [*["g" * 500] * 40, "dev-1"] if member == "path" else "y" * 1000
    payload = bench.codecs.codec(content_type).encode(request(**members))
    (answer,) = bench.send_bytes(payload, content_type)
    assert answer is not None
    assert len(answer) <= SMALLEST
    response = bench.decoded(answer, content_type)["operation"]["response"]
    kept = members["id"]
    assert kept.startswith(response["id"])
    assert len(response["id"]) == len(kept) if member != "id" else len(response["id"]) > 500
    expected = "ERROR_PROCESSING" if name == "X" and member != "name" else "NOT_SUPPORTED"
    assert response["resultCode"] == expected


@FORMATS
def test_a_refusal_keeps_its_code_when_it_is_clipped(content_type: ContentType) -> None:
    """The platform has to know that it was its request that was wrong."""
    bench = Bench(max_answer_bytes=SMALLEST)
    members = {"id": "1" * 1000, "name": "X", "deviceId": 5}
    response = bench.answer(request(**members), content_type)["operation"]["response"]
    assert response["resultCode"] == "ERROR_IN_PARAM"
    assert response["resultDescription"] == "deviceId: must be a text, not a number"


@settings(max_examples=200, deadline=None)
@given(
    request_id=st.text(min_size=1, max_size=20).map(lambda text: text * 400),
    name=st.text(min_size=1, max_size=20).map(lambda text: text * 100) | st.just("X"),
    device=st.text(max_size=20).map(lambda text: text * 100),
    path=st.lists(st.text(max_size=20), max_size=400),
    content_type=st.sampled_from(list(ContentType)),
    limit=st.integers(SMALLEST, 6000),
)
def test_every_answer_fits(
    request_id: str,
    name: str,
    device: str,
    path: list[str],
    content_type: ContentType,
    limit: int,
) -> None:
    """Whatever it repeats, in the smallest size that can be configured as well; and what it says of
    the id is the beginning of the id."""
    bench = Bench(FakeOperation("X", large), max_answer_bytes=limit)
    members = {"id": request_id, "name": name, "deviceId": device, "path": path}
    (answer,) = bench.send(request(**members), content_type)
    assert answer is not None
    assert len(answer) <= limit
    response = bench.decoded(answer, content_type)["operation"]["response"]
    assert response["id"]
    assert request_id.startswith(response["id"])


@FORMATS
def test_an_answer_that_turns_out_too_large_can_be_shortened(content_type: ContentType) -> None:
    """The connector's last resort: what can be told from the answer itself is said."""
    bench = Bench(FakeOperation("X", large))
    (answer,) = bench.send(request(name="X", deviceId="d", path=["g", "dev-1"]), content_type)
    assert answer is not None
    bench.max_answer_bytes = 2000
    shorter = bench.dispatcher._writer.shorten(answer, "a reason")
    response = bench.decoded(shorter, content_type)["operation"]["response"]
    assert response == {
        "id": "1",
        "deviceId": "d",
        "path": ["g", "dev-1"],
        "name": "X",
        "resultCode": "ERROR_PROCESSING",
        "resultDescription": "a reason",
        "steps": [],
    }


@pytest.mark.parametrize(
    "payload", [b"", b"x", b"{}", b'{"operation":5}', b'{"operation":', b"\x81"]
)
def test_what_is_no_answer_can_not_be_shortened(payload: bytes) -> None:
    """A foreign dispatcher may send anything: nothing is made up for it."""
    assert Bench().dispatcher._writer.shorten(payload, "a reason") is None


@FORMATS
@pytest.mark.parametrize("request_id", ["1", None])
def test_a_long_reason_can_not_make_an_answer_too_large(
    request_id: str | None, content_type: ContentType
) -> None:
    """The reason is cut before the id, and an answer to a request without an id is one as well."""
    bench = Bench(max_answer_bytes=SMALLEST)
    echo = Echoed(request_id, "X", "d", ("g",))
    answer = bench.dispatcher._writer.write_error(echo, "ß" * 1000, content_type)
    assert len(answer) <= SMALLEST
    response = bench.decoded(answer, content_type)["operation"]["response"]
    assert (response.get("id"), response["resultCode"]) == (request_id, "ERROR_PROCESSING")
    assert response["resultDescription"] == "ß" * 40


@FORMATS
def test_a_request_without_a_name_gets_an_answer_that_fits(content_type: ContentType) -> None:
    """What is missing in a request needs no room, and its absence stops no answer."""
    bench = Bench(max_answer_bytes=SMALLEST)
    response = bench.answer(request(id="1" * 5000), content_type)["operation"]["response"]
    assert response["resultCode"] == "ERROR_IN_PARAM"
    assert 500 < len(response["id"]) < SMALLEST
