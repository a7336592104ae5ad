"""What the tests of the codecs generate: values a datapoint can have."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

integers = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([-(2**63), -(2**31) - 1, -33, -1, 0, 127, 128, 255, 256, 2**32, 2**64 - 1]),
)
#: Any text that UTF-8 can carry, which excludes surrogates; beyond the BMP too.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
scalars = st.one_of(
    st.none(), st.booleans(), integers, st.floats(allow_nan=False, allow_infinity=False), texts
)


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
        max_leaves=25,
    )


#: What every format carries.
values = nested(scalars)
#: What the binary formats carry.
binary_values = nested(scalars | st.binary(max_size=40))
