"""Where the history lies: at the configured path, or beside what another program has there.

In a directory taken over from the reference agent, ``databasePath`` names its own database: a Derby
database, which is a directory, or in older versions an SQLite file. Its content is of no use here,
and its owner may want to go back to the reference agent.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

#: The name of the history beside what belongs to another program.
FILE_NAME = "oda-history.sqlite"

#: What a Derby database contains: a description of itself, and its segments.
_DERBY = ("service.properties", "seg0")


class Place(NamedTuple):
    """``path`` is the file of the history; ``note`` says why it is not the configured path, "" if
    it is."""

    path: Path
    note: str = ""


def find_place(path: Path) -> Place:
    """The place for a history that the configuration puts at ``path``. Changes nothing there.
    Raises ``OSError`` if the path can't be examined."""
    if path.is_dir():
        is_derby = any((path / name).exists() for name in _DERBY)
        what = "the Derby database of the reference agent" if is_derby else "a directory"
        return Place(path / FILE_NAME, f"{path} is {what}, and stays as it is")
    if path.is_file() and _is_of_another_program(path):
        what = "the SQLite database of another program"
        return Place(path.with_name(FILE_NAME), f"{path} is {what}, and stays as it is")
    return Place(path)


def problem_of(path: Path) -> str:
    """What is wrong with the history at ``path``, as far as a look can tell; "" if nothing is, or
    if there is no file yet. Raises ``sqlite3.Error`` if no history can be kept there."""
    if not path.exists():
        return ""
    try:
        with closing(_connect_read_only(path)) as database:
            if is_foreign(database):
                raise sqlite3.OperationalError("it is the database of another program")
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            return ""  # an agent is using it
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
    """Also False if the file can't be read: opening it will report that."""
    try:
        with closing(_connect_read_only(path)) as database:
            return is_foreign(database)
    except sqlite3.Error:
        return False


def _connect_read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path.absolute().as_uri() + "?mode=ro", timeout=0.2, uri=True)
