"""Cutting keeps every datapoint, its order, and the bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.codecs.json import JsonCodec
from oda.errors import EncodeError
from oda.model import Event, TelemetryDocument
from oda.telemetry.documents import Bundle, cut, encode_parts
from tests.telemetry import gathered, strategies
from tests.telemetry.test_documents import HOST_ID, datapoints_of, expected_datapoints

encode = JsonCodec().encode


def bundles_of(events: list[Event]) -> list[Bundle]:
    return gathered.bundles(events, HOST_ID, now_ms=0)


@given(st.lists(strategies.events, max_size=60), st.integers(1, 12))
def test_cutting_by_number(events: list[Event], most: int) -> None:
    """The parts hold at most the bound, all but the last exactly it, and together each event
    once, in order."""
    made = []
    for bundle in bundles_of(events):
        parts = list(cut(bundle, most))
        assert [len(part) for part in parts[:-1]] == [most] * (len(parts) - 1)
        assert 1 <= len(parts[-1]) <= most
        made += [part.complete() for part in parts]
    assert datapoints_of(made) == expected_datapoints(events)


@given(st.lists(strategies.events, max_size=60), st.integers(40, 400))
def test_cutting_by_size(events: list[Event], most: int) -> None:
    """Every payload fits; a datapoint is left out only if it does not fit alone; the others are
    all there, in order, and each still belongs to its owner."""
    made: list[TelemetryDocument] = []
    refused: set[object] = set()
    owners: list[object] = []
    for bundle in bundles_of(events):
        for part in encode_parts(bundle, encode, most):
            if part.payload is None:
                assert len(part.bundle) == 1
                assert len(encode(part.bundle.complete())) > most
                assert str(most) in part.problem
                refused.update(part.bundle.runs[0].owners)
                continue
            assert len(part.payload) <= most
            assert part.payload == encode(part.bundle.complete())
            made.append(part.bundle.complete())
            for run in part.bundle.runs:
                for point, owner in zip(run.datapoints, run.owners, strict=True):
                    assert isinstance(owner, int)
                    assert (point.value, point.at) == (events[owner].value, events[owner].at_ms)
                    owners.append(owner)
    assert datapoints_of(made) == expected_datapoints(
        [event for index, event in enumerate(events) if index not in refused]
    )
    assert sorted([*owners, *refused], key=repr) == sorted(range(len(events)), key=repr)


def test_what_fits_is_not_cut() -> None:
    """A document exactly as long as the maximum is one message; one byte less makes two."""
    (bundle,) = bundles_of([Event("t", n, at_ms=n) for n in range(10)])
    size = len(encode(bundle.complete()))
    assert len(list(encode_parts(bundle, encode, size))) == 1
    assert len(list(encode_parts(bundle, encode, size - 1))) == 2


def test_one_value_that_can_not_be_encoded_does_not_take_the_others_along() -> None:
    """The codec refuses one datapoint: it alone becomes a part without payload."""

    def picky(document: TelemetryDocument) -> bytes:
        for stream in document.datastreams:
            for point in stream.datapoints:
                if point.value == 13:
                    raise EncodeError("unlucky", "$.value")
        return encode(document)

    (bundle,) = bundles_of([Event("t", n, at_ms=n) for n in range(40)])
    parts = list(encode_parts(bundle, picky, 10_000))
    sent = [
        point.value
        for part in parts
        if part.payload is not None
        for run in part.bundle.runs
        for point in run.datapoints
    ]
    assert sent == [n for n in range(40) if n != 13]
    (refused,) = [part for part in parts if part.payload is None]
    assert refused.bundle.runs[0].owners == [13]
    assert "unlucky" in refused.problem


@pytest.mark.parametrize("number", [500, 501, 1000, 1001])
def test_a_document_holds_at_most_500_datapoints(number: int) -> None:
    """The bound on the number holds by default."""
    (bundle,) = bundles_of([Event("t", n, at_ms=n) for n in range(number)])
    sizes = [len(part.bundle) for part in encode_parts(bundle, encode, 10**9)]
    assert sum(sizes) == number
    assert max(sizes) <= 500
    assert len(sizes) == -(-number // 500)
