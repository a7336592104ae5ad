"""The contract of the store behind the outbox: where transactions are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from zope.interface import Attribute, Interface

from oda.errors import OdaError
from oda.model import MessageClass
from oda.outbox.queue import Amount, Row, Span
from oda.outbox.transaction import Totals, Transaction


class StoreError(OdaError):
    """The store can't be used now."""


class StoreDamaged(StoreError):  # noqa: N818 - named like those of oda.errors
    """The file is damaged, of another program, or of a newer version."""


class StoreMoved(StoreError):  # noqa: N818 - named like those of oda.errors
    """The open file is no longer the one at its path: that was deleted, moved or mounted over."""


class Letter(NamedTuple):
    """A dead letter as it is stored; only a sound one may be sent again."""

    row: Row
    table: str
    reason: str
    is_sound: bool


class Opened(NamedTuple):
    """A store was opened. ``reason`` says why another one had to be begun, "" where none was;
    ``set_aside`` is where the damaged one is kept, "" for one whose file was gone. While rows of it
    are still to be copied, ``missing`` says which and, as far as known, how many, for each
    class."""

    totals: Totals
    reason: str = ""
    set_aside: str = ""
    missing: Mapping[MessageClass, tuple[Sequence[Span], Amount]] = {}

    @property
    def is_recovering(self) -> bool:
        return bool(self.missing)


class Recovered(NamedTuple):
    """A step of recovery: rows that are in the store now; ``rows`` were copied so far.
    ``is_counted``: it is known how many rows the damaged store had. ``incomplete`` says what else
    could not be read to its end, once for each damaged store."""

    restored: Sequence[tuple[MessageClass, Span, Amount]]
    is_done: bool
    rows: int
    set_aside: str
    is_counted: bool
    incomplete: Sequence[str] = ()


class StoredRecord(NamedTuple):
    """A journal record as the store has it, texts as they were written; ``answer_bytes`` is None
    where there is no answer."""

    number: int
    request_id: object
    name: object
    content_type: object
    echo: object
    at_ms: int
    has_ended: bool
    answer_bytes: int | None


class IStore(Interface):
    """Where transactions are kept. Methods raise ``StoreError`` (``StoreDamaged``, ``StoreMoved``)
    or ``OSError``. The first group is called by one thread at a time, the second in the reactor's
    thread, also while the first is at work."""

    name: str = Attribute("What the log calls it: the file's path.")
    path: Path | None = Attribute("The file; None where there is none. Absolute once it is open.")
    is_durable: bool = Attribute("False where nothing outlives the process.")

    def open() -> Opened:
        """Open it, or begin to replace it where it is damaged. Raises ``OutboxError`` when another
        process has it."""

    def apply(transaction: Transaction) -> int:
        """Commit it, all or nothing; returns how many bytes the store uses."""

    def replace(fault: StoreError, wanted: Mapping[MessageClass, Sequence[Span]]) -> Opened:
        """Set the store aside that can't be used because of ``fault``, and begin a new one;
        ``wanted`` are the rows that have to be copied into it."""

    def recover() -> Recovered:
        """Copy some more rows of a damaged store into this one."""

    def move(path: Path) -> None:
        """Move it to ``path``, where nothing may be yet. Where that fails it stays at its place,
        and goes on to work there."""

    def close() -> None:
        """Leave nothing open; may be called again."""

    def check() -> None:
        """Raise ``StoreMoved`` when it is no longer at its place."""

    def page(
        message_class: MessageClass, span: Span, max_rows: int, max_bytes: int
    ) -> tuple[list[Row], set[int]]:
        """The first rows of ``span``, in order, and the ids of those that were changed since they
        were written. At least one row whatever its size, if there is any."""

    def amount(message_class: MessageClass, span: Span) -> Amount:
        """What the rows of ``span`` amount to."""

    def letters() -> Sequence[tuple[int, int]]:
        """The ids of the dead letters and the sizes of their payloads, oldest first."""

    def letter(row_id: int) -> Letter | None:
        """One dead letter."""

    def records() -> Sequence[StoredRecord]:
        """The records of the journal, oldest first."""

    def answer(number: int) -> bytes | None:
        """The answer of a record, None where there is none or it was changed."""

    def close_reader() -> None:
        """Open the store anew for the next reading."""
