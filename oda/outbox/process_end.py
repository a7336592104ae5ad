"""The end of a process that has not closed its store: the files stay as after a kill.

A program that ends by an exception never closes its store. The interpreter then destroys the
connections, and SQLite deletes the write-ahead log together with the last one. The next start would
take the store for damaged, because it was not closed and its log is missing.
"""

from __future__ import annotations

import atexit
import sqlite3
from typing import Protocol
from weakref import WeakSet


class HasConnections(Protocol):
    """A store with the connections that are open now."""

    def connections(self) -> list[sqlite3.Connection]: ...


_stores: WeakSet[HasConnections] = WeakSet()


def leave_open_at_end(store: HasConnections) -> None:
    """Never let the interpreter close the connections that ``store`` has open at the end."""
    _stores.add(store)


def _leave_open() -> None:
    for store in _stores:
        for connection in store.connections():
            import ctypes  # not at the start: a process that closes its store does without

            # One reference that nothing gives back: the object outlives the interpreter.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


atexit.register(_leave_open)
