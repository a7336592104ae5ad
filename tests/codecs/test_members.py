"""The members of an object are found without decoding the message."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from oda.codecs import CborCodec, JsonCodec, Limits, MessagePackCodec
from oda.errors import DecodeError
from oda.interfaces import ITolerantDecoding

CODECS = [JsonCodec(), MessagePackCodec(), CborCodec()]
EACH = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.content_type.name)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=30,
)
#: The caller's names are not anything: they stand in the code.
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=5).filter(
    lambda name: not set('"\\') & set(name)
)


@EACH
def test_it_provides_the_interface(codec: Any) -> None:
    """Every built-in codec can tell who asks."""
    assert verifyObject(ITolerantDecoding, codec)


@settings(max_examples=150, deadline=None)
@given(
    codec=st.sampled_from(CODECS),
    members=st.dictionaries(NAMES, VALUES, max_size=20),
    beside=VALUES,
)
def test_the_members_are_those_that_decoding_gives(
    codec: Any, members: dict[str, Any], beside: Any
) -> None:
    """Each slice is one member, whole."""
    payload = codec.encode(
        {"x": beside, "a": {"y": beside, "b": members, "z": beside}, "w": beside}
    )
    found = codec.members(payload, "a", "b", names=list(members))
    assert {key: codec.decode_tolerantly(member) for key, member in found.items()} == members
    assert {key: codec.decode(member) for key, member in found.items()} == members


@settings(max_examples=150, deadline=None)
@given(codec=st.sampled_from(CODECS), value=VALUES, cut=st.integers(1, 30))
def test_half_a_message_has_no_members(codec: Any, value: Any, cut: int) -> None:
    """What is cut off anywhere is malformed."""
    payload = codec.encode({"a": {"b": value}})
    with pytest.raises(DecodeError):
        codec.members(payload[: max(1, len(payload) - cut)], "a", names=["b"])


@settings(max_examples=200, deadline=None)
@given(codec=st.sampled_from(CODECS), rubbish=st.binary(max_size=60))
def test_rubbish_raises_nothing_else(codec: Any, rubbish: bytes) -> None:
    """Members, none, or ``DecodeError``."""
    for start in (b"", b'{"a":', b"\x81\xa1a", b"\xa1\x61a"):
        try:
            members = codec.members(start + rubbish, "a", names=["a"])
        except DecodeError:
            continue
        assert members is None or all(type(member) is bytes for member in members.values())


@EACH
@pytest.mark.parametrize("message", [{"a": 5}, {"a": [1]}, {"b": {}}, {"a": "x"}, {}])
def test_where_there_is_no_object_there_are_no_members(codec: Any, message: Any) -> None:
    """That is no fault of the message."""
    assert codec.members(codec.encode(message), "a", names=["b"]) is None


@pytest.mark.parametrize("kind", [MessagePackCodec, CborCodec])
def test_only_so_many_items_are_looked_at(kind: Any) -> None:
    """The walk costs time for each item: a crowded message is not searched to its end. What stands
    before the crowd is found, and what stands behind it is not."""
    codec = kind(Limits(max_items=100))
    few, many = {"x": [0] * 10}, {"x": [0] * 1000}
    for crowd, found in ((few, {"b", "c", "d"}), (many, {"b"})):
        payload = kind().encode({"a": {"b": 1, "c": crowd, "d": 2}})
        members = codec.members(payload, "a", names="bcd")
        assert set(members or ()) == found
        assert members["b"] == kind().encode(1)
    before = kind().encode({"o": many, "a": {"b": 1}})
    assert codec.members(before, "a", names="bcd") is None
    behind = kind().encode({"a": {"b": 1, "c": "x"}, "o": many})
    assert codec.members(behind, "a", names="bcd") == {
        "b": kind().encode(1),
        "c": kind().encode("x"),
    }


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"1e400", "1e400"),
        (b"-1.5E999", "-1.5E999"),
        (b"9" * 5000, "9" * 5000),
        (b'"\\ud800"', "\ufffd"),
        (b'"\\udc00\\ud800x"', "\ufffd\ufffdx"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\\\ud800"', "\\ud800"),
        (b'"\\\\\\ud800"', "\\\ufffd"),
        (b'"\xff"', "\ufffd"),
        (b'[1e400,{"a":1.5}]', ["1e400", {"a": 1.5}]),
    ],
)
def test_json_is_read_as_far_as_it_can_be(payload: bytes, value: Any) -> None:
    """A number out of range becomes its text, half a surrogate pair U+FFFD; an escaped backslash
    begins no escape."""
    assert JsonCodec().decode_tolerantly(payload) == value


@pytest.mark.parametrize("payload", [b"", b"nul", b"[1,", b"[" * 70 + b"]" * 70, b'"a'])
def test_what_nothing_can_mend_is_refused(payload: bytes) -> None:
    """Malformed, or nested too deeply."""
    with pytest.raises(DecodeError):
        JsonCodec().decode_tolerantly(payload)
