"""The software of the device: the operating system, the agent, and the packages it uses."""

from __future__ import annotations

import platform
from pathlib import Path

import oda

AGENT = "oda-websocket"
LIBRARIES = ("Twisted", "autobahn")

_RELEASE_FILES = ("etc/os-release", "usr/lib/os-release")


def installed_software(root: Path) -> list[dict[str, str]]:
    """``name``, ``version`` and ``type`` of each: FIRMWARE for the operating system and its kernel,
    SOFTWARE for the rest (OpenGate protocol, "Configuration files")."""
    from importlib import metadata  # imported late: costs memory, and is needed once

    found = [
        *_operating_system(root),
        (platform.system(), platform.release(), "FIRMWARE"),
        (AGENT, oda.__version__, "SOFTWARE"),
        (platform.python_implementation(), platform.python_version(), "SOFTWARE"),
    ]
    for library in LIBRARIES:
        try:
            found.append((library, metadata.version(library), "SOFTWARE"))
        except metadata.PackageNotFoundError:
            continue  # a frozen application has no metadata
    return [{"name": name, "version": version, "type": kind} for name, version, kind in found]


def parse_os_release(text: str) -> dict[str, str]:
    """The assignments of os-release(5), unquoted."""
    fields = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith("#"):
            continue
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        fields[name] = value
    return fields


def _operating_system(root: Path) -> list[tuple[str, str, str]]:
    for place in _RELEASE_FILES:
        try:
            fields = parse_os_release((root / place).read_text("utf-8", "replace"))
        except OSError:
            continue
        version = fields.get("VERSION_ID") or fields.get("BUILD_ID") or "rolling"
        return [(fields.get("NAME", "Linux"), version, "FIRMWARE")]
    return []
