"""The only module of the package that opens files: a directory's .cfg files and the key files."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from oda.config.properties import MAX_BYTES

SUFFIX = ".cfg"


@dataclass(frozen=True)
class Content:
    """A file as it was read; ``problem`` says why it could not be read.

    ``is_public``: every user of the machine may read it. ``is_writable``: every user may write it.
    """

    data: bytes = b""
    problem: str = ""
    is_public: bool = False
    is_writable: bool = False


def list_names(directory: Path) -> list[str]:
    """The names of the .cfg files, sorted, without hidden ones (an editor's).

    Raises ``OSError`` when the directory can't be listed.
    """
    return sorted(
        entry.name
        for entry in directory.iterdir()
        if entry.name.endswith(SUFFIX) and not entry.name.startswith(".")
    )


def read(path: Path) -> Content:
    """The file's bytes, up to just over the size limit of a configuration file."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return Content(problem="is a directory, not a file")
        if not stat.S_ISREG(mode):
            return Content(problem="is not a regular file")
        with path.open("rb") as stream:
            return Content(
                stream.read(MAX_BYTES + 1),
                is_public=bool(mode & stat.S_IROTH),
                is_writable=bool(mode & stat.S_IWOTH),
            )
    except FileNotFoundError:
        return Content(problem="does not exist")
    except OSError as error:
        return Content(problem=f"can't be read: {error.strerror or error}")


def is_writable_directory(directory: Path) -> bool:
    """Whether every user of the machine may write into the directory; False if it can't be
    examined."""
    try:
        return bool(directory.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return False
