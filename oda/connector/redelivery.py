"""What happens to the messages of a connection that has ended: sent again, set aside, or retained.

``Aftermath`` gives back to the outbox what the connection had taken, except for a message that made
the platform end the connection. ``Suspects`` finds that message, so that the rest can be delivered.
``ReplayRule`` decides whether to send lingering (acknowledged) messages again, too. After a normal
closure the outbox need not retain them.

*Suspects.* A connection usually ends with many messages in flight, and any of them (or none) may be
the reason. A message is *isolated* if it was in flight when the platform refused something (codes
1003, 1007, 1008, 1009), or at two ends in a row. The next connection sends each isolated message
alone, after a pong has shown that the connection works, and sends nothing more until the message is
acknowledged. If the connection ends at that point, the message is the culprit: at once after a
refusal, otherwise after the third end in a row. An acknowledgement clears a message. A culprit
explains the ends that it has shared with others: the count of those starts again, and each of them
still goes alone.

Some platforms end each connection after a number of messages or bytes, whatever these are. So only
the first message on its connection can be found guilty, unless the code leaves no doubt (1003,
1007, 1009). ``ReplayRule`` makes sure that each message gets to be the first.

Ends by the agent itself don't count: a missing pong is the network's fault as often as not. A
normal closure, or a platform that goes away, restarts or asks the agent to wait, condemns no
message but isolates those in flight. A platform that closes after every few messages then gets them
one by one, so that it acknowledges some. A policy violation (1008) may be about the device and not
about the message, so the agent does not find two messages in a row guilty of it at first sight.

*Replay.* After an end at which the platform may have lost what it had read (``Outcome.replay``),
the agent sends lingering messages again. But a platform that ends every connection this way after a
number of messages would get the same ones for ever: they go first, are acknowledged again, and
linger again. So after ``MAX_IN_VAIN`` repetitions in a row without a new acknowledgement, these
messages stay where they are. The next connection begins with what the platform has not yet
acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from oda.connector.outcome import NORMAL_CLOSURE, REFUSAL_CODES, Cause, Outcome
from oda.interfaces import IOutbox
from oda.model import MessageClass

if TYPE_CHECKING:
    from oda.connector.session import Session

# -- suspects ------------------------------------------------------------------------------------


#: Number of ends in a row after which a message that was in flight at each is isolated ...
_ISOLATED_AFTER = 2
#: ... and set aside.
_GUILTY_AFTER = 3
#: Codes with which the platform speaks of itself (RFC 6455, section 7.4.1, and the IANA registry).
_NOT_ABOUT_MESSAGES = frozenset({NORMAL_CLOSURE, 1001, 1012, 1013})
_POLICY_VIOLATION = 1008
_BEYOND_DOUBT = REFUSAL_CODES - {_POLICY_VIOLATION}
#: Rows may leave the outbox unacknowledged; beyond this number the oldest are forgotten.
_MAX_SUSPECTS = 4096


class Suspects:
    """Counts, for each row, the ends in a row of connections on which it was in flight."""

    def __init__(self) -> None:
        self._strikes: dict[int, int] = {}
        #: How many of a row's strikes isolate it but say nothing about it.
        self._neutral: dict[int, int] = {}
        self._judged_by_policy = False

    def __bool__(self) -> bool:
        """True while there is any suspect."""
        return bool(self._strikes)

    def is_isolated(self, row_id: int) -> bool:
        """True when this row must be sent alone."""
        return self._strikes.get(row_id, 0) >= _ISOLATED_AFTER

    def acknowledged(self, row_ids: Iterable[int]) -> None:
        """The platform has read these rows, and the connection has survived that."""
        self._judged_by_policy = False
        if self._strikes:
            for row_id in row_ids:
                self._strikes.pop(row_id, None)
                self._neutral.pop(row_id, None)

    def connection_ended(
        self, outcome: Outcome, in_flight: Sequence[int | None], sent: int, proven: bool
    ) -> int | None:
        """The row to set aside, or None.

        ``in_flight`` are the rows that were sent and not acknowledged, None for a message that is
        not a row. ``sent`` is how many messages were sent in all. ``proven`` says that the
        connection had worked: an earlier ping was answered.
        """
        if outcome.by_us or not outcome.was_open:
            return None
        is_refusal = outcome.close_code in REFUSAL_CODES
        is_neutral = outcome.close_code in _NOT_ABOUT_MESSAGES
        for row_id in in_flight:
            if row_id is None:
                continue
            strikes = self._strikes.pop(row_id, 0) + 1  # now last: the order is that of age
            neutral = self._neutral.get(row_id, 0) + is_neutral
            if is_refusal and strikes < _ISOLATED_AFTER:
                if len(in_flight) > 1:
                    # The refusal may be about any of them: each is isolated, with one strike.
                    neutral += _ISOLATED_AFTER - strikes
                strikes = _ISOLATED_AFTER
            self._strikes[row_id] = strikes
            if neutral:
                self._neutral[row_id] = neutral
        for row_id in list(self._strikes)[:-_MAX_SUSPECTS]:
            del self._strikes[row_id]
            self._neutral.pop(row_id, None)
        if len(in_flight) != 1 or not proven or is_neutral:
            return None
        if sent > 1 and outcome.close_code not in _BEYOND_DOUBT:
            return None
        only = in_flight[0]
        if only is None:
            return None
        by_policy = outcome.close_code == _POLICY_VIOLATION
        at_once = is_refusal and not (by_policy and self._judged_by_policy)
        strikes = self._strikes[only] - self._neutral.get(only, 0)
        if not at_once and strikes < _GUILTY_AFTER:
            return None
        self._judged_by_policy = by_policy
        del self._strikes[only]
        # This message explains the ends that it shared with the others; they stay isolated.
        self._neutral = dict(self._strikes)
        return only


# -- replay --------------------------------------------------------------------------------------


#: Maximum number of repetitions in a row without a new acknowledgement.
MAX_IN_VAIN = 3


class ReplayRule:
    """Remembers the highest row that the platform has ever acknowledged."""

    def __init__(self) -> None:
        self._highest: dict[MessageClass, int] = {}
        self._in_vain = 0

    def connection_ended(
        self, outcome: Outcome, acknowledged: Mapping[MessageClass, int], found_culprit: bool
    ) -> bool:
        """True when lingering rows must be sent again.

        ``acknowledged`` is the highest row of each class that was acknowledged on the connection.
        ``found_culprit``: the message that ended the connections was set aside, which counts as
        something new.
        """
        is_new = found_culprit
        for message_class, row_id in acknowledged.items():
            if row_id > self._highest.get(message_class, -1):
                self._highest[message_class] = row_id
                is_new = True
        if is_new:
            self._in_vain = 0
        elif acknowledged and outcome.replay:
            self._in_vain += 1
        return outcome.replay and (self._in_vain < MAX_IN_VAIN or not acknowledged)


# -- after a connection --------------------------------------------------------------------------


class Aftermath:
    """Remembers, across connections, which rows are suspected and what was repeated."""

    def __init__(self) -> None:
        self.suspects = Suspects()
        self._replay = ReplayRule()

    def connection_ended(self, outbox: IOutbox, session: Session, outcome: Outcome) -> None:
        """Give back to ``outbox`` what ``session`` had taken. Raises what the outbox raises."""
        culprit = self.suspects.connection_ended(
            outcome, session.flight.row_ids, session.sent, session.is_proven
        )
        try:
            if culprit is not None:
                outbox.bury([culprit], f"nothing else was in flight: {outcome.reason}")
        finally:
            self._give_back(outbox, session, outcome, culprit is not None)

    def _give_back(
        self, outbox: IOutbox, session: Session, outcome: Outcome, was_guilty: bool
    ) -> None:
        flight = session.flight
        replays = self._replay.connection_ended(outcome, flight.acknowledged, was_guilty)
        limit = session.replay_bytes if outcome.cause is Cause.AGENT else None
        if replays and limit is not None and not flight.let_go:
            # The agent gave up a slow link; the platform had seconds to store what it had read.
            outbox.rewind(replays, limit)
        else:
            outbox.rewind(replays or bool(flight.let_go))
        if outcome.close_code == NORMAL_CLOSURE:
            # Only what still lingers: answers that were let go are pending again.
            outbox.settle()
