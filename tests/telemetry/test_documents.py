"""Events become documents: the recorded messages, and the laws of grouping."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.codecs.cbor import CborCodec
from oda.codecs.json import JsonCodec
from oda.codecs.messagepack import MessagePackCodec
from oda.model import Event, TelemetryDocument
from tests.telemetry import strategies
from tests.telemetry.gathered import documents

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "events.json").read_text("utf-8"))
CODECS = {"JSON": JsonCodec(), "MESSAGE_PACK": MessagePackCodec(), "CBOR": CborCodec()}
HOST_ID = "dev-1"


def event_of(member: dict[str, Any]) -> Event:
    return Event(
        member["datastreamId"],
        member["value"],
        member.get("deviceId", ""),
        member.get("at"),
        member.get("feed"),
        tuple(member.get("path", ())),
    )


def recorded(message: Any) -> Any:
    """A recorded message as a value, without the nulls that the recording's CBOR has."""
    if isinstance(message, str):
        message = CborCodec().decode(bytes.fromhex(message.removeprefix("hex:")))
    return without_nulls(message)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [without_nulls(member) for member in value]
    return value


@pytest.mark.parametrize("content_type", CODECS)
@pytest.mark.parametrize(
    "vector", VECTORS, ids=[f"{v['content_type']}-{v['form']}-{v['name']}" for v in VECTORS]
)
def test_recorded_messages(vector: dict[str, Any], content_type: str) -> None:
    """Every recorded list of events gives the recorded messages in every format, apart from the
    order of devices."""
    codec = CODECS[content_type]
    made = documents(
        [event_of(member) for member in vector["events"]],
        HOST_ID,
        now_ms=1,
        reduced=vector["form"] == "reduced",
    )
    sent = [codec.decode(codec.encode(document)) for document in made]
    expected = [recorded(message) for message in vector["messages"]]
    assert sorted(sent, key=repr) == sorted(expected, key=repr)


def place_of(event: Event) -> tuple[str, tuple[str, ...], str, str | None]:
    """Where an event belongs, said in another way than the code does."""
    if event.device_id in ("", HOST_ID):
        return (HOST_ID, event.path, event.datastream_id, event.feed)
    path = event.path if HOST_ID in event.path else (HOST_ID, *event.path)
    return (event.device_id, path, event.datastream_id, event.feed)


def datapoints_of(
    made: list[TelemetryDocument],
) -> dict[tuple[str, tuple[str, ...], str, str | None], list[tuple[Any, ...]]]:
    found: dict[Any, list[tuple[Any, ...]]] = defaultdict(list)
    for document in made:
        for stream in document.datastreams:
            place = (document.device or "", tuple(document.path or ()), stream.id, stream.feed)
            found[place] += [
                (type(point.value), point.at, point.value, point.from_)
                for point in stream.datapoints
            ]
    return dict(found)


def expected_datapoints(events: list[Event]) -> dict[Any, list[tuple[Any, ...]]]:
    expected: dict[Any, list[tuple[Any, ...]]] = defaultdict(list)
    for event in events:
        expected[place_of(event)].append(
            (type(event.value), event.at_ms, event.value, event.from_ms)
        )
    return dict(expected)


@given(st.lists(strategies.events, max_size=60))
def test_grouping_keeps_everything_in_order(events: list[Event]) -> None:
    """Together the documents hold each event exactly once, those of one device, path, datastream
    and feed in the order given; and no two documents have the same device and path."""
    made = documents(events, HOST_ID, now_ms=1)
    assert datapoints_of(made) == expected_datapoints(events)
    places = [(document.device, document.path) for document in made]
    assert len(set(places)) == len(places)
    for document in made:
        streams = [(stream.id, stream.feed) for stream in document.datastreams]
        assert len(set(streams)) == len(streams)


@given(st.lists(strategies.events, max_size=60))
def test_datastreams_stand_in_the_order_of_their_first_event(events: list[Event]) -> None:
    """The complete form keeps the order in which datastreams and feeds first appeared."""
    order = list(dict.fromkeys(place_of(event) for event in events))
    for document in documents(events, HOST_ID, now_ms=1):
        here = [
            (stream_id, feed)
            for device, path, stream_id, feed in order
            if device == document.device and path == tuple(document.path or ())
        ]
        assert [(stream.id, stream.feed) for stream in document.datastreams] == here


@given(st.lists(strategies.events, max_size=40))
def test_the_reduced_form_has_the_same_values(events: list[Event]) -> None:
    """The reduced form differs in the members it leaves out, not in what it says: no path, no
    ``at``, no device for the host."""
    complete = documents(events, HOST_ID, now_ms=1)
    reduced = documents(events, HOST_ID, now_ms=1, reduced=True)
    assert len(complete) == len(reduced)
    for full, small in zip(complete, reduced, strict=True):
        assert small.path is None
        assert small.device == (None if full.device == HOST_ID else full.device)
        values = {
            (stream.id, stream.feed): [point.value for point in stream.datapoints]
            for stream in full.datastreams
        }
        assert values == {
            (stream.id, stream.feed): [point.value for point in stream.datapoints]
            for stream in small.datastreams
        }
        assert all(point.at is None for stream in small.datastreams for point in stream.datapoints)


def test_an_event_without_a_time_gets_the_present() -> None:
    """``at`` is filled with the time of the event when it is absent, and 0 is a time."""
    (document,) = documents([Event("t", 1), Event("t", 2, at_ms=0)], HOST_ID, now_ms=77)
    assert [point.at for point in document.datastreams[0].datapoints] == [77, 0]


def test_the_start_of_the_period_is_sent() -> None:
    """A datapoint may carry ``from``."""
    (document,) = documents([Event("t", 1, at_ms=9, from_ms=5)], HOST_ID, now_ms=1)
    sent = JsonCodec().decode(JsonCodec().encode(document))
    assert sent["datastreams"][0]["datapoints"] == [{"at": 9, "from": 5, "value": 1}]
