"""Which PID files are in nobody's way."""

from __future__ import annotations

from pathlib import Path

import pytest

from oda.pid_file import remove_stale


@pytest.fixture
def processes(tmp_path: Path) -> Path:
    """A list of processes like /proc: an agent, another twistd, and this process."""
    for pid, words in (
        (7, ["python3", "/usr/bin/twistd", "-n", "oda-websocket", "--conf", "/etc/oda"]),
        (8, ["python3", "/usr/bin/twistd", "web"]),
        (9, ["python3", "/usr/bin/twistd", "-n", "oda-websocket"]),
    ):
        (tmp_path / "proc" / str(pid)).mkdir(parents=True)
        line = b"".join(word.encode() + b"\0" for word in words)
        (tmp_path / "proc" / str(pid) / "cmdline").write_bytes(line)
    return tmp_path / "proc"


@pytest.mark.parametrize(
    ("content", "stays"),
    [
        ("", False),  # a loss of power left it empty
        ("\n", False),
        ("\0\0\0\0\0", False),  # the same, on a file system that wrote the length first
        ("7\n", True),  # an agent
        ("8", False),  # another process has the number by now
        ("9", False),  # this process: in a container each start has the same number
        ("12345", False),  # nobody
        ("no number", True),  # it may be no PID file at all
        ("7 and more", True),
    ],
)
def test_what_stays_is_twistds_to_judge(
    tmp_path: Path, processes: Path, content: str, stays: bool
) -> None:
    """Only a file that names a running agent, or that is none, is left."""
    path = tmp_path / "agent.pid"
    path.write_text(content)
    remove_stale(path, 9, processes)
    assert path.exists() is stays


def test_what_can_not_be_looked_at_is_left(tmp_path: Path) -> None:
    """No file, a directory, and a machine without a list of processes."""
    remove_stale(tmp_path / "none", 9, tmp_path)
    remove_stale(tmp_path, 9, tmp_path)
    path = tmp_path / "agent.pid"
    path.write_text("7")
    remove_stale(path, 9, tmp_path / "no-proc")
    assert path.exists()
