"""The order in which the addresses of a name are tried."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oda.connector.connecting import KnownAddresses, interleave

FOUND = ["2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2", "192.0.2.3"]


def test_families_take_turns() -> None:
    """One family that leads nowhere costs one head start; the first is the resolver's first."""
    assert interleave(FOUND) == [
        *["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3"]
    ]
    assert interleave(FOUND[::-1])[:2] == ["192.0.2.3", "2001:db8::2"]
    assert interleave([]) == []


def test_what_worked_comes_first() -> None:
    """Wherever the resolver puts it, and whatever has disappointed before."""
    known = KnownAddresses()
    known.disappointed("192.0.2.2")
    known.opened("192.0.2.2")
    assert known.order(FOUND)[0] == "192.0.2.2"
    known.opened("192.0.2.3")
    assert known.order(FOUND)[0] == "192.0.2.3"
    assert known.order(["192.0.2.1"]) == ["192.0.2.1"]


def test_what_disappointed_comes_last() -> None:
    """The longest ago is the first of them; an address that worked before is no exception."""
    known = KnownAddresses()
    known.opened("192.0.2.1")
    for address in ("2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::1"):
        known.disappointed(address)
    assert known.order(FOUND) == [
        *["192.0.2.2", "192.0.2.3", "192.0.2.1", "2001:db8::2", "2001:db8::1"]
    ]


def test_all_may_disappoint() -> None:
    """Then the one that did so the longest ago is the first: they take turns."""
    known = KnownAddresses()
    two = ["192.0.2.1", "192.0.2.2"]
    tried = []
    for _ in range(4):
        tried.append(known.order(two)[0])
        known.disappointed(tried[-1])
    assert tried == two * 2


@given(st.lists(st.sampled_from(FOUND), unique=True), st.lists(st.sampled_from(FOUND)))
def test_nothing_is_lost_or_added(found: list[str], ends: list[str]) -> None:
    """Whatever happened before, each address that was found is tried once."""
    known = KnownAddresses()
    for number, address in enumerate(ends):
        (known.opened if number % 3 else known.disappointed)(address)
    assert sorted(known.order(found)) == sorted(found)


def test_the_memory_has_a_limit() -> None:
    """A name may have other addresses every time: only the newest are remembered."""
    known = KnownAddresses()
    many = [f"192.0.2.{number}" for number in range(100)]
    for address in many:
        known.disappointed(address)
    assert known.order(many) == many
    assert known.order(["192.0.2.99", "192.0.2.5"]) == ["192.0.2.5", "192.0.2.99"]
