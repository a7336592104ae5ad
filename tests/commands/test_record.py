"""``oda record`` and ``oda replay --save``: a file is there only when something is in it."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from oda.commands.record import new_file

ROOT = Path(__file__).parents[2]
PROGRAM = "from oda.cli import main; main()"
HEADER = b'{"source": "proxy"}\n'


def fail(file: Path, content: bytes, error: Exception) -> None:
    """A command that has written this when it fails."""
    with new_file(file) as lines:
        lines.write(content)
        raise error


def test_a_failed_recording_leaves_no_file_behind(tmp_path: Path) -> None:
    """The port is taken: the next attempt must not find the file "exists already"."""
    file = tmp_path / "session.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "record", str(file), "--to", "ws://127.0.0.1:9",
             "--listen", port],
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert not file.exists()


def test_what_was_recorded_before_a_failure_stays(tmp_path: Path) -> None:
    """A session that was interrupted by an error is still a session."""
    file = tmp_path / "session.jsonl"
    with pytest.raises(click.ClickException):
        fail(file, HEADER + b'{"what": "open"}\n', click.ClickException("the platform is gone"))
    assert file.exists()


def test_a_file_without_a_session_goes(tmp_path: Path) -> None:
    """Its first line alone says nothing; an error of the disk is one line for the user."""
    file = tmp_path / "session.jsonl"
    with pytest.raises(click.ClickException, match="No space"):
        fail(file, HEADER, OSError(28, "No space left on device"))
    assert not file.exists()


def test_a_name_that_is_taken_stays_as_it_is(tmp_path: Path) -> None:
    """Nothing is overwritten, and nothing removed."""
    file = tmp_path / "session.jsonl"
    file.write_text("mine")
    with pytest.raises(click.ClickException, match="exists already"), new_file(file):
        pass
    assert file.read_text() == "mine"
