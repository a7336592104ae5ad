"""The messages on their way: sent in this order, and not yet proven to have arrived.

Acknowledgements come as counts, see ``barrier``: so many messages of this connection have arrived.
What they prove is found by the order of sending.

A row is *let go* when the outbox was told that it may be forgotten, although nothing has proven yet
that it has arrived. It takes no room in the window any more.

Pure.
"""

from __future__ import annotations

from collections import deque

from oda.model import MessageClass

#: Row id (-1: it is no row; below: an answer that was let go), bytes, class and datapoints of a
#: message.
Sent = tuple[int, int, MessageClass, int]


class Flight:
    """The messages of one connection. Who sends one adds it to ``messages`` and its bytes to
    ``size_bytes``; ``let_go_count`` is how many of them were let go."""

    def __init__(self) -> None:
        self.messages: deque[Sent] = deque()
        self.size_bytes = 0
        self.let_go_count = 0
        #: The highest row of each class that was acknowledged on this connection.
        self.acknowledged: dict[MessageClass, int] = {}
        self._arrived = 0

    @property
    def row_ids(self) -> list[int | None]:
        """The rows that nothing has proven yet, None for a message that is no row."""
        return [None if row_id < 0 else row_id for row_id, *_ in self.messages]

    @property
    def has_let_go(self) -> bool:
        """True while answers were let go that nothing has proven yet."""
        return self.let_go_count > 0

    def let_answers_go(self) -> list[int]:
        """Let all answers go; gives those that were not before."""
        rows: list[int] = []
        for place, (row_id, size, message_class, datapoints) in enumerate(self.messages):
            if row_id >= 0 and message_class is MessageClass.RESPONSE:
                rows.append(row_id)
                self.messages[place] = (-2 - row_id, 0, message_class, datapoints)
                self.size_bytes -= size
        self.let_go_count += len(rows)
        return rows

    def arrived(self, sent: int) -> tuple[list[int], list[tuple[MessageClass, int]]]:
        """The first ``sent`` messages of this connection have arrived: gives the rows among them
        that can be retired, and class and datapoints of all that come from rows."""
        rows: list[int] = []
        proven: list[tuple[MessageClass, int]] = []
        while self._arrived < sent:
            row_id, size, message_class, datapoints = self.messages.popleft()
            self.size_bytes -= size
            self._arrived += 1
            if row_id < -1:
                self.let_go_count -= 1
                self.acknowledged[message_class] = -2 - row_id
                proven.append((message_class, datapoints))
            elif row_id >= 0:
                rows.append(row_id)
                self.acknowledged[message_class] = row_id
                proven.append((message_class, datapoints))
        return rows, proven
