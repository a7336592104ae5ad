"""The last line of defence: nothing that is known to be secret is written, whoever logged it.

No line of the agent contains the API key; a plugin's, or a library's in some version to come,
might. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from oda.secret_forms import MASK, SecretForms

__all__ = ["MASK", "MIN_LENGTH", "Redactor"]

#: Shorter ones are not looked for: they would be found in ordinary words.
MIN_LENGTH = 6


class Redactor:
    """``clean(text)`` is the text with every form of the secrets replaced."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms = SecretForms(secret for secret in secrets if len(secret) >= MIN_LENGTH)

    def clean(self, text: str) -> str:
        return self._forms.mask(text)
