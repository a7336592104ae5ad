"""One parser for each kind of value: text in, typed value out, with the allowed values in words.

A parser raises ``ValueError`` with a text that continues "<file>:<line>: <key>: ...".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from oda.model import ContentType
from oda.settings import HOST_NAME_AS_ID, Secret

#: The schemes of time sources.
TIME_SOURCE_SCHEMES = frozenset(("ntp", "sntp", "http", "https"))

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,12}(\.[0-9]{1,9})?")
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9._~:\[\]-]+")
_LABEL = re.compile(r"[\w-]{1,63}")


@dataclass(frozen=True)
class Parser:
    """``allowed`` and ``unit`` are for fault texts and the reference page.

    ``anchored``: the parser resolves a relative path against the configuration directory. ``free``
    values may contain a ``#``; from other values a comment at the end is cut off. ``masked`` values
    are not shown by ``oda check``: a command may have a secret among its arguments.
    """

    parse: Callable[[str], Any]
    allowed: str
    unit: str = ""
    anchored: bool = False
    free: bool = False
    secret: bool = False
    masked: bool = False


def without_comment(value: str) -> str:
    """``value`` without a ``# comment`` at its end. Properties syntax has no such comments, but
    ODA's own documentation shows them, so existing files contain them."""
    for index, character in enumerate(value):
        if character == "#" and index and value[index - 1] in " \t":
            return value[:index].rstrip(" \t")
    return value


def quoted(value: str) -> str:
    """``value`` for a fault text: in quotes, escaped, of bounded length."""
    shown = value if len(value) <= 40 else value[:37] + "..."
    return ascii(shown)


def refused(value: str, allowed: str) -> ValueError:
    """The fault of a value that isn't allowed. The text omits the credentials and the query of a
    URL, because these may hold a key."""
    value = value.partition("?")[0].rpartition("@")[2]
    return ValueError(f"{quoted(value)} is not allowed; allowed: {allowed}")


def integer(minimum: int, maximum: int, unit: str = "") -> Parser:
    """A whole number from ``minimum`` to ``maximum``."""
    allowed = f"a whole number from {minimum} to {maximum}"

    def parse(value: str) -> int:
        if not _INTEGER.fullmatch(value) or not minimum <= int(value) <= maximum:
            raise refused(value, allowed)
        return int(value)

    return Parser(parse, allowed, unit)


def seconds(minimum: float, maximum: float) -> Parser:
    """Seconds, whole or with decimals, from ``minimum`` to ``maximum``."""
    allowed = f"seconds from {minimum:.10g} to {maximum:.10g}, decimals allowed"

    def parse(value: str) -> float:
        if not _DECIMAL.fullmatch(value) or not minimum <= float(value) <= maximum:
            raise refused(value, allowed)
        return float(value)

    return Parser(parse, allowed, "s")


def boolean() -> Parser:
    """``true`` or ``false`` in any case; not yes or 1, which Java reads as false."""
    allowed = "true or false"
    values = {"true": True, "false": False}

    def parse(value: str) -> bool:
        if value.lower() not in values:
            raise refused(value, allowed)
        return values[value.lower()]

    return Parser(parse, allowed)


def choice(kind: type[Enum], aliases: Mapping[str, str] | None = None) -> Parser:
    """One of an enumeration's values, in any case and without regard to ``-`` and ``_``, or an
    alias of one."""
    names = {_folded(str(member.value)): member for member in kind}
    for alias, name in (aliases or {}).items():
        names[_folded(alias)] = names[_folded(name)]
    allowed = ", ".join(str(member.value) for member in kind)

    def parse(value: str) -> Enum:
        member = names.get(_folded(value))
        if member is None:
            raise refused(value, allowed)
        return member

    return Parser(parse, allowed)


