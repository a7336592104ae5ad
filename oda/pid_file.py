"""A stale PID file must not keep the agent from starting.

twistd refuses to start over a PID file that is empty or full of NULs, as a loss of power leaves it,
or whose number belongs to any process, as after a restart of the machine or the container. What
keeps two agents apart is the lock of the outbox, not this file.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

#: So much of a PID file is read, in bytes: it holds one number.
_MOST_BYTES = 64
#: What may be in it besides the number: a loss of power leaves NULs where nothing was written yet.
_NOTHING = b"\0 \t\r\n"
#: What the command line of an agent contains.
_AGENT = b"oda-websocket"


def remove_stale(path: Path, own: int | None = None, processes: Path = Path("/proc")) -> None:
    """Remove the PID file at ``path`` if it is empty, or names a process that is no agent, or this
    process, whose id is ``own``. Anything else is left for twistd to judge, also a file that holds
    no number: it may be no PID file."""
    with suppress(OSError):
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES).strip(_NOTHING)
        if content and not (content.isdigit() and _is_stale(int(content), own, processes)):
            return
        path.unlink()


def _is_stale(pid: int, own: int | None, processes: Path) -> bool:
    if pid == (os.getpid() if own is None else own):
        return True
    try:
        return _AGENT not in (processes / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return processes.is_dir() and any(processes.glob("[0-9]*"))  # without /proc: unknown
