"""Files and directories: how one is replaced so that it can be taken back.

What is replaced stays beside its place, under another name (``.oda-old-...``): a file as a second
link, made before anything changes; a directory by being renamed when its successor is complete. So
a backup costs no room and keeps owner, mode and time, and taking it back is one rename.

=====================  =====================================  ====================================
What was there         What ``install`` does                  What ``restore`` does
=====================  =====================================  ====================================
a file                 renames the new file over it           renames the old link over it
a directory            renames it to old, then new to it      removes what is there, renames back
nothing                renames the new one to its place       removes what is there
=====================  =====================================  ====================================

Each of these may be interrupted between any two steps, and repeated. Whether there is something to
take back is told by the old name: it is made before the place changes, and goes last.

The functions block; ``FileInstaller`` calls them in a thread.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from twisted.internet.defer import Deferred
from zope.interface import implementer

from oda.errors import InvalidParameter, OperationFailed
from oda.interfaces import IInstaller
from oda.model import DeploymentElement, ElementOperation
from oda.update.places import OWN_PREFIX, Place, depth_of, find_place, open_parent, remove_made

_NEW = OWN_PREFIX + "new-"
_OLD = OWN_PREFIX + "old-"
_CHUNK_BYTES = 1024 * 1024
#: What a link to a file may fail with where its file system has no links, or no more of them.
_NO_LINKS = frozenset(
    {errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV}
)

#: Runs a function that blocks in a thread.
InThread = Callable[..., Deferred[Any]]


def check(place: Place, must_exist: bool) -> None:
    """Raises ``OperationFailed`` where the place can't be used as it is."""
    try:
        if depth_of(place) < len(place.parents):
            found = None
            directory: Path = place.root
        else:
            with _parent(place) as parent:
                found = _look(place.name, parent)
                directory = Path(f"/proc/self/fd/{parent}")
                _check_writable(directory, place)
    except OSError as error:
        raise OperationFailed(f"{place.path}: {error.strerror or error}") from error
    if found is None:
        if must_exist:
            raise OperationFailed(f"{place.path} does not exist")
        if directory == place.root:
            _check_writable(directory, place)
        return
    is_right = stat.S_ISDIR(found) if place.is_tree else stat.S_ISREG(found)
    if not is_right:
        wanted = "directory" if place.is_tree else "file"
        raise OperationFailed(f"{place.path} is there already, and no {wanted}")


def backup(place: Place) -> dict[str, Any]:
    """Keep what is at the place; the note for ``restore``. Raises ``OSError``."""
    depth = depth_of(place)
    if depth < len(place.parents):
        return {"existed": False, "depth": depth}
    with _parent(place) as parent:
        existed = _look(place.name, parent) is not None
        _remove(_OLD + place.name, parent)
        if existed and not place.is_tree:
            _link(place.name, _OLD + place.name, parent)
        # Also where there is nothing to keep: an older backup must not come back.
        os.fsync(parent)
    return {"existed": existed, "depth": depth}


def install(place: Place, source: Path | None, max_bytes: int, mode: int = 0o644) -> None:
    """Put the file ``source``, or what it holds as an archive, at the place; None removes what is
    there. ``mode`` is that of a file where there was none. Raises ``OSError``, or
    ``OperationFailed`` for an archive that is refused."""
    with _parent(place, make=source is not None) as parent:
        new, old = _NEW + place.name, _OLD + place.name
        if source is None:
            if place.is_tree:
                os.rename(place.name, old, src_dir_fd=parent, dst_dir_fd=parent)
            else:
                os.unlink(place.name, dir_fd=parent)
        else:
            _remove(new, parent)
            if place.is_tree:
                from oda.update.trees import extract  # tarfile: most agents never need it

                with _made_directory(new, parent) as directory:
                    extract(source, directory, max_bytes)
                if _look(place.name, parent) is not None:
                    os.rename(place.name, old, src_dir_fd=parent, dst_dir_fd=parent)
            else:
                _copy(source, new, place.name, parent, mode)
            os.rename(new, place.name, src_dir_fd=parent, dst_dir_fd=parent)
        os.fsync(parent)


def restore(place: Place, note: dict[str, Any]) -> None:
    """Make the place as it was. Raises ``OSError``."""
    try:
        with _parent(place) as parent:
            old = _OLD + place.name
            if _look(old, parent) is not None:
                if place.is_tree:
                    _remove(place.name, parent)
                os.rename(old, place.name, src_dir_fd=parent, dst_dir_fd=parent)
                # Two names of one file: the rename did nothing.
                _remove(old, parent)
            elif not note["existed"]:
                _remove(place.name, parent)
            elif _look(place.name, parent) is None:
                raise FileNotFoundError(errno.ENOENT, "its backup is gone", old)
            _remove(_NEW + place.name, parent)
            os.fsync(parent)
    except FileNotFoundError:
        # Without the root nothing is known: it may be a file system that is not there yet.
        if note["existed"] or not place.root.is_dir():
            raise
    remove_made(place, note["depth"])


