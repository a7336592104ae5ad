"""Parsers of the values that only the update's file has. Pure; problems are ``ValueError`` texts as
in ``parsers``."""

from __future__ import annotations

import re
import shlex
from base64 import b64decode
from pathlib import Path

from oda.config.connection import PREFIX
from oda.config.files import SUFFIX
from oda.config.parsers import Parser, host, quoted, refused
from oda.settings import UpdateKey

#: The name in ``updateConfiguration`` for every file.
ALL_FILES = "*"
#: What a command for packages may hold in braces.
PLACEHOLDERS = ("file", "name", "version", "oldVersion")

_WITH_PORT = re.compile(r"(\[[^\]]+\]|[^:\[\]]+):([0-9]{1,5})")
#: dpkg-query has braces of its own: ``${Version}``.
_BRACES = re.compile(r"(?<!\$)\{([^{}]*)\}")
_FILE = re.compile(r"[A-Za-z0-9]+(\.[A-Za-z0-9]+)*")
_UPDATE = "operation.update"
#: A public key of minisign: the algorithm, the key's id, the key.
_ALGORITHM, _ID_BYTES, _KEY_BYTES = b"Ed", 8, 32


def directories() -> Parser:
    """Absolute directories, separated by commas."""
    allowed = "absolute directories, separated by commas"

    def parse(value: str) -> tuple[Path, ...]:
        found = [Path(part.strip()) for part in value.split(",")]
        for place in found:
            if not place.is_absolute() or ".." in place.parts or len(place.parts) < 2:
                raise refused(str(place), allowed)
        return tuple(found)

    return Parser(parse, allowed, free=True)


def configuration_files() -> Parser:
    """Names of .cfg files of this agent, whole or without what all have in common."""
    allowed = "names as subsystem.poller, separated by commas, or * for all but this file"

    def parse(value: str) -> tuple[str, ...]:
        found = []
        for part in value.split(","):
            name = part.strip().removeprefix(PREFIX).removesuffix(SUFFIX)
            if name == ALL_FILES:
                found.append(name)
            elif not _FILE.fullmatch(name):
                raise refused(part.strip(), allowed)
            elif name == _UPDATE:
                raise ValueError("an update never replaces the file that limits it")
            else:
                found.append(f"{PREFIX}{name}{SUFFIX}")
        return tuple(found)

    return Parser(parse, allowed, free=True)


def package_command() -> Parser:
    """A program and its arguments; words in braces are filled in."""
    allowed = "an absolute program and arguments, with {file}, {name}, {version}, {oldVersion}"

    def parse(value: str) -> str:
        try:
            words = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"the command can't be split into words: {error}") from None
        if not words or not words[0].startswith("/"):
            raise refused(value, allowed)
        for name in _BRACES.findall(value):
            if name not in PLACEHOLDERS:
                raise ValueError(f"{{{name}}} is not known; allowed: {allowed}")
        return value

    return Parser(parse, allowed, free=True)


def hosts() -> Parser:
    """Hosts, each with or without a port."""
    allowed = "host or host:port, separated by commas"
    one = host()

    def parse(value: str) -> tuple[str, ...]:
        found = []
        for part in (part.strip() for part in value.split(",")):
            with_port = _WITH_PORT.fullmatch(part)
            name, port = (with_port[1], with_port[2]) if with_port else (part, "")
            if port and not 0 < int(port) < 65536:
                raise refused(part, allowed)
            try:
                bare = str(one.parse(name)).lower()
            except ValueError:
                raise refused(part, allowed) from None
            shown = f"[{bare}]" if ":" in bare else bare
            found.append(f"{shown}:{port}" if port else bare)
        return tuple(found)

    return Parser(parse, allowed, free=True)


def signing_key() -> Parser:
    """A public key as minisign writes it: the second line of ``minisign.pub``."""
    allowed = "the public key as minisign writes it, RW..."

    def parse(value: str) -> UpdateKey:
        try:
            raw = b64decode(value, validate=True)
        except ValueError:
            raise refused(value, allowed) from None
        if len(raw) != len(_ALGORITHM) + _ID_BYTES + _KEY_BYTES or raw[:2] != _ALGORITHM:
            raise ValueError(f"{quoted(value)} is no Ed25519 key; allowed: {allowed}")
        return UpdateKey(raw[2:10], raw[10:])

    return Parser(parse, allowed, free=True)
