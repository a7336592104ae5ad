"""A process that ends without closing its store leaves the files as a kill leaves them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from oda.outbox.database import find_fault
from oda.outbox.sqlite_store import SqliteStore
from oda.settings import OutboxSettings

PROGRAM = """
import sys
from pathlib import Path
from oda.outbox.sqlite_store import SqliteStore
from oda.settings import OutboxSettings
store = SqliteStore(Path(sys.argv[1]), OutboxSettings())
store.open()
{end}
"""


@pytest.mark.parametrize(
    "end", ["raise ValueError('a fault of the program')", "sys.exit(1)", "store.close()"]
)
def test_the_next_start_finds_no_damage(tmp_path: Path, end: str) -> None:
    """Nothing is lost, so nothing may be said to be lost, and no file is set aside."""
    path = tmp_path / "outbox.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(end=end), str(path)],
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    assert done.returncode == (0 if "close" in end else 1), done.stderr
    assert find_fault(path) is None
    assert path.with_name("outbox.sqlite-wal").exists() is ("close" not in end)
    store = SqliteStore(path, OutboxSettings())
    store.open()
    store.close()
    assert list(tmp_path.glob("*.damaged*")) == []
