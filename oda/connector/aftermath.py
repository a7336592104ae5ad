"""What becomes of the messages of a connection that has ended.

What was taken from the outbox goes back to it, but for a message over which the platform ended the
connection (see ``suspects``); whether acknowledged ones are sent again is decided by ``replay``.
After a normal closure they need not be kept.
"""

from __future__ import annotations

from oda.connector.outcome import NORMAL_CLOSURE, Cause, Outcome
from oda.connector.replay import ReplayRule
from oda.connector.session import Session
from oda.connector.suspects import Suspects
from oda.interfaces import IOutbox


class Aftermath:
    """Remembers, from one connection to the next, who is suspected and what was repeated."""

    def __init__(self) -> None:
        self.suspects = Suspects()
        self._replay = ReplayRule()

    def connection_ended(self, outbox: IOutbox, session: Session, outcome: Outcome) -> None:
        """Give back to ``outbox`` what ``session`` had taken. Raises what the outbox raises."""
        flight = session.flight
        culprit = self.suspects.connection_ended(
            outcome, flight.row_ids, session.sent, session.is_proven
        )
        if culprit is not None:
            outbox.bury([culprit], f"nothing else was on its way: {outcome.reason}")
        replays = self._replay.connection_ended(outcome, flight.acknowledged, culprit is not None)
        limit = session.replay_bytes if outcome.cause is Cause.AGENT else None
        if replays and limit is not None and not flight.has_let_go:
            # The agent gave up a slow link, and the platform had seconds to store what it proved.
            outbox.rewind(replays, limit)
        else:
            outbox.rewind(replays or flight.has_let_go)
        if outcome.close_code == NORMAL_CLOSURE and not flight.has_let_go:
            outbox.settle()
