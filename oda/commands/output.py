"""Standard output that can't be written: a closed pipe, a full disk."""

from __future__ import annotations

import os
import sys


def silence_output() -> None:
    """Send the rest of standard output nowhere: what its buffer holds would fail again, with a
    traceback, when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):
        return  # it is no file, as in tests
    finally:
        os.close(nowhere)
