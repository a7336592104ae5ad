"""Texts: numbers with their nouns, for log lines and for what commands print, and what is Unicode.
Pure."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 message``, ``2 messages``; ``plural`` is for nouns that do not take an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def is_unicode(text: str) -> bool:
    """Whether ``text`` can be written as UTF-8: half of a surrogate pair can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