def _folded(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()


def text(allowed: str = "any text") -> Parser:

    def parse(value: str) -> str:
        if not value.isprintable():
            raise ValueError(f"contains unprintable characters; allowed: {allowed}")
        return value

    return Parser(parse, allowed, free=True)


def device_id() -> Parser:
    """A device's id. ``@`` begins the name of a place where the id is found."""
    any_text = text(f"any text that does not begin with @, or {HOST_NAME_AS_ID}")

    def parse(value: str) -> Any:
        if value.startswith("@") and value != HOST_NAME_AS_ID:
            raise ValueError(f"{quoted(value)} is not allowed; allowed: {any_text.allowed}")
        return any_text.parse(value)

    return Parser(parse, any_text.allowed, free=True)


def secret(allowed: str) -> Parser:
    """A text that is shown nowhere: not in a fault, not in the reference."""

    def parse(value: str) -> Secret:
        if not value.isprintable():
            raise ValueError(f"contains unprintable characters; allowed: {allowed}")
        return Secret(value)

    return Parser(parse, allowed, free=True, secret=True)


def path(allowed: str, *, anchored: bool) -> Parser:
    """A path of a file or directory. ``anchored``: relative to the configuration directory;
    otherwise it stays as written, relative to the working directory."""
    return Parser(Path, allowed, anchored=anchored, free=True)


def host() -> Parser:
    """A host name, or an IPv4 or IPv6 address (brackets are accepted and removed)."""
    allowed = "a host name or an IP address, without scheme, port or path"

    def parse(value: str) -> str:
        bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
        if ":" in bare:
            if "://" in bare or not _is_address(bare):
                raise refused(value, allowed)
            return bare
        labels = bare.removesuffix(".").split(".")
        if bare != value or len(bare) > 253 or not all(_LABEL.fullmatch(part) for part in labels):
            raise refused(value, allowed)
        if labels[-1].isdigit() and not _is_address(bare):
            raise refused(value, allowed)
        return bare

    return Parser(parse, allowed)


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def url_path() -> Parser:
    """The path of the URL, as written; the connector handles slashes at its ends."""
    allowed = "a path such as /south/v80/sessions, without blanks, scheme, ? and #"

    def parse(value: str) -> str:
        if "://" in value or not value.isprintable() or re.search(r"[\s?#]", value):
            raise refused(value, allowed)
        return value

    return Parser(parse, allowed, free=True)


def origin() -> Parser:
    """The value of the header ``Origin`` (RFC 6454, section 7)."""
    allowed = "scheme://host[:port] without a path, or null"

    def parse(value: str) -> str:
        if value != "null" and not _ORIGIN.fullmatch(value):
            raise refused(value, allowed)
        return value

    return Parser(parse, allowed, free=True)


def user_name() -> Parser:
    """The user of HTTP's scheme Basic (RFC 7617, section 2)."""
    allowed = "a name without ':'"

    def parse(value: str) -> str:
        if ":" in value or not value.isprintable():
            raise refused(value, allowed)
        return value

    return Parser(parse, allowed, free=True)


def time_source() -> Parser:
    """A time source, kept as written."""
    allowed = "ntp://host[:port], http://host or https://host"
    return Parser(lambda value: _time_source(value, allowed), allowed, free=True)


def time_sources() -> Parser:
    """Several time sources, separated by commas."""
    allowed = "ntp://host[:port], http://host or https://host, separated by commas"

    def parse(value: str) -> tuple[str, ...]:
        return tuple(_time_source(part.strip(), allowed) for part in value.split(","))

    return Parser(parse, allowed, free=True)


def _time_source(value: str, allowed: str) -> str:
    try:
        url = urlsplit(value)
        has_host = bool(url.hostname) and url.port != 0
    except ValueError:
        has_host = False
    if not has_host or url.scheme not in TIME_SOURCE_SCHEMES or not value.isprintable():
        raise refused(value, allowed)
    return value


def command(check: Callable[[str], None]) -> Parser:
    """A program and its arguments; ``check`` raises ``ValueError`` for what is none."""
    allowed = "a program and its arguments; no shell is involved"

    def parse(value: str) -> str:
        check(value)
        return value

    return Parser(parse, allowed, free=True, masked=True)


def datastreams() -> Parser:
    """Several datastreams, separated by commas."""
    allowed = "ids of datastreams, separated by commas"

    def parse(value: str) -> tuple[str, ...]:
        names = tuple(part.strip() for part in value.split(","))
        if not all(names) or not value.isprintable():
            raise refused(value, allowed)
        return tuple(dict.fromkeys(names))

    return Parser(parse, allowed)


PORT = integer(1, 65535)
COUNT = integer(1, 1_000_000_000)
BYTES = integer(1024, 1 << 40, "bytes")
TIMEOUT = seconds(0.1, 86_400)
CONTENT_TYPE = choice(ContentType, {"msgPack": "MESSAGE_PACK"})
