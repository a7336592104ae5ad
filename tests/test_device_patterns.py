"""Device patterns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.model import DevicePattern, device_order


@pytest.mark.parametrize(
    ("pattern", "device_id", "named"),
    [
        ("", "", True),
        ("", "child-1", False),
        ("child-1", "child-1", True),
        ("child-1", "child-10", False),
        ("child-1", "", False),
        ("*", "", True),
        ("*", "anything", True),
        ("child*", "child-1", True),
        ("child*", "child", True),
        ("child*", "my-child", False),
        ("child*", "", False),
        ("*-1", "child-1", True),
        ("*-1", "child-2", False),
        ("c*1", "child-1", True),
        ("c*1", "c1", True),
        ("c*1", "c12", False),
        ("aa*aa", "aaa", False),
        ("aa*aa", "aaaa", True),
        ("a*b*", "aXbX", False),
        ("a*b*", "a*b*", True),
    ],
)
def test_which_devices_a_pattern_names(pattern: str, device_id: str, named: bool) -> None:
    """One star stands for any text, also none; prefix and suffix don't overlap; "" is the host."""
    assert DevicePattern(pattern).matches(device_id) is named


@given(st.text(st.characters(exclude_characters="*")), st.text(), st.text())
def test_a_star_stands_for_any_text(prefix: str, middle: str, suffix: str) -> None:
    """Whatever is put in the star's place gives an id that the pattern names."""
    suffix = suffix.replace("*", "")
    assert DevicePattern(f"{prefix}*{suffix}").matches(f"{prefix}{middle}{suffix}")


def test_the_host_comes_first() -> None:
    """Devices are listed with the host first and the others by id."""
    assert sorted(["b", "", "a"], key=device_order) == ["", "a", "b"]
