"""The files of stores that were set aside: their names, and how a damaged one is made readable.

A store is a file and its write-ahead log; the two are moved, copied and deleted together. While it
is being recovered a damaged one is named ``<name>.recovering-<n>``, afterwards
``<name>.damaged-<n>``. Another store that stood at the path is ``<name>.displaced-<n>``. No number
is given twice as long as files with higher ones are kept.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from oda.outbox.database import TABLES, UNREADABLE, connect, connect_read_only, migrate
from oda.outbox.limits import PAGE_BYTES
from oda.outbox.store import StoreError
from oda.private_files import make_private
from oda.settings import OutboxSettings

#: The maximum number of damaged files that are kept; the oldest is deleted for another one.
MAX_SET_ASIDE = 3
_COMPANIONS = ("", "-wal", "-shm")


def numbered(path: Path, kind: str) -> dict[int, Path]:
    pattern = re.compile(re.escape(f"{path.name}.{kind}-") + r"(\d{1,9})\Z")
    return {
        int(match.group(1)): one
        for one in path.parent.iterdir()
        if (match := pattern.match(one.name))
    }


def free_place(path: Path, kind: str) -> Path:
    taken = {
        number for one in ("damaged", "recovering", "displaced") for number in numbered(path, one)
    }
    return path.with_name(f"{path.name}.{kind}-{max(taken, default=0) + 1}")


def set_aside(path: Path) -> Path:
    """Rename the file and its write-ahead log; the oldest damaged one is deleted for it."""
    damaged = numbered(path, "damaged")
    for number in sorted(damaged)[: max(0, len(damaged) - MAX_SET_ASIDE + 1)]:
        remove(damaged[number])
    place = free_place(path, "recovering")
    rename(path, place)
    return place


def rename(source: Path, target: Path) -> None:
    for suffix in ("", "-wal"):
        one = Path(f"{source}{suffix}")
        if one.exists():
            one.rename(f"{target}{suffix}")
    Path(f"{source}-shm").unlink(missing_ok=True)


def remove(path: Path) -> None:
    for suffix in (*_COMPANIONS, "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def copy_of_open_file(path: Path, writer: sqlite3.Connection) -> Path | None:
    """A copy of the store that is open and no longer at ``path``; None where it can't be read."""
    place = free_place(path, "recovering")
    unfinished = place.with_name(place.name + ".tmp")
    remove(unfinished)
    make_private(unfinished)
    try:
        with closing(sqlite3.connect(unfinished)) as copy:
            writer.backup(copy, pages=4096)
            copy.execute("PRAGMA journal_mode = DELETE")
    except (*UNREADABLE, StoreError):
        remove(unfinished)
        return None
    unfinished.rename(place)
    return place


def is_readable(source: Path) -> bool:
    """Whether SQLite finds the tables of a file."""
    if not source.stat().st_size:
        return False  # SQLite would delete the write-ahead log beside it
    with suppress(*UNREADABLE), closing(connect_read_only(source)) as old:
        for table in TABLES.values():
            with suppress(*UNREADABLE):
                old.execute(f"SELECT max(id) FROM {table}").fetchone()
                return True
    return False


def patch(damaged: Path, settings: OutboxSettings) -> None:
    """Copy ``damaged`` to ``<name>.patched`` and give that the directory of the tables of a new
    store. Where the file is too short it also gets the other pages of one; the write-ahead log has
    newer ones, perhaps."""
    patched = damaged.with_name(damaged.name + ".patched")
    blank = damaged.with_name(damaged.name + ".blank")
    for one in (patched, blank):
        remove(one)
    make_private(blank)
    with closing(connect(blank, settings)) as new:
        new.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        migrate(new)
        roots = {root for (root,) in new.execute("SELECT rootpage FROM sqlite_master")}
    content = blank.read_bytes()
    remove(blank)
    for suffix in ("", "-wal"):
        source = Path(f"{damaged}{suffix}")
        if source.exists():
            make_private(Path(f"{patched}{suffix}"))
            shutil.copyfile(source, f"{patched}{suffix}")
    there = patched.stat().st_size // PAGE_BYTES
    count = len(content) // PAGE_BYTES
    with open(patched, "r+b") as copy:
        for number in range(1, count + 1):
            page = bytearray(content[(number - 1) * PAGE_BYTES : number * PAGE_BYTES])
            if number == 1:
                page[18:20] = b"\x02\x02"  # with a write-ahead log
                page[28:32] = max(there, count).to_bytes(4, "big")  # the size in pages
                page[32:40] = bytes(8)  # no free pages: some leak, none is used twice
                page[92:96] = page[24:28]  # the size is valid for this change counter
            if number not in roots or number > there:
                copy.seek((number - 1) * PAGE_BYTES)
                copy.write(page)
