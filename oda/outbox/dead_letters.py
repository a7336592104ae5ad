"""Dead letters: messages that can't be delivered, set aside for the operator.

The outbox neither sends nor drops them by itself; the operator retries or purges them. Their number
is limited: a new one may replace the oldest, which is counted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, MutableMapping

from twisted.internet.defer import Deferred

from oda.errors import OutboxFull
from oda.log import Logger
from oda.model import MessageClass, OutgoingMessage
from oda.outbox.committer import Committer
from oda.outbox.database import TABLES
from oda.outbox.ledger import Ledger
from oda.outbox.limits import Limits, row_cost, side_cost
from oda.outbox.queue import Row, RowState
from oda.outbox.store import Letter, StoreError
from oda.outbox.transaction import Burial
from oda.wording import counted

_log = Logger()

#: The maximum number of dead letters.
MAX_LETTERS = 1000


class DeadLetters:
    """The ids and costs of the dead letters, oldest first: at most ``MAX_LETTERS`` with
    ``limits.side_bytes`` in total; at least one of any size. ``changed`` requests a commit at the
    end of the turn."""

    def __init__(
        self, committer: Committer, ledger: Ledger, limits: Limits, changed: Callable[[], None]
    ) -> None:
        self._committer = committer
        self._uncommitted = committer.uncommitted
        self._ledger = ledger
        self._limits = limits
        self._changed = changed
        self._costs: OrderedDict[int, int] = OrderedDict()
        self.cost = 0

    def __len__(self) -> int:
        return len(self._costs)

    def ids(self) -> list[int]:
        """The ids, oldest first."""
        return list(self._costs)

    def has_room(self, cost: int) -> bool:
        """Whether one more fits without replacing any."""
        return len(self._costs) < MAX_LETTERS and self.cost + cost <= self._limits.side_bytes

    # -- in ----------------------------------------------------------------------------------

    def learn(self, letters: Iterable[tuple[int, int]]) -> None:
        """The store has these letters: ids, and sizes of payloads."""
        for row_id, length in letters:
            self._add(row_id, length)

    def bury(
        self, message_class: MessageClass, row: Row, reason: str, is_damaged: bool = False
    ) -> None:
        """Set aside a row that left its queue."""
        _log.error(
            "message {row_id} ({size} bytes) is set aside: {reason}",
            row_id=row.row_id,
            size=len(row.payload),
            reason=reason,
        )
        self._keep(message_class, row, reason, is_damaged)

    def take_over(
        self, letter: Letter, next_ids: MutableMapping[MessageClass, int]
    ) -> Deferred[int] | None:
        """Keep a letter of another outbox, with the next id of its class; returns None if there is
        no room. The Deferred fires once the letter is committed."""
        size = len(letter.row.payload)
        if letter.table not in TABLES.values() or not self.has_room(side_cost(size)):
            return None
        message_class = MessageClass(letter.table)
        row_id = next_ids[message_class]
        next_ids[message_class] = row_id + 1
        accepted: Deferred[int] = Deferred()
        row = Row(
            row_id,
            letter.row.payload,
            letter.row.is_text,
            letter.row.datapoints,
            letter.row.accepted_ms,
            row_cost(size),
            accepted,
        )
        self._ledger.put(row.datapoints)
        self._keep(message_class, row, letter.reason, not letter.is_sound)
        return accepted

    def _keep(self, message_class: MessageClass, row: Row, reason: str, is_damaged: bool) -> None:
        row.state = RowState.GONE
        self._uncommitted.bury(Burial(message_class, row, reason, is_damaged))
        self._ledger.died(message_class, row)
        gone = self._add(row.row_id, len(row.payload))
        if gone:
            self._ledger.counted("dead_letters_forgotten", gone)
            _log.error(
                "deleted the {count} oldest dead letters to make room for a new one", count=gone
            )
        self._changed()

    def _add(self, row_id: int, length: int) -> int:
        """Add one letter; returns how many of the oldest were removed for it."""
        self._forget(row_id)
        cost = side_cost(length)
        self._costs[row_id] = cost
        self._charge(cost)
        gone: list[int] = []
        while len(self._costs) > 1 and (
            len(self._costs) > MAX_LETTERS or self.cost > self._limits.side_bytes
        ):
            gone.append(next(iter(self._costs)))
            self._forget(gone[-1])
        self._uncommitted.collecting.letters_gone += gone
        return len(gone)

    # -- out ---------------------------------------------------------------------------------

    def purge(self) -> int:
        """Delete all; returns how many."""
        ids = self.ids()
        for row_id in ids:
            self._remove(row_id)
        self._changed()
        return len(ids)

    def retry(self, put: Callable[[OutgoingMessage], Deferred[int]]) -> int:
        """``put`` the undamaged letters again; returns how many.

        Raises ``OutboxFull`` when the store can't be read now, or when there is no room for a
        letter; the letters before it are back in the outbox.
        """
        if not self._committer.can_read:
            raise OutboxFull("the store can't be read now")
        retried = 0
        for row_id in self.ids():
            try:
                letter = self._committer.store.letter(row_id)
            except StoreError as error:
                self._committer.read_failed(error)
                raise OutboxFull(f"the store can't be read now: {error}") from error
            if letter is None or not letter.is_sound:
                continue
            accepted = put(
                OutgoingMessage(
                    payload=letter.row.payload,
                    message_class=MessageClass(letter.table),
                    is_text=letter.row.is_text,
                    datapoints=letter.row.datapoints,
                )
            )
            is_refused = accepted.called
            accepted.addErrback(lambda _: None)  # a later drop is counted and logged
            if is_refused:
                raise OutboxFull(f"there is only room for {counted(retried, 'dead letter')}")
            self._ledger.revived(letter.row.datapoints)
            self._remove(row_id)
            retried += 1
        return retried

    def _remove(self, row_id: int) -> None:
        self._forget(row_id)
        self._uncommitted.collecting.letters_gone.append(row_id)

    def _forget(self, row_id: int) -> None:
        """Remove a letter; ignores unknown ids."""
        self._charge(-self._costs.pop(row_id, 0))

    def _charge(self, cost: int) -> None:
        self.cost += cost
        self._limits.side_cost += cost
