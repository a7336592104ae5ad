"""A Deferred's result is taken as it is only where a callback would get the same at once."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from oda.deferreds import has_fired_with
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


def test_a_fired_deferred_of_that_kind_counts() -> None:
    """A Deferred that has fired with the kind asked for has its result."""
    assert has_fired_with(succeed(Answer(b"a")), Answer)


@pytest.mark.parametrize("make", [Deferred, chained, paused, foreign, lambda: succeed(b"bytes")])
def test_everything_else_needs_a_callback(make: Any) -> None:
    """One that has not fired, waits, is held back, is a subclass or has another result counts as
    not fired."""
    assert not has_fired_with(make(), Answer)


def test_a_failure_needs_an_errback() -> None:
    """A failure is no result, even for its own type."""
    failed = fail(ValueError("no"))
    try:
        assert not has_fired_with(failed, Answer)
    finally:
        failed.addErrback(lambda _: None)
