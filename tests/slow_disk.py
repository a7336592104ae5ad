"""A disk whose fdatasync takes longer, as an SD card's does, and that counts its fdatasyncs.

    python -P tests/slow_disk.py --ms 5 [--counts FILE] [--hang-while FILE] SCRIPT ARGUMENT...

runs a Python script so that each file of SQLite is synced as before, and each sync then takes so
many milliseconds more, and does not end while the FILE of ``--hang-while`` is there. ``install``
does the same within a process.

It replaces ``xOpen`` of SQLite's default VFS, and ``xSync`` in the methods of each file that is
opened through it (https://sqlite.org/c3ref/io_methods.html). So it sees every sync that SQLite
makes: of commits, of checkpoints and of rollback journals, in whichever thread and by whichever
statement; and it needs neither a compiler nor ptrace nor root. What it does not see is the sync of
a directory that follows the first one of a new file. The sleep does not hold the interpreter, as a
sync does not; but it has to get the interpreter back once more, so beside a busy reactor a sync may
take up to 5 ms longer (the switch interval).

A test runs it next to strace, where there is one, and compares the counts.
"""

from __future__ import annotations

import _sqlite3
import argparse
import ctypes
import mmap
import runpy
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

#: SQLITE_OPEN_WAL and SQLITE_OPEN_MAIN_DB of the flags of ``xOpen``.
_WAL = 0x80000
_MAIN_DB = 0x100
#: One counter for each kind of file: a database, a write-ahead log, any other.
_COUNTERS = struct.Struct("=QQQ")
#: Members of ``sqlite3_io_methods`` up to version 3, beside ``iVersion``.
_METHODS = 18
_X_SYNC = 4

_Open = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_void_p,
)
_Sync = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


class _Vfs(ctypes.Structure):
    """The beginning of ``sqlite3_vfs``."""

    _fields_ = [
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("zName", ctypes.c_char_p),
        ("pAppData", ctypes.c_void_p),
        ("xOpen", ctypes.c_void_p),
    ]


class _IoMethods(ctypes.Structure):
    """``sqlite3_io_methods``."""

    _fields_ = [("iVersion", ctypes.c_int), ("methods", ctypes.c_void_p * _METHODS)]


class Syncs(NamedTuple):
    """How often SQLite has synced which kind of file."""

    database: int
    wal: int
    other: int

    @property
    def total(self) -> int:
        return sum(self)


class Counts:
    """A file that the counting process writes and another one may read meanwhile."""

    def __init__(self, path: Path) -> None:
        path.touch()
        with path.open("r+b") as file:
            file.truncate(_COUNTERS.size)
            self._memory = mmap.mmap(file.fileno(), _COUNTERS.size)
        self._lock = threading.Lock()

    def read(self) -> Syncs:
        """The syncs so far."""
        return Syncs(*_COUNTERS.unpack(self._memory))

    def count(self, open_flags: int) -> None:
        """One more sync of a file that was opened with these flags."""
        kind = 1 if open_flags & _WAL else 0 if open_flags & _MAIN_DB else 2
        with self._lock:
            numbers = list(self.read())
            numbers[kind] += 1
            _COUNTERS.pack_into(self._memory, 0, *numbers)


class _SlowVfs:
    """Stands in front of a VFS. It must live as long as the process."""

    def __init__(
        self, vfs: _Vfs, delay_s: float, counts: Counts | None, hang_while: Path | None
    ) -> None:
        self._delay_s = delay_s
        self._hang_while = hang_while
        self._counts = counts
        self._tables: dict[tuple[int, int], tuple[_IoMethods, Any]] = {}
        self._open = ctypes.cast(vfs.xOpen, _Open)
        self._replacement = _Open(self._opened)
        vfs.xOpen = ctypes.cast(self._replacement, ctypes.c_void_p)

    def _opened(self, vfs: int, name: int, file: int, flags: int, flags_out: int) -> int:
        result = int(self._open(vfs, name, file, flags, flags_out))
        methods = ctypes.c_void_p.from_address(file)
        if methods.value:
            methods.value = ctypes.addressof(self._table(methods.value, flags))
        return result

    def _table(self, address: int, flags: int) -> _IoMethods:
        """A copy of the methods at ``address``, with ours in the place of ``xSync``."""
        key = (address, flags & (_WAL | _MAIN_DB))
        if key not in self._tables:
            table = _IoMethods()
            version = ctypes.c_int.from_address(address).value
            members = {1: 12, 2: 16}.get(version, _METHODS)
            size = _IoMethods.methods.offset + members * ctypes.sizeof(ctypes.c_void_p)
            ctypes.memmove(ctypes.addressof(table), address, size)
            slow = _Sync(self._synced(ctypes.cast(table.methods[_X_SYNC], _Sync), flags))
            table.methods[_X_SYNC] = ctypes.cast(slow, ctypes.c_void_p).value
            self._tables[key] = (table, slow)
        return self._tables[key][0]

    def _synced(self, sync: Any, open_flags: int) -> Callable[[int, int], int]:
        def slow(file: int, flags: int) -> int:
            result = int(sync(file, flags))
            if self._counts is not None:
                self._counts.count(open_flags)
            if self._delay_s:
                time.sleep(self._delay_s)
            while self._hang_while is not None and self._hang_while.exists():
                time.sleep(0.05)
            return result

        return slow


_installed: list[_SlowVfs] = []


def install(delay_s: float, counts: Counts | None = None, hang_while: Path | None = None) -> None:
    """Let each sync of SQLite in this process take ``delay_s`` more, and last while the file
    ``hang_while`` is there, from the next file that is opened on. Raises ``AttributeError`` where
    Python hides the SQLite it is linked with."""
    # Looks into what the module is linked with, too; without a file it is a part of the program.
    library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    library.sqlite3_initialize()
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    _installed.append(
        _SlowVfs(library.sqlite3_vfs_find(None).contents, delay_s, counts, hang_while)
    )


def command(
    delay_ms: float, counts: Path | None = None, hang_while: Path | None = None
) -> list[str]:
    """What to write before the path of a script, so that it runs on a slow disk."""
    more = [] if counts is None else ["--counts", str(counts)]
    more += [] if hang_while is None else ["--hang-while", str(hang_while)]
    return [sys.executable, "-P", str(Path(__file__).resolve()), "--ms", str(delay_ms), *more]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--ms", type=float, default=0.0, help="so much longer takes a sync")
    parser.add_argument("--counts", type=Path, help="where the syncs are counted")
    parser.add_argument("--hang-while", type=Path, help="syncs last while this file is there")
    parser.add_argument("script", help="a Python script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    options = parser.parse_args()
    counts = None if options.counts is None else Counts(options.counts)
    install(options.ms / 1000, counts, options.hang_while)
    sys.argv = [options.script, *options.arguments]
    runpy.run_path(options.script, run_name="__main__")


if __name__ == "__main__":
    main()
