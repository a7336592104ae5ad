"""The log of the stand-in platform, whichever program writes it.

Device ids, operation ids and reasons are foreign text. ``oda platform`` escapes its output, but
twistd does not, so no field may hold anything that moves a terminal's cursor or begins a line.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from oda.platform.lines import printable

#: Longer texts are cut.
_MAX_TEXT = 300


class PlatformLogger(Logger):
    """Twisted's logger, but makes each text field printable and short."""

    def emit(self, level: Any, format: str | None = None, **fields: Any) -> None:
        """See ``Logger.emit``."""
        clean = {
            name: _printable(value) if isinstance(value, str) else value
            for name, value in fields.items()
        }
        super().emit(level, format, **clean)


def _printable(text: str) -> str:
    shown = printable(text[:_MAX_TEXT])
    return shown if len(text) <= _MAX_TEXT else f"{shown}..."
