"""Files that hold what passes through the device: nobody but their owner reads or writes them.

A file that is there may have been made by another program, an older version, or another user of the
machine. It must belong to the process's user. Root also uses the files of whoever owns the
directory around them, because ``sudo oda outbox ...`` looks after the files of a service's user;
that user could exchange them anyway. The mode becomes 0600 whatever it was and whatever the umask.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

#: What SQLite keeps beside its file.
_COMPANIONS = ("-wal", "-shm", "-journal")
#: As many links in a row does the kernel follow.
_MAX_LINKS = 40


def followed(path: Path) -> Path:
    """The absolute path without links. Raises ``OSError`` where the path is a link that another
    user made: it may lead to any file of this user."""
    path = path.absolute()
    for _ in range(_MAX_LINKS):
        if not path.is_symlink():
            return path.resolve()
        owner, own = path.lstat().st_uid, os.geteuid()
        if owner not in (0, own):
            raise PermissionError(errno.EPERM, f"it is a link of the user {owner}", str(path))
        path = path.parent / os.readlink(path)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def make_directory(directory: Path) -> None:
    """Make the directory with its parents, below the first one that is there. Raises ``OSError``,
    with the place that is at fault."""
    if not directory.is_dir():
        check_directory(directory)
        directory.mkdir(parents=True, exist_ok=True)


def check_directory(directory: Path) -> None:
    """Raises ``OSError`` where there can be no file in ``directory``, which ``make_directory``
    would make where it is missing: ``PermissionError`` where another user might. Makes nothing."""
    place = directory.absolute()
    while True:
        try:
            found = place.stat()
            break
        except (FileNotFoundError, NotADirectoryError):
            if place.is_symlink():
                raise FileNotFoundError(f"{place} is a link that leads nowhere") from None
            place = place.parent
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{place} is no directory")
    if not os.access(place, os.W_OK | os.X_OK, effective_ids=True):
        raise PermissionError(f"this user may not write into {place}")


def make_private(path: Path) -> None:
    """Make the file at ``path`` private, with what SQLite keeps beside it; one that is missing is
    made, empty. Raises ``OSError``, also for what is not to be used: a link, a file of another
    user.

    No file is opened that exists, as closing it would drop the locks that SQLite holds in this
    process.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileExistsError):
        os.close(os.open(path, flags, 0o600))
    for suffix in ("", *_COMPANIONS):
        one = Path(f"{path}{suffix}")
        with suppress(FileNotFoundError):
            descriptor = os.open(one, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                secure(descriptor, one)
            finally:
                os.close(descriptor)


def secure(descriptor: int, path: Path) -> None:
    """Make the open file private; ``path`` is where it is. Raises ``OSError`` where it is not to be
    used."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    own = os.geteuid()
    if not may_use(found.st_uid, own, lambda: path.parent.stat().st_uid):
        text = f"it belongs to the user {found.st_uid}, and the process's user is {own}: chown it"
        raise PermissionError(errno.EPERM, text, str(path))
    if stat.S_IMODE(found.st_mode) & ~0o600:
        # A file system without modes (FAT) refuses: who may read it is a matter of its mount.
        with suppress(OSError):
            os.chmod(f"/proc/self/fd/{descriptor}", 0o600)


def may_use(owner: int, own: int, owner_of_directory: Callable[[], int]) -> bool:
    """Whether a process of the user ``own`` uses a file of the user ``owner``."""
    return owner == own or (own == 0 and owner == owner_of_directory())
