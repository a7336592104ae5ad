"""The last line of defence: no known secret is written, whoever logs it.

No line of the agent contains the API key; a line of a plugin, or of a later version of a library,
might. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from oda.secret_forms import MASK, SecretForms

__all__ = ["MASK", "MIN_LENGTH", "Redactor"]

#: Shorter secrets are not masked: they would match in ordinary words.
MIN_LENGTH = 6


class Redactor:
    """``clean(text)`` returns the text with every form of the secrets masked."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms = SecretForms(secret for secret in secrets if len(secret) >= MIN_LENGTH)

    def clean(self, text: str) -> str:
        return self._forms.mask(text)
