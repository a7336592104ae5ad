"""Writes a session to a file while it happens."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, quote_plus

from oda.platform.tape.session_file import Entry, Side, What, write_entry, write_header


def forms_of(key: bytes) -> set[bytes]:
    """The texts that give ``key`` away: itself, and as it stands in URLs (either case of the
    hexadecimal digits, also encoded twice), in hexadecimal, base64, HTML and JSON."""
    text = key.decode("utf-8", "surrogateescape")
    quoted = quote(key, safe="").encode()
    lower = re.sub(rb"%[0-9A-F]{2}", lambda found: found.group().lower(), quoted)
    forms = {key, quote(key).encode(), quote_plus(key).encode(), quoted, lower}
    forms |= {quote(one, safe="").encode() for one in (quoted, lower)}
    forms |= {key.hex().encode(), key.hex().upper().encode()}
    for encoded in (base64.b64encode(key), base64.urlsafe_b64encode(key)):
        forms |= {encoded.rstrip(b"=")}
    written = json.dumps(text)[1:-1]
    for one in (html.escape(text), written, written.replace("/", "\\/")):
        forms.add(one.encode("utf-8", "surrogateescape"))
    return forms - {b""}


def masked(payload: bytes, forms: Iterable[bytes]) -> bytes:
    """The payload with each of ``forms``, the longest first, written over with ``*``."""
    for form in sorted(forms, key=len, reverse=True):
        if form in payload:
            payload = payload.replace(form, b"*" * len(form))
    return payload


def create_private(path: Path) -> BinaryIO:
    """A new file that only its owner may read; without a buffer, so that what is written stays
    when this process is killed. Raises ``OSError``, of an existing file ``FileExistsError``."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return open(descriptor, "wb", buffering=0)


class SessionRecorder:
    """Writes a line for everything that happens, at once.

    ``seconds`` is a clock that is never set. ``hide`` names what must not get into the file: the
    API keys that devices show. In payloads and reasons they are written over with ``*``.
    Every method raises ``OSError`` when the file can't be written.
    """

    def __init__(self, file: Any, seconds: Callable[[], float], started_ms: int) -> None:
        self._file = file
        self._seconds = seconds
        self._began_s = seconds()
        self._forms: set[bytes] = set()
        self.connections = 0
        self.messages = 0
        self._write(write_header("proxy", started_ms))

    def hide(self, key: bytes | None) -> None:
        """Keep this key out of the file from now on."""
        if key:
            self._forms |= forms_of(key)

    def opened(self, device: str) -> int:
        """A connection of ``device`` is open; its number."""
        self.connections += 1
        self._add(connection=self.connections, what=What.OPEN, device=device)
        return self.connections

    def refused(self, device: str, status: int | None) -> None:
        """A connection did not come about; ``status`` is what the platform answered, if it did."""
        self.connections += 1
        self._add(connection=self.connections, what=What.REFUSED, device=device, code=status)

    def message(self, connection: int, side: Side, payload: bytes, is_text: bool) -> None:
        """``side`` has sent a message."""
        self.messages += 1
        clean = self._clean(payload)
        self._add(
            connection=connection,
            what=What.MESSAGE,
            side=side,
            payload=clean,
            is_text=is_text,
            is_redacted=clean != payload,
        )

    def control(self, connection: int, what: What, side: Side, payload: bytes) -> None:
        """``side`` has sent a ping or a pong."""
        clean = self._clean(payload)
        self._add(
            connection=connection,
            what=what,
            side=side,
            payload=clean,
            is_redacted=clean != payload,
        )

    def closed(self, connection: int, side: Side, code: int | None, reason: bytes) -> None:
        """``side`` has begun to close the connection; ``code`` None: without a close frame."""
        text = self._clean(reason).decode("utf-8", "replace")
        self._add(connection=connection, what=What.CLOSE, side=side, code=code, reason=text)

    def close(self) -> None:
        """Nothing more is written."""
        self._file.close()

    def _clean(self, payload: bytes) -> bytes:
        return masked(payload, self._forms)

    def _add(self, **members: Any) -> None:
        at_ms = round((self._seconds() - self._began_s) * 1000)
        self._write(write_entry(Entry(at_ms=at_ms, **members)))

    def _write(self, line: bytes) -> None:
        left = memoryview(line)
        while left:  # a file without a buffer may take less
            left = left[self._file.write(left) :]
