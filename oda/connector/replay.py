"""Whether acknowledged messages that linger are sent again after a connection has ended.

After an end by which the platform may have lost what it had read (see ``Outcome.replay``) they are.
But a platform that ends every connection so after a number of messages would get the same ones for
ever: they come first, are acknowledged once more, linger once more. So when repeating has led to
nothing new being acknowledged ``MAX_IN_VAIN`` times in a row, they stay where they are, and the
next connection begins with what the platform has not acknowledged yet.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from oda.connector.outcome import Outcome
from oda.model import MessageClass

#: So many repetitions in a row may bring nothing new.
MAX_IN_VAIN = 3


class ReplayRule:
    """Remembers how far the platform's acknowledgements have ever come."""

    def __init__(self) -> None:
        self._highest: dict[MessageClass, int] = {}
        self._in_vain = 0

    def connection_ended(
        self, outcome: Outcome, acknowledged: Mapping[MessageClass, int], found_culprit: bool
    ) -> bool:
        """True when lingering rows have to be sent again.

        ``acknowledged`` is the highest row of each class that was acknowledged on the connection.
        ``found_culprit``: the message that ended the connections is set aside, which counts as
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
