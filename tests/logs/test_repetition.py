"""A line that repeats is counted, not written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oda.logs.repetition import RepetitionLimit, identity_of
from tests.logs.events import event, failure


def test_a_few_are_written_the_rest_counted() -> None:
    """Within the window so many pass; when it is over, the number of the others is due once."""
    limit = RepetitionLimit(allowed=3, window_s=60.0)
    assert [limit.admit(event(), second) for second in range(10)] == [True] * 3 + [False] * 7
    assert limit.due(59.9) == []
    (repeated,) = limit.due(60.0)
    assert repeated.count == 7
    assert limit.due(1000.0) == []
    assert limit.admit(event(), 1000.0)


def test_numbers_do_not_tell_lines_apart() -> None:
    """ "connecting again in 3.2 s" and "... 6.1 s" are one line; another reason is another."""
    assert identity_of(event(delay=3.2, port=1)) == identity_of(event(delay=6.1, port=2))
    assert identity_of(event(reason="a")) != identity_of(event(reason="b"))
    assert identity_of(event("x")) != identity_of(event("y"))
    assert identity_of(event(namespace="oda.a")) != identity_of(event(namespace="oda.b"))


def test_failures_are_told_apart_by_what_failed() -> None:
    """The same text with another exception is news."""
    one, same, other = (failure(error) for error in (ValueError("1"), ValueError("1"), KeyError()))
    assert identity_of(event(log_failure=one)) == identity_of(event(log_failure=same))
    assert identity_of(event(log_failure=one)) != identity_of(event(log_failure=other))


def test_everything_is_due_at_the_end() -> None:
    """What was held back is written when the agent stops."""
    limit = RepetitionLimit(allowed=1)
    for text in ("a", "a", "b"):
        limit.admit(event(text), 0.0)
    assert [repeated.count for repeated in limit.due(0.0, everything=True)] == [1]


def test_many_different_lines_use_bounded_memory() -> None:
    """The oldest are forgotten; their count is due then."""
    limit = RepetitionLimit(allowed=1)
    forgotten = []
    for number in range(1100):
        forgotten += limit.due(0.0)
        limit.admit(event(reason=str(number)), 0.0)
        limit.admit(event(reason=str(number)), 0.0)
    forgotten += limit.due(0.0)
    assert [repeated.event["reason"] for repeated in forgotten] == [str(n) for n in range(100)]
    assert len(limit.due(0.0, everything=True)) == 1000


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 30)), max_size=60))
def test_no_line_is_lost(sequence: list[tuple[str, float]]) -> None:
    """Written and counted lines together are all there were, whatever the order and the pauses."""
    limit = RepetitionLimit(allowed=2, window_s=20.0)
    now_s, written, counted = 0.0, 0, 0
    for text, pause_s in sequence:
        now_s += pause_s
        counted += sum(repeated.count for repeated in limit.due(now_s))
        written += limit.admit(event(text), now_s)
    counted += sum(repeated.count for repeated in limit.due(now_s, everything=True))
    assert written + counted == len(sequence)


def test_lines_of_output_that_differ_are_different() -> None:
    """What is printed comes with one format: each text is a line of its own."""
    limit = RepetitionLimit(allowed=1)
    for text in ("alpha", "bravo", "hotel", "Traceback: reason"):
        printed = {"log_namespace": "stdout", "log_format": "{log_io}", "log_io": text}
        assert limit.admit(printed, 0.0)
        assert not limit.admit(printed, 0.0)
