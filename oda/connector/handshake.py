"""The HTTP of a connection: the requests (CONNECT, upgrade), and the heads of the answers.

Autobahn also reads and judges the answer to the upgrade. But it decodes bytes above 127 as UTF-8,
takes the first head for the last, and looks at nothing but the status of a refusal. So this module
reads the head first, and hands on only the head of a 101.

Pure.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from oda.settings import Secret

_END = b"\r\n\r\n"
_STATUS_LINE = re.compile(r"HTTP/\d\.\d +(\d{3})(?: +(.*))?")
_DEFAULT_PORTS = {"ws": 80, "wss": 443, "http": 80, "https": 443}
_SECURE = {"https": True, "wss": True, "http": False, "ws": False}


class Head(NamedTuple):
    """Status line and headers of an answer. ``status`` is None if the first line is not a status
    line of HTTP; ``first_line`` is that line. The names of ``headers`` are in lower case; the first
    of several with one name counts. ``size`` is the size of the whole head, in bytes."""

    first_line: str
    status: int | None
    phrase: str
    headers: Mapping[str, str]
    size: int

    @property
    def is_interim(self) -> bool:
        """True for an answer that a final answer still follows (RFC 9110, section 15.2)."""
        return self.status is not None and 100 <= self.status < 200 and self.status != 101


def read_head(data: bytes) -> Head | None:
    """The head at the start of ``data``; None while it is incomplete.

    A value may hold any byte (RFC 9110, section 5.5: obs-text), read as ISO-8859-1.
    """
    end = data.find(_END)
    if end < 0:
        return None
    first_line, *lines = data[:end].decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip(" \t"))
    found = _STATUS_LINE.fullmatch(first_line.strip())
    status, phrase = (int(found[1]), (found[2] or "").strip()) if found else (None, "")
    return Head(first_line, status, phrase, headers, end + len(_END))


def as_ascii(head: bytes) -> bytes:
    """A head with ``?`` for every byte that Autobahn can't read, or might take for the end of a
    line."""
    return bytes(byte if 32 <= byte < 127 or byte in b"\r\n\t" else ord("?") for byte in head)


def with_value(head: bytes, name: str, value: str) -> bytes:
    """``head`` with another value for the header of that name (in lower case)."""
    lines = head.split(b"\r\n")
    wanted = name.encode()
    return b"\r\n".join(
        wanted + b": " + value.encode("latin-1")
        if line.partition(b":")[0].strip().lower() == wanted
        else line
        for line in lines
    )


def connect_request(host: str, port: int, user: str | None, password: Secret | None) -> bytes:
    """The CONNECT request for a proxy (RFC 9110, section 9.3.6). With a user, it authenticates with
    the scheme Basic (RFC 7617)."""
    lines = [f"CONNECT {host}:{port} HTTP/1.1", f"Host: {host}:{port}"]
    if user is not None:
        known = f"{user}:{password.reveal() if password is not None else ''}"
        lines.append(f"Proxy-Authorization: Basic {b64encode(known.encode()).decode()}")
    return _request(lines)


def upgrade_request(
    resource: str,
    host: str,
    port: int,
    *,
    secure: bool,
    headers: Mapping[str, str],
    key: bytes,
    origin: str | None,
    extensions: Iterable[str],
    user_agent: str,
) -> bytes:
    """The upgrade request (RFC 6455, section 4.1). ``host`` has the form that it has in a URL, and
    ``key`` is the value of Sec-WebSocket-Key."""
    authority = host if port == _DEFAULT_PORTS["wss" if secure else "ws"] else f"{host}:{port}"
    lines = [
        f"GET {resource} HTTP/1.1",
        f"User-Agent: {user_agent}",
        f"Host: {authority}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        # Some proxies take an upgrade for a page request that they may answer from their cache.
        "Pragma: no-cache",
        "Cache-Control: no-cache",
        *(f"{name}: {value}" for name, value in headers.items()),
        f"Sec-WebSocket-Key: {key.decode()}",
    ]
    if origin is not None:
        lines.append(f"Origin: {origin}")
    offered = ", ".join(extensions)
    if offered:
        lines.append(f"Sec-WebSocket-Extensions: {offered}")
    lines.append("Sec-WebSocket-Version: 13")
    return _request(lines)


def _request(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def hint_at_scheme(location: str, secure: bool, host: str, port: int, resource: str) -> str:
    """Which setting to change if a redirect leads to the same place with TLS; otherwise empty."""
    scheme = "wss" if secure else "ws"
    try:
        target = urlsplit(urljoin(f"http{scheme[2:]}://{host}:{port}{resource}", location))
        target_port = target.port or _DEFAULT_PORTS.get(target.scheme, 0)
    except ValueError:
        return ""
    is_same = (target.hostname or "").rstrip(".") == host.strip("[]").rstrip(
        "."
    ).lower() and target.path.rstrip("/") == urlsplit(resource).path.rstrip("/")
    if secure or not is_same or not _SECURE.get(target.scheme, False):
        return ""
    return "secure=true" if target_port == port else f"secure=true and port={target_port}"
