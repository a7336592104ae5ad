"""Datapoints as people write them: what each text means, and what is refused."""

from __future__ import annotations

import pytest

from oda.control.entries import EntryError, infer_value, parse_entry, parse_time
from oda.model import Event


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("17", 17),
        ("-3", -3),
        ("18446744073709551615", 2**64 - 1),
        ("21.5", 21.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("true", True),
        ("false", False),
        ("null", None),
        ('{"a": [1, 2.5]}', {"a": [1, 2.5]}),
        ("[1, null]", [1, None]),
        ('"17"', "17"),
        ("open the door", "open the door"),
        ("", ""),
        ("nan", "nan"),
        ("1e999", "1e999"),
        ("99999999999999999999999", 1e23),
        ("0x10", "0x10"),
        ("True", "True"),
    ],
)
def test_the_type_of_a_value_is_inferred(text: str, value: object) -> None:
    """Numbers, truth values, null and JSON are recognised; the rest is text."""
    inferred = infer_value(text)
    assert inferred == value
    assert type(inferred) is type(value)


def test_a_device_stands_behind_the_at_sign() -> None:
    """``DATASTREAM@DEVICE=VALUE`` names another device; an equals sign may be in the value."""
    assert parse_entry("t@child-1=a=b") == Event(
        datastream_id="t", device_id="child-1", value="a=b"
    )


def test_json_makes_the_type_explicit() -> None:
    """With --json the value is JSON and nothing else."""
    assert parse_entry('t="1"', as_json=True).value == "1"
    with pytest.raises(EntryError, match="the value is no JSON"):
        parse_entry("t=open", as_json=True)


def test_an_object_gives_every_member() -> None:
    """The JSON form can say all that an event has."""
    text = (
        '{"datastream":"t","device":"d","value":[1],"at":5,"feed":"f","from":"1970-01-01T00:00:01Z"'
        ',"path":["a","b"]}'
    )
    assert parse_entry(text, at_ms=9) == Event(
        datastream_id="t",
        device_id="d",
        value=[1],
        at_ms=5,
        feed="f",
        from_ms=1000,
        path=("a", "b"),
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("temperature", "DATASTREAM"),
        ("=5", "names no datastream"),
        ("@dev=5", "names no datastream"),
        ("t={", "no JSON"),
        ('{"value":1}', "'datastream'"),
        ('{"datastream":"t"}', "'value' is missing"),
        ('{"datastream":"t","value":1,"atm":3}', "'atm'"),
        ('{"datastream":"t","value":1,"at":true}', "'at'"),
        ('{"datastream":"t","value":1,"at":"yesterday"}', "yesterday"),
        ('{"datastream":"t","value":1,"path":"a"}', "'path'"),
        ('{"datastream":"t","value":NaN}', "NaN"),
        ("{" * 100_000, "no JSON"),
    ],
)
def test_what_is_wrong_is_named(text: str, complaint: str) -> None:
    """A datapoint that can't be understood is refused with the member or the text at fault."""
    with pytest.raises(EntryError, match=complaint):
        parse_entry(text)


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1700000000000", 1_700_000_000_000),
        ("2023-11-14T22:13:20+00:00", 1_700_000_000_000),
        ("2023-11-14T23:13:20.5+01:00", 1_700_000_000_500),
        ("2023-11-14T22:13:20", 1_700_000_000_000),
    ],
)
def test_times_are_milliseconds_or_iso(text: str, at_ms: int) -> None:
    """A time without a zone is UTC: a device's own zone is often wrong."""
    assert parse_time(text) == at_ms
