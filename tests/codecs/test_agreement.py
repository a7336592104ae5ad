"""The three formats carry the same values and refuse the same ones."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from oda.codecs import CborCodec, JsonCodec, MessagePackCodec, default_registry
from oda.errors import EncodeError
from oda.interfaces import ICodec
from oda.model import (
    ContentType,
    Datapoint,
    Datastream,
    Step,
    StepResult,
    TelemetryDocument,
)
from tests.codecs.strategies import binary_values, integers, texts, values

JSON, MESSAGE_PACK, CBOR = JsonCodec(), MessagePackCodec(), CborCodec()
CODECS: list[Any] = [JSON, MESSAGE_PACK, CBOR]
every_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.content_type.value)


def same(one: Any, other: Any) -> bool:
    """Equal in value and in type: 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return bool(one == other)


@every_codec
def test_each_codec_is_one(codec: Any) -> None:
    """Every codec keeps the contract ICodec."""
    assert verifyObject(ICodec, codec)


@given(values)
def test_round_trip_in_all_formats(value: Any) -> None:
    """Every value a datapoint can have comes back unchanged, in type too, from each format."""
    for codec in CODECS:
        assert same(codec.decode(codec.encode(value)), value)


@given(binary_values)
def test_binary_formats_carry_bytes(value: Any) -> None:
    """MessagePack and CBOR carry bytes as bytes at any place."""
    for codec in (MESSAGE_PACK, CBOR):
        assert same(codec.decode(codec.encode(value)), value)


@every_codec
def test_tuples_travel_as_lists(codec: Any) -> None:
    """A tuple has no form of its own on the wire."""
    assert codec.decode(codec.encode({"a": (1, (2,))})) == {"a": [1, [2]]}


datapoints = st.builds(
    Datapoint, at=st.none() | st.integers(-(2**53), 2**53), value=values, from_=st.none() | integers
)
documents = st.builds(
    TelemetryDocument,
    version=st.just("9.0"),
    device=st.none() | texts,
    path=st.none() | st.lists(texts, max_size=3),
    datastreams=st.lists(
        st.builds(
            Datastream,
            id=texts,
            feed=st.none() | texts,
            datapoints=st.lists(datapoints, max_size=4),
        ),
        max_size=3,
    ),
)


def expected_document(document: TelemetryDocument) -> dict[str, Any]:
    """The document as the protocol writes it: members that are None are left out."""

    def present(**members: Any) -> dict[str, Any]:
        return {name.rstrip("_"): value for name, value in members.items() if value is not None}

    return present(
        version=document.version,
        device=document.device,
        path=document.path,
        datastreams=[
            present(
                id=stream.id,
                feed=stream.feed,
                datapoints=[
                    present(at=point.at, value=point.value, from_=point.from_)
                    for point in stream.datapoints
                ],
            )
            for stream in document.datastreams
        ],
    )


@given(documents)
def test_telemetry_is_written_as_the_protocol_says(document: TelemetryDocument) -> None:
    """A telemetry document is the same in the three formats, without the members that are None."""
    for codec in CODECS:
        assert same(codec.decode(codec.encode(document)), expected_document(document))


@every_codec
def test_other_types_of_the_model_may_stand_inside_a_message(codec: Any) -> None:
    """A Step inside a dict is written as an object; its enumeration as the text of the wire."""
    step = Step("S1", StepResult.SUCCESSFUL, response=["r"])
    decoded = codec.decode(codec.encode({"steps": [step]}))
    assert decoded["steps"][0]["name"] == "S1"
    assert decoded["steps"][0]["result"] == "SUCCESSFUL"
    assert decoded["steps"][0]["response"] == ["r"]
    assert decoded == {"steps": [codec.decode(codec.encode(step))]}


@every_codec
def test_bytes_in_a_document(codec: Any) -> None:
    """Bytes in a telemetry document stay bytes in the binary formats; JSON names the place."""
    points = [Datapoint(1, 1), Datapoint(2, {"raw": b"\x00\xff"})]
    document = TelemetryDocument(version="9.0", datastreams=[Datastream(id="a", datapoints=points)])
    if codec is JSON:
        with pytest.raises(EncodeError) as caught:
            codec.encode(document)
        assert caught.value.path == "$.datastreams[0].datapoints[1].value.raw"
        assert "bytes" in caught.value.problem
    else:
        decoded = codec.decode(codec.encode(document))
        assert decoded["datastreams"][0]["datapoints"][1]["value"] == {"raw": b"\x00\xff"}


unfit = [
    (math.nan, "finite"),
    (math.inf, "finite"),
    (-math.inf, "finite"),
    (2**64, "64 bits"),
    (-(2**63) - 1, "64 bits"),
    (10**5000, "64 bits"),
    ("a\ud800", "surrogate"),
    ({1: 2}, "key 1 is not text"),
    ({None: 2}, "key None is not text"),
    ({b"k": 2}, "key b'k' is not text"),
    ({"\udfff": 2}, "surrogate"),
    ({10**5000: 2}, "key int is not text"),
    ({1, 2}, "builtins.set is not a value"),
    (1j, "builtins.complex is not a value"),
    (object(), "builtins.object is not a value"),
    (StepResult.ERROR, "oda.model.StepResult is not a value"),
    (bytearray(b"x"), "builtins.bytearray is not a value"),
]


