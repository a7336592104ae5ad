"""Script datastreams with real processes and the real reactor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.e2e


def read(directory: Path, text: str, value_type: str = "STRING", timeout_s: float = 20) -> Any:
    """The outcome of a script with that text."""
    (directory / "x.sh").write_text(text)
    (directory / "x.sh").chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "tests.datastreams.real_script", "x.sh", value_type, str(timeout_s)],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ODA_API_KEY": "canary"},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == b""
    return json.loads(done.stdout)


def test_a_value(tmp_path: Path) -> None:
    """Output of a real script becomes a typed value; it runs in the working directory."""
    (tmp_path / "raw").write_text("21.5")
    assert read(tmp_path, "#!/bin/sh\ncat raw\n", "DOUBLE") == {"value": 21.5}


def test_a_script_without_a_first_line(tmp_path: Path) -> None:
    """An executable text without ``#!`` runs."""
    assert read(tmp_path, "echo hello\n") == {"value": "hello"}


def test_no_key_reaches_a_script(tmp_path: Path) -> None:
    """The environment of the script has no API key."""
    outcome = read(tmp_path, '#!/bin/sh\necho "[$ODA_API_KEY]" $(env | grep -c canary)\nexit 0\n')
    assert outcome == {"value": "[] 0"}


def test_a_failure(tmp_path: Path) -> None:
    """Exit status and last error line of a real script that writes no value."""
    outcome = read(tmp_path, "#!/bin/sh\necho one >&2\necho two >&2\nexit 7\n", "INTEGER")
    assert outcome == {"error": "exit status 7: two"}


def test_a_value_counts_whatever_the_status_is(tmp_path: Path) -> None:
    """A real script whose last command fails: its first line is the value."""
    outcome = read(tmp_path, "#!/bin/sh\necho 5\necho more\necho one >&2\nexit 7\n", "INTEGER")
    assert outcome == {"value": 5}


def test_the_whole_group_is_killed(tmp_path: Path) -> None:
    """At the time limit also what the script started is gone."""
    outcome = read(tmp_path, "#!/bin/sh\nsleep 300 &\necho $! > child\nsleep 300\n", timeout_s=0.5)
    assert outcome == {"error": "the script did not end within 0.5 s"}
    child = int((tmp_path / "child").read_text())
    assert not is_running(child)


def test_a_background_process_does_not_hold_the_reading(tmp_path: Path) -> None:
    """A script that leaves something running with its output open is done when it has ended."""
    started = time.monotonic()
    outcome = read(tmp_path, "#!/bin/sh\nsleep 20 &\necho $! > child\necho 3\n", "INTEGER")
    child = int((tmp_path / "child").read_text())
    assert outcome == {"value": 3}
    assert time.monotonic() - started < 15
    assert is_running(child)
    os.kill(child, 9)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
