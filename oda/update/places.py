"""Opens what is below the configured roots, and nothing else.

A path is judged as text first: no ``..``, nothing above a root. Then each directory on the way is
opened from the one before it, without following a link. So a link that somebody puts there, even
while the agent looks, leads nowhere. A root itself may be, or lead over, a link of the device's
owner.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from oda.errors import InvalidParameter, OperationNotSupported

#: What the agent's own files beside an element's begin with.
OWN_PREFIX = ".oda-"
#: A name has room for that prefix and more.
_MAX_NAME_BYTES = 200
_MAX_DEPTH = 32

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Place(NamedTuple):
    """Where an element goes: ``parents`` are the directories between ``root`` and ``name``. It is a
    directory, ``is_tree``, where the path ends with a slash."""

    root: Path
    parents: tuple[str, ...]
    name: str
    is_tree: bool

    @property
    def path(self) -> Path:
        """The whole path, to be shown."""
        return self.root.joinpath(*self.parents, self.name)

    def holds(self, other: Place) -> bool:
        """Whether ``other`` is the same place, or one below it."""
        return other.path.is_relative_to(self.path)


def find_place(roots: Sequence[Path], path: str, key: str = "updateRoots") -> Place:
    """The place of an element's ``path``: absolute, or relative to the first root. Raises
    ``InvalidParameter``, or ``OperationNotSupported`` with the name of the key that would allow
    it."""
    if not roots:
        raise OperationNotSupported(f"files are not installed: {key} names no directory")
    is_tree = path.endswith("/")
    given = path.rstrip("/") if is_tree else path
    parts = tuple(given.removeprefix("/").split("/"))
    if not given or any(part in ("", ".", "..") for part in parts):
        raise InvalidParameter("path", "must have no empty part, no '.' and no '..'")
    if not path.isprintable():
        raise InvalidParameter("path", "holds a character that can't be printed")
    for part in parts:
        if part.startswith(OWN_PREFIX):
            raise InvalidParameter("path", f"{OWN_PREFIX}... is a name of the agent's own files")
        if len(os.fsencode(part)) > _MAX_NAME_BYTES:
            raise InvalidParameter("path", f"has a name of more than {_MAX_NAME_BYTES} bytes")
    root, below = roots[0], parts
    if path.startswith("/"):
        absolute = Path(given)
        inside = [one for one in roots if absolute.is_relative_to(one) and absolute != one]
        if not inside:
            raise OperationNotSupported(f"{path[:200]} is below no directory of {key}")
        root = max(inside, key=lambda one: len(one.parts))
        below = absolute.relative_to(root).parts
    if len(below) > _MAX_DEPTH:
        raise InvalidParameter("path", f"is deeper than {_MAX_DEPTH} directories")
    return Place(root, below[:-1], below[-1], is_tree)


def open_parent(place: Place, make: bool = False) -> int:
    """The directory that holds the place, open. ``make`` makes those that are missing. Raises
    ``OSError``; the caller closes what it gets."""
    current = os.open(place.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in place.parents:
            if make:
                try:
                    os.mkdir(name, 0o755, dir_fd=current)
                    os.fsync(current)
                except FileExistsError:
                    pass
            below = _open_directory(name, current)
            os.close(current)
            current = below
    except BaseException:
        os.close(current)
        raise
    return current


def depth_of(place: Place) -> int:
    """How many of the directories on the way are there. Raises ``OSError`` for a link among
    them."""
    current = os.open(place.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for depth, name in enumerate(place.parents):
            try:
                below = _open_directory(name, current)
            except FileNotFoundError:
                return depth
            os.close(current)
            current = below
    finally:
        os.close(current)
    return len(place.parents)


def remove_made(place: Place, depth: int) -> None:
    """Remove the empty directories on the way that were not there when ``depth_of`` gave
    ``depth``. Raises ``OSError``."""
    for end in range(len(place.parents), depth, -1):
        parents = place.parents[:end]
        above = Place(place.root, parents[:-1], parents[-1], is_tree=True)
        try:
            parent = open_parent(above)
        except FileNotFoundError:
            continue
        try:
            os.rmdir(above.name, dir_fd=parent)
            os.fsync(parent)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        finally:
            os.close(parent)


def _open_directory(name: str, parent: int) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            text = "is a link, or no directory: an update goes through neither"
            raise OSError(error.errno, text, name) from None
        raise