@every_codec
@pytest.mark.parametrize(("value", "problem"), unfit, ids=lambda v: ascii(type(v).__name__))
def test_unfit_values_are_refused_alike(codec: Any, value: Any, problem: str) -> None:
    """What one format can't carry none of them sends; the error names the member and the reason."""
    with pytest.raises(EncodeError) as caught:
        codec.encode({"steps": [{"response": ["fine", value]}]})
    assert caught.value.path.startswith("$.steps[0].response[1]")
    assert problem in caught.value.problem
    document = TelemetryDocument(
        version="9.0",
        datastreams=[
            Datastream(id="a", datapoints=[Datapoint(1, 1.5)]),
            Datastream(id="b", datapoints=[Datapoint(1, "x"), Datapoint(2, value)]),
        ],
    )
    with pytest.raises(EncodeError) as caught:
        codec.encode(document)
    assert caught.value.path.startswith("$.datastreams[1].datapoints[1].value")
    assert problem in caught.value.problem


def document_with(**members: Any) -> TelemetryDocument:
    """A document in which the named member is replaced by something of a wrong type."""
    point = Datapoint(at=members.get("at", 1), value=1, from_=members.get("from_"))
    stream = Datastream(
        id=members.get("id", "a"),
        feed=members.get("feed"),
        datapoints=members.get("datapoints", [point]),
    )
    return TelemetryDocument(
        version=members.get("version", "9.0"),
        device=members.get("device"),
        path=members.get("path"),
        datastreams=members.get("datastreams", [stream]),
    )


@every_codec
@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"at": 1.5}, "$.datastreams[0].datapoints[0].at"),
        ({"at": True}, "$.datastreams[0].datapoints[0].at"),
        ({"at": 2**64}, "$.datastreams[0].datapoints[0].at"),
        ({"from_": "now"}, "$.datastreams[0].datapoints[0].from"),
        ({"from_": -(2**63) - 1}, "$.datastreams[0].datapoints[0].from"),
        ({"id": "\ud800"}, "$.datastreams[0].id"),
        ({"feed": b"f"}, "$.datastreams[0].feed"),
        ({"datapoints": [1]}, "$.datastreams[0].datapoints[0]"),
        ({"datastreams": [1]}, "$.datastreams[0]"),
        ({"version": "\ud800"}, "$.version"),
        ({"device": b"d"}, "$.device"),
        ({"path": ["a", b"b"]}, "$.path[1]"),
    ],
    ids=str,
)
def test_every_member_of_a_document_is_checked(
    codec: Any, members: dict[str, Any], path: str
) -> None:
    """The members around the values are checked too, and named as they are on the wire."""
    assert codec.encode(document_with())
    with pytest.raises(EncodeError) as caught:
        codec.encode(document_with(**members))
    assert caught.value.path == path


@every_codec
def test_unfit_members_of_other_types_are_named(codec: Any) -> None:
    """In any type of the model the error's path leads through the names of the wire."""
    step = Step("S1", StepResult.ERROR, response=[1, math.nan])
    with pytest.raises(EncodeError) as caught:
        codec.encode({"steps": [step]})
    assert caught.value.path == "$.steps[0].response[1]"
    with pytest.raises(EncodeError) as caught:
        codec.encode(Datapoint(1, 1, 2**64))
    assert caught.value.path == "$.from"


def nest(levels: int, inner: Any = 0) -> Any:
    for level in range(levels):
        inner = [inner] if level % 2 else {"a": inner}
    return inner


@every_codec
def test_depth_limit_holds_both_ways(codec: Any) -> None:
    """64 levels of containers are carried, 65 are refused when encoding and when decoding."""
    encoded = codec.encode(nest(64))
    assert codec.decode(encoded) == nest(64)
    with pytest.raises(EncodeError, match="nested too deeply"):
        codec.encode(nest(65))


@every_codec
def test_depth_limit_counts_the_document_around_a_value(codec: Any) -> None:
    """A value in a telemetry document has 59 levels left, five are those of the document."""
    fitting = document_with(datapoints=[Datapoint(1, nest(59))])
    decoded = codec.decode(codec.encode(fitting))
    assert decoded["datastreams"][0]["datapoints"][0]["value"] == nest(59)
    with pytest.raises(EncodeError, match="nested too deeply"):
        codec.encode(document_with(datapoints=[Datapoint(1, nest(60))]))
    with pytest.raises(EncodeError, match="nested too deeply"):
        codec.encode({"a": Step("S", StepResult.ERROR, response=[nest(62)])})


@every_codec
def test_cycles_are_refused(codec: Any) -> None:
    """A list that contains itself ends in an error, not in a recursion."""
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(EncodeError, match="nested too deeply"):
        codec.encode(cycle)


@given(values)
def test_detection_finds_what_was_encoded(value: Any) -> None:
    """A top-level map is recognised by its first byte in each format."""
    registry = default_registry()
    for content_type in ContentType:
        payload = registry.codec(content_type).encode({"value": value})
        assert registry.detect(payload) is content_type


@given(st.lists(st.integers(0, 3), min_size=0, max_size=70))
def test_large_maps_are_detected(keys: list[int]) -> None:
    """Detection holds for maps of any size (the count moves out of the first byte)."""
    registry = default_registry()
    message = {str(index): key for index, key in enumerate(keys)}
    for content_type in ContentType:
        assert registry.detect(registry.codec(content_type).encode(message)) is content_type
