"""Replaces standard streams that the parent process has closed (``>&-``, some cron and init
programs).

Python has no object for such a stream, and the next file or socket to be opened gets its number:
text for standard error would go into that file. So this module occupies each number first.
"""

from __future__ import annotations

import os
import sys

#: Standard input can't be read, and standard output can't be written: a command that needs either
#: must report that. Nobody would read a report about standard error.
_MODES = (os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)


def open_missing_streams() -> None:
    """Open the closed standard streams. Call this before any other file is opened."""
    for number, mode in enumerate(_MODES):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # gets the lowest free number: this one
    # After all three are occupied: opening one of these files could take another number.
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, "r", closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
