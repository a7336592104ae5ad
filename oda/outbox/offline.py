"""Changes the outbox of an agent that has stopped, by the outbox itself on a clock that stands
still.

A running agent is asked through its control socket instead, see ``oda.upkeep``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.errors import OutboxError
from oda.interfaces import ICounters, IWallClock
from oda.outbox import importing
from oda.outbox.clock import this_machine
from oda.outbox.committer import State
from oda.outbox.importing import TakenOver
from oda.outbox.outbox import Outbox
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.worker import InlineWorker
from oda.settings import OutboxSettings


@implementer(ICounters)
class _NoCounters:
    """The totals of the store are enough."""

    def increment(self, name: str, amount: int = 1, **labels: str) -> None:
        """Not counted."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Not counted."""


@contextmanager
def offline(
    path: Path,
    settings: OutboxSettings,
    wall_clock: IWallClock,
    clock: Clock | None = None,
    must_exist: bool = True,
) -> Iterator[Outbox]:
    """The outbox at ``path``, closed and committed at the end. It stands on ``clock``.

    Raises ``OutboxError`` when there is no such file, an agent runs, or it can't be used.
    """
    if must_exist and not path.is_file():
        raise OutboxError(f"{path}: there is no such file")
    clock = clock or Clock()
    # Nothing that lingers is forgotten by a look from outside, and nothing is too old.
    settings = msgspec.structs.replace(settings, path=path, max_age_s=0.0)
    store = SqliteStore(path, settings)
    outbox = Outbox(
        settings, store, InlineWorker(), clock, wall_clock, _NoCounters(), this_machine()
    )
    outbox.open()
    try:
        if outbox.state is not State.OPEN:
            raise OutboxError(f"{path}: it can't be used")
        while outbox.is_recovering:
            clock.advance(0)
            if outbox.state is not State.OPEN:
                # It would be tried again in a while, but time does not pass here.
                raise OutboxError(f"{path}: it is damaged, and can't be taken over into a new one")
        yield outbox
        clock.advance(0)
        if outbox.state is not State.OPEN:
            raise OutboxError(f"{path}: it can't be written")
    finally:
        outbox.close()


def purge(path: Path, settings: OutboxSettings, wall_clock: IWallClock) -> int:
    """Drop everything that waits, and the dead letters; returns how many messages. Raises as
    ``offline``."""
    return _changed(path, settings, wall_clock, Outbox.purge)


def retry_dead(path: Path, settings: OutboxSettings, wall_clock: IWallClock) -> int:
    """Put the dead letters behind everything that waits; returns how many. Damaged ones stay.
    Raises as ``offline``, and ``OutboxFull`` where the room ends."""
    return _changed(path, settings, wall_clock, Outbox.retry_dead)


def take_over(
    source: Path, path: Path, settings: OutboxSettings, wall_clock: IWallClock
) -> TakenOver:
    """Take the store at ``source`` over into the one at ``path``, which need not exist yet. Raises
    as ``offline``."""
    clock = Clock()
    with offline(path, settings, wall_clock, clock, must_exist=False) as outbox:
        results: list[Any] = []
        taking = importing.take_over(source, settings, outbox, InlineWorker())
        taking.addBoth(results.append)
        while not results:
            if outbox.state is not State.OPEN:
                taking.cancel()
                raise OutboxError(f"{path}: it can't be written")
            clock.advance(0)
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    taken: TakenOver = result
    return taken


def _changed(
    path: Path, settings: OutboxSettings, wall_clock: IWallClock, change: Callable[[Outbox], int]
) -> int:
    with offline(path, settings, wall_clock) as outbox:
        return change(outbox)
