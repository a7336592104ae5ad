"""Standard streams that whoever started the process has closed (``>&-``, some cron and init
programs).

Python has no object for such a stream, and the next file or socket that is opened gets its number:
what is written to standard error would go into it. So each number is taken before anything else is.
"""

from __future__ import annotations

import os
import sys

#: Standard input can't be read, and standard output can't be written: a command that needs either
#: has to say so. What is written to standard error has no other reader to be told.
_MODES = (os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)


def open_missing_streams() -> None:
    """Open what is closed of the standard streams. To be called before any other file is opened."""
    for number, mode in enumerate(_MODES):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # gets the lowest number that is free: this one
    # Not before all three are taken: opening one of these files could take another number.
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, "r", closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
