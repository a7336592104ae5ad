"""The serial number of a machine, from the first source that has a usable one.

Every source is a small file that the kernel or the installation provides; reading it does not
block. ``root`` is "/" except in tests.

A place counts only if every user of the machine can read the file, also when the process is root's.
On most PCs root alone can read the board's serial number. If root used that number, ``oda check``
as root would report another device id than the agent's own user, and a device whose agent moves
from root to a user of its own would become another device.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

#: Files with a number of the machine, the most specific first.
PLACES = (
    "sys/class/dmi/id/product_serial",
    "proc/device-tree/serial-number",
    "etc/machine-id",
)

#: The last resort.
HOST_NAME = "the host's name"

#: Texts that manufacturers leave instead of a serial number.
_PLACEHOLDERS = frozenset(
    {
        "none",
        "n/a",
        "na",
        "null",
        "unknown",
        "undefined",
        "uninitialized",
        "empty",
        "invalid",
        "default string",
        "not specified",
        "not applicable",
        "not available",
        "not set",
        "not settable",
        "system serial number",
        "chassis serial number",
        "serial number",
        "to be filled by o.e.m.",
        "to be filled by oem",
        "o.e.m.",
        "oem",
        "123456789",
        "0123456789",
        "1234567890",
        "localhost",
        "localhost.localdomain",
    }
)


class Serial(NamedTuple):
    """A serial number, and the source of it."""

    number: str
    place: str


def is_usable(serial: str) -> bool:
    """Whether a text can distinguish machines: it is no placeholder and has several characters."""
    return serial.lower() not in _PLACEHOLDERS and len(set(serial) - set(" .-_:0")) > 0


def find_serial(root: Path, hostname: Callable[[], str]) -> Serial | None:
    """The serial number, or the host's name as the last resort; None if nothing is usable."""
    for place in PLACES:
        try:
            if not _is_public(root / place):
                continue
            raw = (root / place).read_bytes()
        except OSError:
            continue  # missing, or not readable: try the next source
        serial = raw.replace(b"\0", b"").decode("utf-8", "replace").strip()
        if is_usable(serial):
            return Serial(serial, f"/{place}")
    name = hostname().strip()
    return Serial(name, HOST_NAME) if is_usable(name) else None


def find_hidden(root: Path) -> Iterator[str]:
    """The places that exist and do not count, because some users of the machine can't read them."""
    for place in PLACES:
        try:
            if not _is_public(root / place):
                yield f"/{place}"
        except OSError:
            continue  # absent


def _is_public(file: Path) -> bool:
    """Whether every user can read the file. Raises ``OSError`` where there is none."""
    return bool(file.stat().st_mode & stat.S_IROTH)
