"""What is not known to be on disk: the change that collects, and the one that is being committed.

While one change is being committed, the next one collects; they never overtake each other. So
uncommitted rows are always the newest of their class. A change that failed takes over what was
collected meanwhile, and collects on.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from oda.model import MessageClass
from oda.outbox.change import Change
from oda.outbox.queue import Kept


class Uncommitted:
    """``collecting`` is where everything new goes; ``running`` is being committed, None if none."""

    def __init__(self) -> None:
        self.collecting = Change()
        self.running: Change | None = None
        self._running_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Payload bytes of rows that are only in memory."""
        return self.collecting.size_bytes + self._running_bytes

    @property
    def has_last_words(self) -> bool:
        """Whether anything was collected that has to be said before the end."""
        return not self.collecting.is_empty or self.collecting.has_marks

    def rows(self, message_class: MessageClass) -> Iterator[Kept]:
        """Rows that are not known to be on disk, oldest first."""
        if self.running is not None:
            yield from self.running.rows[message_class].values()
        yield from self.collecting.rows[message_class].values()

    def gone(self, message_class: MessageClass) -> list[tuple[int, int]]:
        """The ids, from and to, of rows that the store still has but that are to be deleted."""
        spans: list[tuple[int, int]] = []
        for change in (self.running, self.collecting):
            if change is not None:
                spans += change.gone[message_class]
                spans += [
                    (burial.kept.row_id, burial.kept.row_id)
                    for burial in change.burials
                    if burial.message_class is message_class
                ]
        return spans

    def begin(self) -> Change:
        """What was collected, to be committed now; only while nothing is ``running``."""
        change, self.collecting = self.collecting, Change()
        self.running = change
        self._running_bytes = change.size_bytes
        return change

    def end(self) -> Change:
        """The commit under way has ended, well or badly: the change it was about."""
        change, self.running = self.running, None
        self._running_bytes = 0
        assert change is not None
        return change

    def take_back(self, change: Change) -> list[Kept]:
        """``change`` is not on disk: it collects on, with what came after it. Gives its rows that
        were let go meanwhile and need not be written any more."""
        unwritten = change.absorb(self.collecting)
        self.collecting = change
        return unwritten
