"""Events for property tests: few names, so that they meet."""

from __future__ import annotations

from hypothesis import strategies as st

from oda.model import Event

values = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.lists(st.integers(-5, 5), max_size=4),
    st.dictionaries(st.text("xy", max_size=2), st.integers(-5, 5), max_size=3),
)

events = st.builds(
    Event,
    datastream_id=st.sampled_from(["a", "b", "c"]),
    value=values,
    device_id=st.sampled_from(["", "dev-1", "child-1", "child-2"]),
    at_ms=st.integers(0, 2**41),
    feed=st.sampled_from([None, "f1", "f2"]),
    path=st.sampled_from([(), ("gw",), ("dev-1",), ("dev-1", "gw")]),
    from_ms=st.one_of(st.none(), st.integers(0, 2**41)),
)
