"""Whether the platform's requests may be read: what was read has to be answered.

A request that was read is *open* until its answer is accepted (or it turns out to need none). The
answers wait in the outbox until the network has taken them. When either becomes much, reading has
to stop, or answers would be lost for lack of room.

Pure but for asking the outbox.
"""

from __future__ import annotations

from collections.abc import Callable

from oda.interfaces import IOutbox

#: Open requests may always be so large, however small the outbox is.
_LEAST_OPEN_BYTES = 256 * 1024


class Intake:
    """The account of one connector; ``outbox_bytes`` is how much the outbox may hold.

    ``on_room``, where set, is called when an open request has been concluded.
    """

    def __init__(self, outbox: IOutbox, outbox_bytes: int) -> None:
        self._outbox = outbox
        self._max_open_bytes = max(_LEAST_OPEN_BYTES, outbox_bytes // 16)
        self._max_answer_bytes = outbox_bytes // 4
        self._open_bytes = 0
        self._forgiven_bytes = 0
        self.on_room: Callable[[], None] | None = None

    def began(self, size: int) -> None:
        """A request of so many bytes was read."""
        self._open_bytes += size

    def concluded(self, size: int) -> None:
        """Its answer was accepted, or there is none."""
        self._open_bytes -= size
        if self._open_bytes < self._forgiven_bytes:
            self._forgiven_bytes = self._open_bytes
        if self.on_room is not None:
            self.on_room()

    @property
    def is_open_full(self) -> bool:
        """True while so much was read and not answered that nothing more may be read."""
        return self._open_bytes - self._forgiven_bytes >= self._max_open_bytes

    @property
    def is_full(self) -> bool:
        """True while nothing more may be read."""
        return (
            self._open_bytes - self._forgiven_bytes >= self._max_open_bytes
            or self._outbox.answer_bytes() >= self._max_answer_bytes
        )

    def forgive(self) -> None:
        """Go on without those that are open now: their dispatcher may never answer."""
        self._forgiven_bytes = self._open_bytes
