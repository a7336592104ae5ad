"""Unpacks a tar archive (plain, gzip, bzip2 or xz) into a new directory.

An archive holds files and directories, and nothing else: no link, no device, no path out of its
directory. What it may hold is bounded as it is read, so that a small file can't become a huge one
on the disk or in memory.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from oda.errors import OperationFailed

MAX_MEMBERS = 20_000
#: Names and attributes of a member, in bytes: more is read into memory by ``tarfile`` at once.
_MAX_HEADER_BYTES = 64 * 1024
_HEADERS = frozenset(
    {
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    }
)
_OPENERS: tuple[tuple[bytes, Any], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ", lzma.open),
)


class _Member(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _Member:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _HEADERS and found.size > _MAX_HEADER_BYTES:
            raise OperationFailed("the archive has a header that is too long")
        return found


class _Bounded:
    """Lets a stream be read up to a limit."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream = stream
        self._left = limit

    def read(self, size: int) -> bytes:
        data = self._stream.read(min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise OperationFailed("the archive holds more than updateMaxBytes")
        return data


def extract(archive: Path, directory: Path, max_bytes: int) -> None:
    """Fill the empty ``directory`` with what is in ``archive``, complete on disk. Raises
    ``OSError``, or ``OperationFailed`` for an archive that is refused."""
    with archive.open("rb") as head:
        begin = head.read(8)
    opener = next((one for magic, one in _OPENERS if begin.startswith(magic)), open)
    # Each member may cost two blocks besides what it holds.
    limit = max_bytes + MAX_MEMBERS * 2 * tarfile.BLOCKSIZE
    try:
        with opener(archive, "rb") as stream:
            bounded: Any = _Bounded(stream, limit)
            with tarfile.open(fileobj=bounded, mode="r|", tarinfo=_Member) as members:
                _extract_members(members, directory, max_bytes)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise OperationFailed(f"it is no tar archive that can be read: {error}") from error
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile) or error.errno is None:
            raise OperationFailed(f"it is no archive that can be read: {error}") from error
        raise
    for place, _, _ in os.walk(directory):
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fsync(descriptor)
        os.close(descriptor)


def _extract_members(members: tarfile.TarFile, directory: Path, max_bytes: int) -> None:
    left = max_bytes
    for count, member in enumerate(members, 1):
        if count > MAX_MEMBERS:
            raise OperationFailed(f"the archive has more than {MAX_MEMBERS} members")
        target = directory.joinpath(*_parts(member.name))
        if member.isdir():
            target.mkdir(mode=0o755, parents=True, exist_ok=True)
            continue
        if not member.isreg():
            kind = "a link" if member.issym() or member.islnk() else "no file or directory"
            raise OperationFailed(f"the archive's {member.name[:200]!r} is {kind}")
        left -= member.size
        if left < 0 or member.size < 0:
            raise OperationFailed("the archive holds more than updateMaxBytes")
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        source = members.extractfile(member)
        assert source is not None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(target, flags, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            shutil.copyfileobj(source, stream)
            # No setuid, and for others never more than for the owner.
            os.fchmod(descriptor, 0o755 if member.mode & 0o100 else 0o644)
            stream.flush()
            os.fsync(descriptor)


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a member's name; a leading ``./`` says nothing."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise OperationFailed(f"the archive's {name[:200]!r} leads out of it")
    return parts
