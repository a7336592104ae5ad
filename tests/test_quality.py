"""Lint, format and types are rules like the others: a run of the tests checks them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "arguments",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
    ],
    ids=["lint", "format", "types"],
)
def test_the_code_is_clean(arguments: list[str], tmp_path: Path) -> None:
    """No finding of the linter, no unformatted file, no type error under mypy --strict."""
    if arguments[0] == "mypy":
        arguments = [*arguments, "--cache-dir", str(tmp_path)]
    else:
        arguments = [*arguments, "--no-cache"] if "--no-cache" not in arguments else arguments
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