def release(place: Place) -> None:
    """Remove what the agent has left beside the place. Raises ``OSError``."""
    with suppress(FileNotFoundError), _parent(place) as parent:
        _remove(_OLD + place.name, parent)
        _remove(_NEW + place.name, parent)


# -- steps ---------------------------------------------------------------------------------------


@contextmanager
def _parent(place: Place, make: bool = False) -> Any:
    parent = open_parent(place, make)
    try:
        yield parent
    finally:
        os.close(parent)


@contextmanager
def _made_directory(name: str, parent: int) -> Any:
    """A new directory, under a name that leads to this one whatever somebody who may write into
    ``parent`` puts in its place."""
    os.mkdir(name, 0o755, dir_fd=parent)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=parent)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise OperationFailed(f"{name} was replaced by somebody else")
        os.fchmod(descriptor, 0o755)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _look(name: str, parent: int) -> int | None:
    """The mode of what has that name, without following a link; None where there is nothing."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None


def _remove(name: str, parent: int) -> None:
    """Remove a file or directory; what is not there is removed already."""
    mode = _look(name, parent)
    if mode is None:
        return
    if stat.S_ISDIR(mode):
        shutil.rmtree(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)


def _link(name: str, other: str, parent: int) -> None:
    try:
        os.link(name, other, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _copy(Path(f"/proc/self/fd/{parent}") / name, other, name, parent)


def _copy(source: Path, name: str, like: str, parent: int, mode: int = 0o600) -> None:
    """A new file with the content of ``source``, and owner and mode of ``like`` (``mode`` where
    that is not there), complete on disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=parent)
    with os.fdopen(descriptor, "wb") as target:
        from_file = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(from_file, "rb") as stream:
            shutil.copyfileobj(stream, target, _CHUNK_BYTES)
        _make_alike(target, like, parent, mode)
        target.flush()
        os.fsync(descriptor)


def _make_alike(target: BinaryIO, like: str, parent: int, mode: int) -> None:
    try:
        found = os.stat(like, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        os.fchmod(target.fileno(), mode)
        return
    with suppress(PermissionError):
        os.fchown(target.fileno(), found.st_uid, found.st_gid)
    os.fchmod(target.fileno(), stat.S_IMODE(found.st_mode) & 0o777)


def _check_writable(directory: Path, place: Place) -> None:
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        raise OperationFailed(f"{place.path}: this user may not write into its directory")


# -- the installer -------------------------------------------------------------------------------


@implementer(IInstaller)
class FileInstaller:
    """Installs files and directories below ``roots()``. ``max_bytes()`` bounds what an archive may
    hold; ``in_thread`` runs what blocks."""

    name = "files"

    def __init__(
        self,
        roots: Callable[[], Sequence[Path]],
        max_bytes: Callable[[], int],
        in_thread: InThread,
    ) -> None:
        self._roots = roots
        self._max_bytes = max_bytes
        self._in_thread = in_thread

    def claims(self, element: DeploymentElement) -> bool:
        return bool(element.path)

    def check(self, element: DeploymentElement) -> Any:
        is_removal = element.operation is ElementOperation.UNINSTALL
        return self._in_thread(check, self._place(element), is_removal)

    def validate(self, elements: Sequence[DeploymentElement], files: Sequence[Path | None]) -> None:
        places = [self._place(element) for element in elements]
        for index, place in enumerate(places):
            for other in places[index + 1 :]:
                if place.holds(other) or other.holds(place):
                    raise InvalidParameter(
                        "path", f"{place.path} and {other.path} are one within the other"
                    )

    def backup(self, element: DeploymentElement) -> Any:
        place = self._place(element)
        # The roots of the configuration may be others by the time of ``restore``.
        keeping: Deferred[Any] = self._in_thread(backup, place)
        return keeping.addCallback(lambda note: {**note, "root": str(place.root)})

    def install(self, element: DeploymentElement, file: Path | None, note: Any) -> Any:
        return self._in_thread(install, self._place(element, note), file, self._max_bytes())

    def activate(self) -> None:
        """A file is in force by being there."""

    def restore(self, element: DeploymentElement, note: Any) -> Any:
        return self._in_thread(restore, self._place(element, note), note)

    def release(self, element: DeploymentElement, note: Any) -> Any:
        return self._in_thread(release, self._place(element, note))

    def _place(self, element: DeploymentElement, note: Any = None) -> Place:
        roots = self._roots() if note is None else (Path(note["root"]),)
        return find_place(roots, element.path)
