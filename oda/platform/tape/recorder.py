"""Writes a session to a file as it happens."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from oda.platform.tape.session_file import Entry, Side, What, write_entry, write_header
from oda.secret_forms import SecretForms


def create_private(path: Path) -> BinaryIO:
    """A new file that only its owner may read; unbuffered, so that written data survives a kill of
    this process. Raises ``OSError``; ``FileExistsError`` for an existing file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return open(descriptor, "wb", buffering=0)


class SessionRecorder:
    """Writes a line for every event at once.

    ``seconds`` is a clock that is never set. ``hide`` names secrets that must not be in the file:
    the API keys of devices. In payloads and reasons they are overwritten with ``*``. Every method
    raises ``OSError`` when the file can't be written.
    """

    def __init__(self, file: Any, seconds: Callable[[], float], started_ms: int) -> None:
        self._file = file
        self._seconds = seconds
        self._began_s = seconds()
        self._hidden: set[bytes] = set()
        self._forms = SecretForms()
        self.connections = 0
        self.messages = 0
        self._write(write_header("proxy", started_ms))

    def hide(self, key: bytes | None) -> None:
        """Keep this key out of the file from now on."""
        if key and key not in self._hidden:
            self._hidden.add(key)
            self._forms = SecretForms(self._hidden)

    def opened(self, device: str) -> int:
        """A connection of ``device`` is open; returns its number."""
        self.connections += 1
        self._add(connection=self.connections, what=What.OPEN, device=device)
        return self.connections

    def refused(self, device: str, status: int | None) -> None:
        """A connection failed; ``status`` is the platform's answer, if there was one."""
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
        """``side`` has started to close the connection; ``code`` None: without a close frame."""
        text = self._clean(reason).decode("utf-8", "replace")
        self._add(connection=connection, what=What.CLOSE, side=side, code=code, reason=text)

    def close(self) -> None:
        """Nothing more will be written."""
        self._file.close()

    def _clean(self, payload: bytes) -> bytes:
        return self._forms.mask_bytes(payload)

    def _add(self, **members: Any) -> None:
        at_ms = round((self._seconds() - self._began_s) * 1000)
        self._write(write_entry(Entry(at_ms=at_ms, **members)))

    def _write(self, line: bytes) -> None:
        left = memoryview(line)
        while left:  # an unbuffered file may accept less
            left = left[self._file.write(left) :]
