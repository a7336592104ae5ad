"""Which user the agent runs as, or will run as: from systemd's units, else from who owns its files.

Commands read the units' files themselves: systemd need not run, and no command of it is needed.
"""

from __future__ import annotations

import os
import pwd
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from oda.private_files import reader

#: Where systemd looks for units, the first place first.
UNIT_DIRECTORIES = (
    Path("/etc/systemd/system"),
    Path("/run/systemd/system"),
    Path("/usr/local/lib/systemd/system"),
    Path("/usr/lib/systemd/system"),
    Path("/lib/systemd/system"),
)
_PLUGIN = "oda-websocket"
_USUAL_CONFIGURATION = "/etc/oda"
#: A unit is small. Whatever is larger is none.
_MAX_BYTES = 256 * 1024


class Service(NamedTuple):
    """How the agent runs as a service. ``source`` says where that was found; without a unit
    ``working_directory`` is None."""

    user: str
    source: str
    working_directory: Path | None = None


def find_service(
    configuration: Path,
    owned: Sequence[Path],
    units: Sequence[Path] = UNIT_DIRECTORIES,
) -> Service | None:
    """The service that runs with this configuration directory; None where none is known.

    A unit that runs ``twistd oda-websocket`` with the directory decides. Without one, the first
    user but root counts who owns one of the paths ``owned``, and then the user for whom root has
    written one of them (``reader``).
    """
    for file, settings in _services(units):
        if _is_about(settings, configuration):
            directory = settings.get("WorkingDirectory", "").removeprefix("-")
            where = Path(directory) if directory.startswith("/") else None
            return Service(settings.get("User", "") or "root", str(file), where)
    for path in owned:
        with suppress(OSError, KeyError):
            owner = path.stat().st_uid
            if owner:
                return Service(pwd.getpwuid(owner).pw_name, f"the owner of {path}")
    for path in owned:
        with suppress(OSError, KeyError):
            user = pwd.getpwuid(reader(path.stat())).pw_name
            return Service(user, f"the group of {path}")
    return None


def _services(places: Sequence[Path]) -> Iterator[tuple[Path, dict[str, str]]]:
    """The units that run an agent, with the keys of [Service], drop-ins included."""
    seen = set()
    for place in places:
        try:
            files = sorted(place.glob("*.service"))
        except OSError:
            continue
        for file in files:
            if file.name in seen:
                continue
            seen.add(file.name)  # it hides those of the same name in later places
            text = _read(file)
            if _PLUGIN not in text:
                continue
            texts = [text]
            drop_ins: dict[str, Path] = {}
            for other in reversed(places):
                for drop_in in (other / f"{file.name}.d").glob("*.conf"):
                    drop_ins[drop_in.name] = drop_in
            texts += [_read(drop_ins[name]) for name in sorted(drop_ins)]
            yield file, _parse("\n".join(texts))


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _parse(text: str) -> dict[str, str]:
    """The keys of the sections [Service]; the last value of a key counts."""
    settings: dict[str, str] = {}
    section = ""
    for line in text.replace("\\\n", " ").splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line[:1] not in ("", "#", ";"):
            name, _, value = line.partition("=")
            settings[name.strip()] = value.strip()
    return settings


def _is_about(settings: dict[str, str], configuration: Path) -> bool:
    """Whether the unit's command runs an agent with this configuration directory."""
    try:
        words = shlex.split(settings.get("ExecStart", ""))
    except ValueError:
        return False
    if _PLUGIN not in words:
        return False
    named = ""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in ("--conf", "-c"):
            named = following
        elif word.startswith("--conf="):
            named = word.partition("=")[2]
    working = settings.get("WorkingDirectory", "").removeprefix("-")
    directory = os.path.join(working or "/", named or "conf")
    if not named and not os.path.isdir(directory):
        directory = _USUAL_CONFIGURATION
    return os.path.realpath(directory) == os.path.realpath(configuration)
