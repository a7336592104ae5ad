"""The platform's address, and how the agent identifies itself there.

Source: OpenGate protocol, "Connection": ``ws[s]://{host}:{port}{path}/{deviceId}``. The API key is
the header ``X-ApiKey``, or the query parameter of that name. Id and key are percent-encoded as one
path segment and one query value (RFC 3986, UTF-8).
"""

from __future__ import annotations

from functools import cached_property
from urllib.parse import quote

import msgspec

from oda.errors import ConnectorError
from oda.secret_forms import SecretForms
from oda.settings import Auth, ConnectorSettings, Secret

API_KEY_NAME = "X-ApiKey"

#: What may stand unescaped in a path (RFC 3986 pchar and the slash), plus ``%``: an operator who
#: writes an escape means it.
_PATH_SAFE = "/%!$&'()*+,;=:@-._~"


class Address(msgspec.Struct, frozen=True, dict=True):
    """One connection target. ``resource`` and ``headers`` may hold the key: don't log them.

    ``display`` is the URL without the key, for people.
    """

    host: str
    port: int
    secure: bool
    resource: str
    headers: dict[str, str]
    display: str
    key: Secret

    def __repr__(self) -> str:
        return f"<Address {self.display}>"

    def without_key(self, text: str) -> str:
        """``text`` with the key masked, in whatever form the platform has repeated it."""
        return self._key_forms.mask(text)

    @cached_property
    def _key_forms(self) -> SecretForms:
        # The pattern takes longer to build than to apply, and every end of a connection needs it.
        return SecretForms([self.key.reveal()])


def build_address(settings: ConnectorSettings, device_id: str, api_key: Secret) -> Address:
    """The address for this device.

    Raises ``ConnectorError`` when the id is empty, when the key could break out of its header, or
    when either has no representation in UTF-8.
    """
    if not device_id:
        raise ConnectorError("the device id is empty")
    if not _is_encodable(device_id):
        raise ConnectorError("the device id is not valid Unicode")
    key = api_key.reveal()
    if not _is_encodable(key):
        raise ConnectorError("the API key is not valid Unicode")
    if any(character < " " or character == "\x7f" for character in key):
        raise ConnectorError("the API key contains a control character (a line break?)")
    base = quote(settings.path.strip("/"), safe=_PATH_SAFE)
    path = f"/{base}/" if base else "/"
    path += quote(device_id, safe="")
    resource, headers = path, {}
    if settings.auth is Auth.QUERY:
        resource = f"{path}?{API_KEY_NAME}={quote(key, safe='')}"
    else:
        headers[API_KEY_NAME] = key
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    scheme = "wss" if settings.secure else "ws"
    return Address(
        host=settings.host,
        port=settings.port,
        secure=settings.secure,
        resource=resource,
        headers=headers,
        display=f"{scheme}://{host}:{settings.port}{path}",
        key=api_key,
    )


def _is_encodable(text: str) -> bool:
    # Not by the exception: a UnicodeEncodeError carries the whole text, key included.
    return not any("\ud800" <= character <= "\udfff" for character in text)
