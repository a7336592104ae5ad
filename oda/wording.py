"""Numbers with their nouns, for log lines and for what commands print. Pure."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 message``, ``2 messages``; ``plural`` is for nouns that do not take an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"
