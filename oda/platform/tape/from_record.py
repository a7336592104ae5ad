"""Makes a session from a platform's record. Pure.

The record has no pings, and does not say who closed a connection. Its times come from the wall
clock: after the clock was set back, the order of entries counts, and their times stand still.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from oda.platform.recording import RecordedConnection, RecordedMessage
from oda.platform.tape.session_file import Entry, Session, Side, What
from oda.secret_forms import SecretForms

#: The order of entries with the same time.
_RANKS = {What.OPEN: 0, What.MESSAGE: 1, What.CLOSE: 2}
_SIDES = {"in": Side.DEVICE, "out": Side.PLATFORM}


def session_from_record(
    messages: Iterable[RecordedMessage], connections: Sequence[RecordedConnection]
) -> Session:
    """The session of these messages (in the order of their numbers) and their connections.

    A connection whose opening is no longer on record is left out with its messages.
    """
    opened = {connection.number for connection in connections}
    dated: list[tuple[int, Entry]] = []
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    now_ms = 0
    for message in messages:
        if message.connection not in opened:
            continue
        now_ms = max(now_ms, message.at_ms)
        first.setdefault(message.connection, now_ms)
        last[message.connection] = now_ms
        entry = Entry(
            at_ms=now_ms,
            connection=message.connection,
            what=What.MESSAGE,
            side=_SIDES[message.direction],
            payload=message.payload,
            is_text=message.is_text,
        )
        dated.append((now_ms, entry))
    for connection in connections:
        number = connection.number
        at_ms = min(connection.opened_ms, first.get(number, connection.opened_ms))
        opening = Entry(at_ms=at_ms, connection=number, what=What.OPEN, device=connection.device)
        dated.append((at_ms, opening))
        if connection.closed_ms is None:
            continue
        at_ms = max(connection.closed_ms, last.get(number, at_ms))
        closing = Entry(
            at_ms=at_ms,
            connection=number,
            what=What.CLOSE,
            code=None if connection.close_code == 1006 else connection.close_code,
            reason=connection.close_reason or "",
        )
        dated.append((at_ms, closing))
    dated.sort(key=lambda item: (item[0], _RANKS[item[1].what]))
    started_ms = dated[0][0] if dated else 0
    entries = [msgspec.structs.replace(entry, at_ms=at_ms - started_ms) for at_ms, entry in dated]
    return Session("platform", started_ms, entries)


def without_key(session: Session, key: bytes) -> Session:
    """The session with every form of the API key overwritten, in payloads and reasons."""
    forms = SecretForms([key])
    entries = []
    for entry in session.entries:
        payload = forms.mask_bytes(entry.payload)
        reason = forms.mask_bytes(entry.reason.encode("utf-8", "surrogatepass"))
        entries.append(
            msgspec.structs.replace(
                entry,
                payload=payload,
                reason=reason.decode("utf-8", "surrogatepass"),
                is_redacted=entry.is_redacted or payload != entry.payload,
            )
        )
    return Session(session.source, session.started_ms, entries)
