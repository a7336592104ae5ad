"""Where the local socket is, and which users may own it.

The agent listens in a directory that no other user can write, under a name derived from its
configuration directory. A command looks in the same places, and then at every socket of that name
that the kernel knows, because the agent may have another environment or working directory. The
command uses a socket only if its file, directory and listener belong to a user that it trusts.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from oda.control.wire import ControlError
from oda.log import Logger
from oda.private_files import check_directory, reader

_log = Logger()

#: Made by the system for the service (RuntimeDirectory=oda); used if it exists.
RUNTIME_DIRECTORY = Path("/run/oda")
#: The Unix sockets of this network namespace: proc(5).
_KERNEL_LIST = Path("/proc/net/unix")
#: The name of the agent's directory beside its outbox.
_BESIDE_OUTBOX = "oda-run"


#: The longest path of a socket, in bytes (unix(7)), and the length of its name.
_MAX_PATH_BYTES = 107
_NAME_LENGTH = len("oda-0123456789abcdef.sock")


def socket_name(configuration: Path) -> str:
    """The name of the socket of the agent with this configuration directory."""
    name = hashlib.sha256(str(configuration.resolve()).encode()).hexdigest()[:16]
    return f"oda-{name}.sock"


def directories(
    outbox: Path, environ: Mapping[str, str], runtime: Path = RUNTIME_DIRECTORY
) -> list[Path]:
    """The possible places of the socket, best first; ``outbox`` is the path of the outbox."""
    found = []
    if given := environ.get("RUNTIME_DIRECTORY", "").split(":")[0]:
        found.append(Path(given))
    if runtime.is_dir():
        found.append(runtime)
    if session := environ.get("XDG_RUNTIME_DIR"):
        found.append(Path(session) / "oda")
    found.append(outbox.parent / _BESIDE_OUTBOX)
    return [one.absolute() for one in dict.fromkeys(found)]


def last_place(own: int, temporary: Path | None = None) -> Path:
    """Where the agent of the user ``own`` puts the socket if it can write none of ``directories``:
    a disk that fails takes the place beside the outbox away, just when the operator asks what is
    wrong. A command finds it by the kernel's list."""
    return (temporary or Path(tempfile.gettempdir())) / f"oda-{own}"


def prepare(places: Collection[Path], own: int) -> Path:
    """The first of ``places`` that belongs to the user ``own`` and that no other user can write; a
    missing one is made. Raises ``ControlError`` with the fault of each."""

    def make(place: Path) -> str:
        with suppress(FileExistsError):
            place.mkdir(0o700)
        return _fault(place, {own})

    def tell(problem: str) -> None:
        _log.info("no local socket in {problem}", problem=problem)

    return _first_good(places, make, tell)


def find_prepared(places: Collection[Path], own: int) -> Path:
    """The place that ``prepare`` would probably return; makes nothing. Raises like ``prepare``."""

    def look(place: Path) -> str:
        if place.exists():
            return _fault(place, {own})
        check_directory(place.parent)
        return ""

    return _first_good(places, look, lambda problem: None)


def _first_good(
    places: Collection[Path], fault: Callable[[Path], str], tell: Callable[[str], None]
) -> Path:
    """The first place in which a socket fits and ``fault(place)`` is ""; calls ``tell`` with the
    fault of each earlier one."""
    problems = []
    for place in places:
        try:
            problem = _length_fault(place) or fault(place)
        except OSError as error:
            problem = str(error.strerror or error)
        if not problem:
            return place
        problems.append(f"{place}: {problem}")
        tell(problems[-1])
    raise ControlError("; ".join(problems))


def trusted_users(
    own: int, owners: Collection[Path], configuration: Path | None = None
) -> set[int]:
    """The users whose agent a command of the user ``own`` trusts: that user and root.

    Root also uses the agents of other users: it trusts the owners of the paths ``owners``, which
    root's configuration names, and the user for whom root has written the directory
    ``configuration`` (``reader``), but no third user who listens in an agent's place.
    """
    trusted = {0, own}
    if own == 0:
        for path in owners:
            with suppress(OSError):
                trusted.add(path.stat().st_uid)
        if configuration is not None:
            with suppress(OSError, KeyError):
                trusted.add(reader(configuration.stat()))
    return trusted


def squatter(path: Path, trusted: Collection[int]) -> str:
    """Why the socket at ``path`` can't be trusted, whoever listens; "" if it can.

    Raises ``OSError`` if there is no socket, or it can't be reached.
    """
    found = path.lstat()
    if not stat.S_ISSOCK(found.st_mode):
        return "it is not a socket"
    if found.st_uid not in trusted:
        return f"it belongs to the user {found.st_uid}"
    return _fault(path.parent, trusted)


def _length_fault(place: Path) -> str:
    """Why no socket fits into ``place``; "" if one does."""
    if len(os.fsencode(place)) + 1 + _NAME_LENGTH <= _MAX_PATH_BYTES:
        return ""
    return (
        f"its path is too long for a socket, which may have {_MAX_PATH_BYTES} bytes with its name"
    )


def _fault(directory: Path, trusted: Collection[int]) -> str:
    """Why other users could exchange the content of ``directory``; "" if they can't."""
    found = os.stat(directory)
    if not stat.S_ISDIR(found.st_mode):
        return "it is not a directory"
    if found.st_uid not in trusted:
        return f"its directory belongs to the user {found.st_uid}"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"other users can write its directory (mode {stat.S_IMODE(found.st_mode):04o})"
    return ""


def known_sockets(name: str, kernel_list: Path = _KERNEL_LIST) -> Iterator[Path]:
    """Every path at which a process of this network namespace has made a socket of this name."""
    with suppress(OSError):
        for line in os.fsdecode(kernel_list.read_bytes()).splitlines():
            path = line.split(None, 7)[-1]
            if path.startswith("/") and path.endswith(f"/{name}"):
                yield Path(path)
