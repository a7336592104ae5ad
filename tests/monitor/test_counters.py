"""Counting is exact, and labels tell apart."""

from __future__ import annotations

from zope.interface.verify import verifyObject

from oda.interfaces import ICounters
from oda.monitor.counters import Counters


def test_counters_provides_its_interface() -> None:
    """``Counters`` is what the other packages expect."""
    assert verifyObject(ICounters, Counters())


def test_counts_add_up_over_the_labels_not_asked_for() -> None:
    """A count without labels is the sum over all of them."""
    counters = Counters()
    counters.increment("messages", kind="a")
    counters.increment("messages", 4, kind="b", reason="x")
    counters.increment("others")
    assert counters.count("messages") == 5
    assert counters.count("messages", kind="b") == 4
    assert counters.count("messages", reason="x", kind="a") == 0


def test_a_summary_keeps_count_total_and_last() -> None:
    """What was measured can be averaged, and its last value seen."""
    counters = Counters()
    counters.observe("delay_seconds", 1.0)
    counters.observe("delay_seconds", 3.0)
    (summary,) = counters.summaries().values()
    assert (summary.count, summary.total, summary.last) == (2, 4.0, 3.0)


def test_the_order_of_labels_makes_no_difference() -> None:
    """One counter and one summary, whichever of its labels a caller names first; the counters read
    later are those as they were, not those that count on."""
    counters = Counters()
    counters.increment("messages", kind="a", reason="x")
    counters.increment("messages", 2, reason="x", kind="a")
    counters.observe("delay_seconds", 1.0, kind="a", reason="x")
    counters.observe("delay_seconds", 5.0, reason="x", kind="a")
    counted = counters.counts()
    counters.increment("messages", kind="a", reason="x")
    assert counted == {("messages", (("kind", "a"), ("reason", "x"))): 3}
    (summary,) = counters.summaries().values()
    assert (summary.count, summary.last) == (2, 5.0)
