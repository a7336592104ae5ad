"""Files that hold the device's data: only their owner may read or write them.

Another program, an older version, or another user may have made an existing file. The file must
belong to the process's user. Root also uses the files of the owner of their directory, because
``sudo oda outbox ...`` works on the files of a service user; that user could exchange the files
anyway. The mode becomes 0600, whatever the mode and the umask were.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

#: The files that SQLite keeps beside its file.
_COMPANIONS = ("-wal", "-shm", "-journal")
#: The kernel follows this many links in a row.
_MAX_LINKS = 40


def followed(path: Path) -> Path:
    """The absolute path without links. Raises ``OSError`` for a link made by another user: such a
    link may lead to any file of this user."""
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
    """Make the directory with the missing parents. Raises ``OSError`` that names the faulty
    place."""
    if not directory.is_dir():
        check_directory(directory)
        directory.mkdir(parents=True, exist_ok=True)


def check_directory(directory: Path) -> None:
    """Raises ``OSError`` where no file can exist in ``directory``, or where ``make_directory``
    could not make it; ``PermissionError`` where another user could. Makes nothing."""
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
        raise NotADirectoryError(f"{place} is not a directory")
    if not os.access(place, os.W_OK | os.X_OK, effective_ids=True):
        raise PermissionError(f"this user may not write into {place}")


def make_private(path: Path) -> None:
    """Make the file at ``path`` and its SQLite companions private; a missing file is made, empty.
    Raises ``OSError``, also for a file that must not be used: a link, or another user's file.

    This function opens no existing file: closing it would drop the locks that SQLite holds in this
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
    """Make the open file private; ``path`` is its path. Raises ``OSError`` where the file must not
    be used."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    own = os.geteuid()
    if not may_use(found.st_uid, own, lambda: path.parent.stat().st_uid):
        text = f"it belongs to the user {found.st_uid}, and the process's user is {own}: chown it"
        raise PermissionError(errno.EPERM, text, str(path))
    if stat.S_IMODE(found.st_mode) & ~0o600:
        # A file system without modes (FAT) refuses; its mount options decide who may read.
        with suppress(OSError):
            os.chmod(f"/proc/self/fd/{descriptor}", 0o600)


def may_use(owner: int, own: int, owner_of_directory: Callable[[], int]) -> bool:
    """Whether a process of the user ``own`` may use a file of the user ``owner``."""
    return owner == own or (own == 0 and owner == owner_of_directory())


def reader(directory: os.stat_result) -> int:
    """The user with whom root shares a directory: its group is that user's own, has that user's
    name, and may read the directory. Raises ``KeyError`` if there is none.

    "oda init --user NAME" makes such a directory. In a group with another name, such as ``users``,
    nobody could say which of its members the agent's user is.
    """
    if directory.st_uid != 0 or not directory.st_mode & stat.S_IRGRP:
        raise KeyError
    account = pwd.getpwnam(grp.getgrgid(directory.st_gid).gr_name)
    if account.pw_gid != directory.st_gid or not account.pw_uid:
        raise KeyError
    return account.pw_uid
