"""Where the socket is: the same place for the agent and for whoever names the same directory."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

#: Made by the system for the service (RuntimeDirectory=oda); used when it is there.
RUNTIME_DIRECTORY = Path("/run/oda")


def socket_path(configuration: Path, runtime: Path = RUNTIME_DIRECTORY) -> Path:
    """The socket of the agent that runs with this configuration directory."""
    name = hashlib.sha256(str(configuration.resolve()).encode()).hexdigest()[:16]
    directory = runtime if runtime.is_dir() else Path(tempfile.gettempdir())
    return directory / f"oda-{name}.sock"
