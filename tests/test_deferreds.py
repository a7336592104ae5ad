"""A Deferred's result is taken as it is only where a callback would get the same at once."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from oda.deferreds import result_now
from oda.model import Answer


class Foreign(Deferred[Any]):
    """A subclass, whose attributes may be anything."""


def chained() -> Deferred[Any]:
    """It waits for a Deferred that its callback has returned."""
    waiting: Deferred[Any] = Deferred()
    return succeed(Answer(b"early")).addCallback(lambda _: waiting)


def paused() -> Deferred[Any]:
    """Its owner holds its callbacks back."""
    deferred: Deferred[Any] = Deferred()
    deferred.pause()
    deferred.callback(Answer(b"held"))
    return deferred


def foreign() -> Deferred[Any]:
    """A subclass that has fired."""
    deferred = Foreign()
    deferred.callback(Answer(b"foreign"))
    return deferred


def test_a_fired_deferred_of_that_kind_has_its_result() -> None:
    """A Deferred that has fired with the kind asked for has its result."""
    answer = Answer(b"a")
    assert result_now(succeed(answer), Answer) is answer


@pytest.mark.parametrize("make", [Deferred, chained, paused, foreign, lambda: succeed(b"bytes")])
def test_everything_else_needs_a_callback(make: Any) -> None:
    """One that has not fired, waits, is held back, is a subclass or has another result counts as
    not fired."""
    assert result_now(make(), Answer) is None


def test_a_failure_needs_an_errback() -> None:
    """A failure is no result, even for its own type."""
    failed = fail(ValueError("no"))
    try:
        assert result_now(failed, Answer) is None
    finally:
        failed.addErrback(lambda _: None)
