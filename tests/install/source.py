"""A copy of this repository, as a clone has it: without what builds and tests leave behind."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.docs.pages import ROOT

_LEFT_OUT = shutil.ignore_patterns(
    ".git",
    ".venv",
    "build",
    "dist",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    "*.pyc",
)


def copy_source(target: Path) -> Path:
    """Copy the repository to ``target``, which must not exist yet."""
    shutil.copytree(ROOT, target, ignore=_LEFT_OUT)
    return target
