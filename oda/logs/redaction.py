"""The last line of defence: no known secret is written, whoever logs it.

No line of the agent contains the API key; a line of a plugin, or of a later version of a library,
might. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from oda.secret_forms import MASK, SecretForms
from oda.settings import AgentSettings

__all__ = ["MASK", "MIN_LENGTH", "Redactor", "secrets_of"]

#: Shorter secrets are not masked: they would match in ordinary words.
MIN_LENGTH = 6


class Redactor:
    """``clean(text)`` returns the text with every form of the secrets masked."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms = SecretForms(secret for secret in secrets if len(secret) >= MIN_LENGTH)

    def clean(self, text: str) -> str:
        return self._forms.mask(text)


def secrets_of(settings: AgentSettings) -> list[str]:
    """Every text of the settings that neither the log nor a status may show: plain, and as it is
    transmitted."""
    connector = settings.connector
    secrets = [settings.device_info.api_key, connector.key_passphrase, connector.proxy_password]
    found = [secret.reveal() for secret in secrets if secret is not None]
    if connector.proxy_user is not None and connector.proxy_password is not None:
        found.append(f"{connector.proxy_user}:{connector.proxy_password.reveal()}")
    return found
