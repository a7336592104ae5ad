"""Datapoints as people write them: what each text means, and what is refused."""

from __future__ import annotations

import pytest

from oda.control.entries import EntryError, ValueKind, infer_value, parse_entry, parse_time
from oda.model import Event


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("17", 17),
        ("-3", -3),
        ("18446744073709551615", 2**64 - 1),
        ("21.5", 21.5),
        ("1e3", 1000.0),
        ("0.1", 0.1),
        ("-0.5e-3", -0.0005),
        (".5", ".5"),
        ("5.", "5."),
        ("007", "007"),
        ("-07", "-07"),
        ("+34600123456", "+34600123456"),
        ("89014103211118510720", "89014103211118510720"),
        ("18446744073709551616", "18446744073709551616"),
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775809", "-9223372036854775809"),
        ("9" * 5000, "9" * 5000),
        ("Infinity", "Infinity"),
        ("\u0663", "\u0663"),
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
        ("99999999999999999999999", "99999999999999999999999"),
        ("0x10", "0x10"),
        ("True", "True"),
    ],
)
def test_the_type_of_a_value_is_inferred(text: str, value: object) -> None:
    """Numbers as JSON writes them, of 64 bits at most, truth values, null and JSON are recognised;
    the rest is text as it stands."""
    inferred = infer_value(text)
    assert inferred == value
    assert type(inferred) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "0.12345678901234567890",
        "1e-400",
        "9007199254740993.0",
        "[1, 0.12345678901234567890]",
        '{"a": 89014103211118510720}',
    ],
)
def test_a_number_that_would_lose_digits_is_refused(text: str) -> None:
    """What no number holds as it is written is said, not rounded; as a text it is sent."""
    with pytest.raises(EntryError, match=r"digits|64 bits"):
        infer_value(text)
    assert parse_entry(f"t={text}", ValueKind.TEXT).value == text


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("text", "17", "17"),
        ("text", " true ", " true "),
        ("text", "", ""),
        ("integer", "+007", 7),
        ("integer", "-5", -5),
        ("double", "7", 7.0),
        ("double", "0.12345678901234567890", 0.12345678901234568),
        ("double", "+.5", 0.5),
        ("boolean", "true", True),
        ("boolean", "false", False),
        ("json", '"17"', "17"),
    ],
)
def test_a_type_can_be_asked_for(kind: str, text: str, value: object) -> None:
    """The value is read as the type that was asked for."""
    read = parse_entry(f"t={text}", ValueKind(kind)).value
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("integer", "1.5"),
        ("integer", "18446744073709551616"),
        ("integer", "9" * 5000),
        ("integer", ""),
        ("double", "nan"),
        ("double", "1e999"),
        ("double", "five"),
        ("boolean", "1"),
        ("boolean", "null"),
        ("json", "open"),
    ],
)
def test_what_is_not_of_the_type_is_refused(kind: str, text: str) -> None:
    """A value that is not of the type asked for is an error, never another value."""
    with pytest.raises(EntryError):
        parse_entry(f"t={text}", ValueKind(kind))


@pytest.mark.parametrize(
    "text",
    [
        "name=caf\udce9",
        "caf\udce9=1",
        '{"datastream":"a","value":"\\ud800"}',
        '{"datastream":"\\udfff","value":1}',
    ],
)
def test_what_is_no_unicode_is_refused(text: str) -> None:
    """A byte that is no UTF-8, or half a surrogate pair, can't be sent: it is said of the entry."""
    with pytest.raises(EntryError, match="Unicode"):
        parse_entry(text)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("1700000000", "seconds"),
        ("1700000000000000", "microseconds"),
        ("1700000000000000000", "nanoseconds"),
        ("20240203", "a date"),
        ("20240203040506", "a date and time"),
    ],
)
def test_a_time_that_is_no_milliseconds_is_refused_unless_told(text: str, meaning: str) -> None:
    """Seconds, nanoseconds or a date where milliseconds are meant put a datapoint into another
    century: they are sent only if that is asked for."""
    for read in (
        lambda any_time: parse_time(text, any_time),
        lambda any_time: (
            parse_entry(f'{{"datastream":"t","value":1,"at":{text}}}', any_time=any_time).at_ms
        ),
        lambda any_time: (
            parse_entry(f'{{"datastream":"t","value":1,"from":{text}}}', any_time=any_time).from_ms
        ),
    ):
        with pytest.raises(EntryError, match=f"seems to be {meaning}"):
            read(False)
        assert read(True) == int(text)


def test_a_device_stands_behind_the_at_sign() -> None:
    """``DATASTREAM@DEVICE=VALUE`` names another device; an equals sign may be in the value."""
    assert parse_entry("t@child-1=a=b") == Event(
        datastream_id="t", device_id="child-1", value="a=b"
    )


def test_json_makes_the_type_explicit() -> None:
    """With --json the value is JSON and nothing else."""
    assert parse_entry('t="1"', ValueKind.JSON).value == "1"
    with pytest.raises(EntryError, match="the value is not JSON"):
        parse_entry("t=open", ValueKind.JSON)


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
        ("t={", "not JSON"),
        ('{"value":1}', "'datastream'"),
        ('{"datastream":"t"}', "'value' is missing"),
        ('{"datastream":"t","value":1,"atm":3}', "'atm'"),
        ('{"datastream":"t","value":1,"at":true}', "'at'"),
        ('{"datastream":"t","value":1,"at":"yesterday"}', "yesterday"),
        ('{"datastream":"t","value":1,"path":"a"}', "'path'"),
        ('{"datastream":"t","value":NaN}', "NaN"),
        ("{" * 100_000, "not JSON"),
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


@pytest.mark.parametrize(
    "text",
    [
        '{"datastream": "a", "value": 1, "value": 2}',
        '{"datastream": "a", "value": {"value": 1, "value": 2}}',
        't=[{"value": 1, "value": 1}]',
    ],
)
def test_a_member_given_twice_is_refused(text: str) -> None:
    """One of the two would be lost without a word."""
    with pytest.raises(EntryError, match="'value' is given twice"):
        parse_entry(text)
