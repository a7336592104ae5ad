"""Access control: reads a request's URI and header, and checks keys. Pure.

The device id is the last segment of the path. The key is a header or a query parameter
``X-ApiKey``. Both are percent-encoded per RFC 3986 (OpenGate protocol, "Connection"): a ``+`` is a
plus, not a space.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from oda.errors import ConfigurationError, Fault

DEFAULT_PATH = "/south/v80/sessions"
KEY_NAME = "X-ApiKey"


class Denied(Exception):  # noqa: N818 - an outcome of the handshake, not a defect
    """The upgrade is refused with this HTTP status."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(f"{status} {reason}")


class Request(NamedTuple):
    """The device in a request, and its key (as bytes; None for no key)."""

    device: str
    key: bytes | None


def normal_path(path: str) -> str:
    """``path`` with a leading slash and no trailing one ("" for the root)."""
    stripped = path.strip("/")
    return f"/{stripped}" if stripped else ""


def read_request(uri: str, header_key: str | None, base_path: str) -> Request:
    """Parse a request for ``uri``; raises ``Denied`` when it is not below ``base_path``.

    ``header_key`` is the header's value with one character per byte, as HTTP libraries return it.
    """
    path = uri.partition("?")[0]
    base = normal_path(base_path)
    if not path.startswith(base + "/"):
        raise Denied(404, "no such path")
    segment = path[len(base) + 1 :].removesuffix("/")
    if not segment or "/" in segment:
        raise Denied(404, "no such path")
    try:
        device = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        raise Denied(400, "the device id is not UTF-8") from None
    shown = shown_keys(uri, header_key)
    return Request(device, shown[0] if shown else None)


def shown_keys(uri: str, header_key: str | None) -> list[bytes]:
    """Every key in a request. The first one counts: the header's, if there is one."""
    keys = [] if header_key is None else [header_key.encode("latin-1", "replace")]
    for pair in uri.partition("?")[2].split("&"):
        name, _, value = pair.partition("=")
        if name.lower() == KEY_NAME.lower():
            keys.append(unquote_to_bytes(value))
    return keys


class KeyRing:
    """The valid keys: one for all devices, one per device, or (neither given) any key."""

    def __init__(self, key: str | None = None, by_device: Mapping[str, str] | None = None) -> None:
        self._key = key
        self._by_device = None if by_device is None else dict(by_device)

    def check(self, request: Request) -> None:
        """Raises ``Denied`` (401) unless the key is valid for the device."""
        if self._key is None and self._by_device is None:
            return
        wanted = (self._by_device or {}).get(request.device, self._key)
        if wanted is None or request.key is None:
            raise Denied(401, "no valid key")
        if not hmac.compare_digest(wanted.encode(), request.key):
            raise Denied(401, "no valid key")

    def __repr__(self) -> str:
        return "KeyRing(***)"


def parse_keys(text: str, file: str) -> dict[str, str]:
    """The ``device=key`` lines of a file; ignores empty lines and lines starting with ``#``.

    A device id that contains ``=`` or starts with ``#`` is percent-encoded. Raises
    ``ConfigurationError`` that names every bad line, never a key.
    """
    keys: dict[str, str] = {}
    faults: list[Fault] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, key = (part.strip() for part in line.partition("="))
        device = unquote(name)
        if not equals or not device or not key:
            faults.append(Fault(file, number, "", "expected device=key"))
        elif device in keys:
            faults.append(Fault(file, number, device, "this device already has a key"))
        else:
            keys[device] = key
    if faults:
        raise ConfigurationError(faults)
    return keys
