"""Where the log goes: as twistd's own options say, but to files that don't grow without limit."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.python.logfile import LogFile

from oda.logs.lines import LogFormat

#: A log file is rotated at this size, and this many older ones are kept.
ROTATE_BYTES = 10_000_000
KEPT_FILES = 5


def open_destination(options: Mapping[str, Any], stdout: Any) -> Any:
    """The stream that twistd's ``options`` ask for: ``stdout`` or a file. None if they ask for
    twistd's own log (``--logger``, ``--syslog``).

    Raises ``OSError`` when the file can't be opened.
    """
    if options.get("logger") or options.get("syslog"):
        return None
    name = options.get("logfile") or ("-" if options.get("nodaemon") else "twistd.log")
    if name == "-":
        return stdout
    try:
        return RotatedFile(Path(name))
    except OSError as error:
        raise OSError(f"--logfile: {Path(name).absolute()}: {error.strerror or error}") from error


class _AppendedFile(LogFile):
    """Always writes at the end of the file: a tool may have truncated it in the meantime."""

    def _openFile(self) -> None:
        super()._openFile()
        descriptor = self._file.fileno()
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)


class RotatedFile:
    """A log file that is rotated when it grows large; ``reopen`` is for tools that rotate it."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()  # twistd changes its directory
        self._file = self._open()

    def _open(self) -> _AppendedFile:
        return _AppendedFile(
            self._path.name,
            str(self._path.parent),
            rotateLength=ROTATE_BYTES,
            defaultMode=0o640,
            maxRotatedFiles=KEPT_FILES,
        )

    def write(self, text: str) -> None:
        """Append; raises ``OSError``."""
        if self._file.closed:  # a rotation failed half-way
            self._file = self._open()
        self._file.write(text)

    def flush(self) -> None:
        """Pass everything on to the system."""
        self._file.flush()

    def reopen(self) -> None:
        """Open the file of this name again, whatever has happened to the one before. Raises
        ``OSError`` if that fails, and keeps writing to the one before."""
        before, self._file = self._file, self._open()
        before.close()


def default_format(stdout: Any, destination: Any, environ: Mapping[str, str]) -> LogFormat:
    """JOURNAL if standard output leads to systemd's journal (``JOURNAL_STREAM``), else TEXT."""
    stream = environ.get("JOURNAL_STREAM")
    if stream is None or destination is not stdout:
        return LogFormat.TEXT
    try:
        status = os.fstat(stdout.fileno())
    except (OSError, ValueError):
        return LogFormat.TEXT
    is_journal = stream == f"{status.st_dev}:{status.st_ino}"
    return LogFormat.JOURNAL if is_journal else LogFormat.TEXT
