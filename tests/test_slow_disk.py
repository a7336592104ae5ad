"""A slow disk is slow, counts what SQLite syncs, and changes nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import slow_disk

pytestmark = pytest.mark.e2e

_COMMITS = 20
_SCRIPT = f"""
import json, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("PRAGMA synchronous = " + sys.argv[2])
connection.execute("CREATE TABLE t (x)")
begun = time.monotonic()
for number in range({_COMMITS}):
    connection.execute("INSERT INTO t VALUES (?)", (number,))
took = time.monotonic() - begun
rows = connection.execute("SELECT count(*) FROM t").fetchone()[0]
connection.close()
print(json.dumps([took, rows]))
"""


def run(
    directory: Path, ms: float, sync: str = "FULL", tracer: tuple[str, ...] = ()
) -> tuple[float, slow_disk.Syncs, str]:
    """How long the commits took, the syncs, and what the tracer said."""
    script, counts = directory / "script.py", directory / "counts"
    script.write_text(_SCRIPT)
    command = [*tracer, *slow_disk.command(ms, counts), str(script)]
    command += [str(directory / "file.sqlite"), sync]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    took_s, rows = json.loads(done.stdout)
    assert rows == _COMMITS
    return took_s, slow_disk.Counts(counts).read(), done.stderr


def test_each_commit_takes_longer(tmp_path: Path) -> None:
    """The sleep comes with each sync of the log, so with each durable commit."""
    took_s, syncs, _ = run(tmp_path, 5.0)
    assert took_s >= _COMMITS * 0.005
    assert syncs.wal >= _COMMITS
    assert syncs.database >= 1, "closing folds the log into the file, and syncs that"


def test_what_is_not_synced_is_not_slow(tmp_path: Path) -> None:
    """With ``synchronous=NORMAL`` a commit does not wait for the disk, and so does not sleep."""
    took_s, syncs, _ = run(tmp_path, 500.0, sync="NORMAL")
    assert took_s < 0.5
    assert syncs.wal < _COMMITS


def test_the_counts_are_those_of_the_kernel(tmp_path: Path) -> None:
    """strace sees the same syncs, but for those of the directory after a file is new."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("there is no strace here")
    tracer = (strace, "-f", "-e", "trace=fsync,fdatasync")
    try:
        _, syncs, trace = run(tmp_path, 0.0, tracer=tracer)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"strace may not trace here: {error.stderr[-200:]}")
    seen = len(re.findall(r"(?:fsync|fdatasync)\(", trace))
    assert 0 <= seen - syncs.total <= 3
