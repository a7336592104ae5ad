"""Where the history is: at the path of the configuration, or beside what another program has there.

The reference agent's own database stands at ``databasePath`` in a directory that is taken over: a
Derby database, which is a directory, or in older versions an SQLite file. Its content is of no use
here, and the reference agent may be wanted back.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

#: The history beside what belongs to another program.
FILE_NAME = "oda-history.sqlite"

#: What a Derby database has: a description of itself, and its segments.
_DERBY = ("service.properties", "seg0")


class Place(NamedTuple):
    """``path`` is the file of the history; ``note`` says why that is not the path of the
    configuration, "" where it is."""

    path: Path
    note: str = ""


def find_place(path: Path) -> Place:
    """The place for a history that the configuration wants at ``path``. Changes nothing there.
    Raises ``OSError`` where the path can't be looked at."""
    if path.is_dir():
        is_derby = any((path / name).exists() for name in _DERBY)
        what = "the Derby database of the reference agent" if is_derby else "a directory"
        return Place(path / FILE_NAME, f"{path} is {what}, and stays as it is")
    if path.is_file() and _is_of_another_program(path):
        what = "the SQLite database of another program"
        return Place(path.with_name(FILE_NAME), f"{path} is {what}, and stays as it is")
    return Place(path)


def problem_of(path: Path) -> str:
    """What is wrong with the history at ``path``, as far as a look tells; "" where nothing is, or
    there is no file yet. Raises ``sqlite3.Error`` where no history can be kept there."""
    if not path.exists():
        return ""
    try:
        with closing(_connect_read_only(path)) as database:
            if is_foreign(database):
                raise sqlite3.OperationalError("it is the database of another program")
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if verdict == "ok" else str(verdict)


def is_foreign(database: sqlite3.Connection) -> bool:
    """Whether another program made its tables. A file without any table may be used. Raises
    ``sqlite3.Error``."""
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    return bool(tables) and "kept" not in tables


def _is_of_another_program(path: Path) -> bool:
    """False also where it can't be read: opening it will say why."""
    try:
        with closing(_connect_read_only(path)) as database:
            return is_foreign(database)
    except sqlite3.Error:
        return False


def _connect_read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path.absolute().as_uri() + "?mode=ro", timeout=0.2, uri=True)
