"""Where the local socket is, and who may stand there.

The agent listens in a directory that nobody else can write, named after its configuration
directory. A command looks in the same places, and after them at every socket of that name that the
kernel knows of: the agent may have another environment or working directory. It uses only a
socket whose file, directory and listener belong to a user that it trusts.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from oda.control.wire import ControlError
from oda.log import Logger
from oda.private_files import check_directory

_log = Logger()

#: Made by the system for the service (RuntimeDirectory=oda); used when it is there.
RUNTIME_DIRECTORY = Path("/run/oda")
#: The Unix sockets of this network namespace: proc(5).
_KERNEL_LIST = Path("/proc/net/unix")
#: The name of the agent's directory beside its outbox.
_BESIDE_OUTBOX = "oda-run"


#: The longest path of a socket, in bytes (unix(7)), and the length of its name.
_MAX_PATH_BYTES = 107
_NAME_LENGTH = len("oda-0123456789abcdef.sock")


def socket_name(configuration: Path) -> str:
    """The name of the socket of the agent that runs with this configuration directory."""
    name = hashlib.sha256(str(configuration.resolve()).encode()).hexdigest()[:16]
    return f"oda-{name}.sock"


def directories(
    outbox: Path, environ: Mapping[str, str], runtime: Path = RUNTIME_DIRECTORY
) -> list[Path]:
    """Where the socket may be, best first; ``outbox`` is the path of the agent's outbox."""
    found = []
    if given := environ.get("RUNTIME_DIRECTORY", "").split(":")[0]:
        found.append(Path(given))
    if runtime.is_dir():
        found.append(runtime)
    if session := environ.get("XDG_RUNTIME_DIR"):
        found.append(Path(session) / "oda")
    found.append(outbox.parent / _BESIDE_OUTBOX)
    return [one.absolute() for one in dict.fromkeys(found)]


def prepare(places: Collection[Path], own: int) -> Path:
    """The first of ``places`` that belongs to the user ``own`` and that nobody else can write; one
    that is missing is made. Raises ``ControlError`` with what is wrong with each."""

    def make(place: Path) -> str:
        with suppress(FileExistsError):
            place.mkdir(0o700)
        return _fault(place, {own})

    def tell(problem: str) -> None:
        _log.info("no local socket in {problem}", problem=problem)

    return _first_good(places, make, tell)


def find_prepared(places: Collection[Path], own: int) -> Path:
    """The place that ``prepare`` would give, or so it seems: nothing is made. Raises as that."""

    def look(place: Path) -> str:
        if place.exists():
            return _fault(place, {own})
        check_directory(place.parent)
        return ""

    return _first_good(places, look, lambda problem: None)


def _first_good(
    places: Collection[Path], fault: Callable[[Path], str], tell: Callable[[str], None]
) -> Path:
    """The first place in which a socket fits and ``fault(place)`` is ""; ``tell`` hears what is
    wrong with those before it."""
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


def trusted_users(own: int, owners: Collection[Path]) -> set[int]:
    """The users whose agent a command of the user ``own`` believes: its own and root's.

    Root uses the agents of others, too. It believes the users who own the paths ``owners``, which
    root's configuration names, and no third one that listens in an agent's place.
    """
    trusted = {0, own}
    if own == 0:
        for path in owners:
            with suppress(OSError):
                trusted.add(path.stat().st_uid)
    return trusted


def squatter(path: Path, trusted: Collection[int]) -> str:
    """Why the socket at ``path`` is not to be believed, whoever listens; "" where it is.

    Raises ``OSError`` where there is none, or it can't be reached.
    """
    found = path.lstat()
    if not stat.S_ISSOCK(found.st_mode):
        return "it is no socket"
    if found.st_uid not in trusted:
        return f"it belongs to the user {found.st_uid}"
    return _fault(path.parent, trusted)


def _length_fault(place: Path) -> str:
    """Why no socket fits into ``place``; "" where one does."""
    if len(os.fsencode(place)) + 1 + _NAME_LENGTH <= _MAX_PATH_BYTES:
        return ""
    return (
        f"its path is too long for a socket, which may have {_MAX_PATH_BYTES} bytes with its name"
    )


def _fault(directory: Path, trusted: Collection[int]) -> str:
    """Why others could exchange what is in ``directory``; "" where they can't."""
    found = os.stat(directory)
    if not stat.S_ISDIR(found.st_mode):
        return "it is no directory"
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
