"""The last line of defence: nothing that is known to be secret is written, whoever logged it.

No line of the agent contains the API key; a plugin's, or a library's in some version to come,
might. What is looked for is the key as it is, and as it is written in URLs, base64 and JSON. Pure.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

#: Shorter ones are not looked for: they would be found in ordinary words.
MIN_LENGTH = 6
MASK = "***"


def forms_of(secret: str) -> set[str]:
    """The texts that would give ``secret`` away."""
    data = secret.encode()
    forms = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
    forms |= {json.dumps(secret)[1:-1], repr(secret)[1:-1], repr(data)[2:-1], data.hex()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms.add(encode(data).decode().rstrip("="))
    return {form for form in forms if len(form) >= MIN_LENGTH}


class Redactor:
    """``clean(text)`` is the text with every form of the secrets replaced."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        found = {
            form for secret in secrets if len(secret) >= MIN_LENGTH for form in forms_of(secret)
        }
        self._forms = sorted(found, key=len, reverse=True)

    def clean(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text
