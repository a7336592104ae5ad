"""Handles standard output that can't be written: a closed pipe, a full disk."""

from __future__ import annotations

import os
import sys


def silence_output() -> None:
    """Discard the rest of standard output: writing its buffer when the process ends would fail
    again, with a traceback."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):
        return  # not a file, as in tests
    finally:
        os.close(nowhere)
