"""The comparison itself: it finds what it should, and only that."""

from __future__ import annotations

import json
from typing import Any

from oda.platform.recording import RecordedMessage
from tests.chaos.ledger import Ledger, datapoint


def message(number: int, connection: int, position: int, at_ms: int, *points: Any) -> Any:
    """A document with these datapoints of datastream ``a``."""
    document = {"version": "9.0", "datastreams": [{"id": "a", "datapoints": list(points)}]}
    return RecordedMessage(
        number=number,
        connection=connection,
        position=position,
        device="dev",
        direction="in",
        at_ms=at_ms,
        size=0,
        format="JSON",
        is_text=False,
        payload=json.dumps(document).encode(),
    )


def points(*numbers: int) -> list[dict[str, Any]]:
    return [datapoint("a", number) for number in numbers]


def test_a_whole_delivery_has_no_problem() -> None:
    """Each number once, in order, as it was sent."""
    ledger = Ledger()
    ledger.read([message(1, 1, 1, 0, *points(0, 1)), message(2, 1, 2, 0, *points(2))])
    assert ledger.problems == []
    assert ledger.missing({"a": [0, 1, 2]}) == []
    assert (ledger.datapoints, ledger.repeated_datapoints) == (3, 0)


def test_what_is_missing_is_named() -> None:
    """Only what was accepted can be missing."""
    ledger = Ledger()
    ledger.read([message(1, 1, 1, 0, *points(0, 5))])
    assert ledger.missing({"a": [0, 1], "b": [2]}) == [
        "a 1 was accepted and has not arrived",
        "b 2 was accepted and has not arrived",
    ]


def test_order_counts_among_first_arrivals() -> None:
    """An older number may come again, but not for the first time."""
    ledger = Ledger()
    ledger.read([message(1, 1, 1, 0, *points(0, 2)), message(2, 1, 2, 0, *points(0))])
    assert ledger.disorder == []
    ledger.read([message(3, 1, 3, 0, *points(1))])
    assert ledger.disorder == ["a 1 arrived after 2"]
    assert ledger.problems == []


def test_an_altered_value_or_time_shows() -> None:
    """The value and the time follow from the number."""
    ledger = Ledger()
    late = {**datapoint("a", 0), "at": 5}
    ledger.read([message(1, 1, 1, 0, late)])
    assert len(ledger.problems) == 1


def test_repeats_have_to_be_explained() -> None:
    """By the window, or by having been acknowledged shortly before the connection ended."""
    first = [message(n + 1, 1, n + 1, 1000 * n, *points(n)) for n in range(10)]
    for again, problems in ((9, 0), (8, 0), (6, 0), (5, 1), (0, 1)):
        ledger = Ledger()
        ledger.read(first)
        ledger.read([message(20, 2, 1, 12_000, *points(again))])
        assert ledger.repeated_messages == 1
        found = ledger.unjustified_repeats(window=1, linger_s=3.0)
        assert len(found) == problems, again
    assert not ledger.unjustified_repeats(window=10, linger_s=3.0)


def test_a_store_that_was_read_again_explains_repeats_on_one_connection() -> None:
    """Of what was acknowledged a short while before, and only where that is expected."""
    for at_ms, problems in ((2900, 0), (3100, 1)):
        ledger = Ledger()
        ledger.read([message(1, 1, 1, 0, *points(0)), message(2, 1, 2, at_ms, *points(0))])
        ledger.read([message(number, 1, number, at_ms, *points(number)) for number in (3, 4, 5)])
        assert len(ledger.unjustified_repeats(1, 3.0, rereads=True)) == problems
        assert len(ledger.unjustified_repeats(1, 3.0)) == 1


def test_there_is_a_bound_on_repeats() -> None:
    """A window for each connection but the first, and so many of each document."""
    ledger = Ledger()
    assert ledger.most_repeats == 0
    for connection in range(1, 5):
        documents = [message(n, connection, n + 1, 0, *points(n)) for n in range(10)]
        ledger.read(documents)
    assert (ledger.repeated_messages, ledger.most_repeats) == (30, 3)
    assert ledger.superfluous_repeats(window=0, repeats=3) == []
    assert ledger.superfluous_repeats(window=4, repeats=2) == []
    assert ledger.superfluous_repeats(window=10, repeats=0) == []
    assert ledger.superfluous_repeats(window=3, repeats=2) == [
        "30 messages came again, 29 can be explained"
    ]
