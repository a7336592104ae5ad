"""Whatever arrives, a recognisable request gets exactly one answer and nothing else gets any."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from oda.model import ContentType

from .fakes import Bench, custom_operations

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["q", "nope", "failing", "nullvalue", "2024-02-03", "04:05:06", "*"])
)
MEMBERS = [
    "name",
    "value",
    "variableName",
    "variableValue",
    "variableList",
    "datetime",
    "date",
    "time",
    "timezone",
    "dst",
    "source",
    "array",
    "object",
    "string",
    "number",
    "boolean",
]
KEYS = st.text(max_size=5) | st.sampled_from(MEMBERS)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
NAMES = [
    "REFRESH_INFO",
    "GET_DEVICE_PARAMETERS",
    "SET_DEVICE_PARAMETERS",
    "SET_CLOCK_EQUIPMENT",
    "SYNCHRONIZE_CLOCK",
    "MY_FAIL",
    "DISCOVER",
]
PARAMETERS = VALUES | st.dictionaries(
    st.sampled_from(["variableList", "datetime", "source"]), VALUES, max_size=3
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(min_size=1, max_size=5) | VALUES,
        "name": st.sampled_from(NAMES) | VALUES,
        "deviceId": st.sampled_from(["dev-1", "child-1", "child*", "nobody"]) | VALUES,
        "path": st.lists(st.text(max_size=4), max_size=2) | VALUES,
        "timestamp": VALUES,
        "parameters": PARAMETERS,
        "extra": VALUES,
    },
)
MESSAGES = (
    st.dictionaries(KEYS, VALUES, max_size=3)
    | st.fixed_dictionaries({"operation": VALUES})
    | st.fixed_dictionaries({"operation": st.fixed_dictionaries({"request": VALUES})})
    | st.fixed_dictionaries({"operation": st.fixed_dictionaries({"request": REQUESTS})})
)


def is_recognisable(message: Any) -> bool:
    """The rule, in the words of the protocol."""
    operation = message.get("operation")
    return isinstance(operation, dict) and isinstance(operation.get("request"), dict)


@settings(max_examples=300, deadline=None)
@given(message=MESSAGES, content_type=st.sampled_from(list(ContentType)))
def test_one_answer_for_every_recognisable_request(
    message: dict[str, Any], content_type: ContentType
) -> None:
    """Exactly one well-formed answer echoing the id, or none; never an unhandled error."""
    bench = Bench(*custom_operations())
    answers = bench.send(message, content_type)
    assert len(answers) == 1
    if not is_recognisable(message):
        assert answers == [None]
        return
    answer = bench.decoded(answers[0], content_type)
    assert answer["version"] == "9.0"
    response = answer["operation"]["response"]
    request = message["operation"]["request"]
    if isinstance(request.get("id"), str):
        assert response["id"] == request["id"]
    assert response["resultCode"] in {
        "SUCCESSFUL",
        "ERROR_IN_PARAM",
        "NOT_SUPPORTED",
        "ERROR_PROCESSING",
    }
    assert isinstance(response["steps"], list)
    assert isinstance(response["path"], list)
    assert response["deviceId"]
    assert not bench.clock.getDelayedCalls()


@settings(max_examples=200, deadline=None)
@given(payload=st.binary(max_size=40), content_type=st.none() | st.sampled_from(list(ContentType)))
def test_any_bytes_are_survived(payload: bytes, content_type: ContentType | None) -> None:
    """Rubbish gets no answer and breaks nothing."""
    answers: list[bytes | None] = []
    Bench().dispatcher.process(payload, content_type).addCallback(answers.append)
    assert answers == [None]
