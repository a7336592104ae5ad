"""What ``oda outbox`` asks of a running agent, through its local socket.

Looking into the store needs no agent: whoever may read the file can. Changing it does, because the
agent keeps in memory what it will send next.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from oda.errors import OutboxError
from oda.outbox.outbox import Outbox


def import_command(path: Path, configuration: Path) -> str:
    """What to type to take over the outbox at ``path`` into that of the agent with this
    configuration directory."""
    return shlex.join(
        ["oda", "outbox", "import", str(path.absolute()), "--conf", str(configuration.absolute())]
    )


class Upkeep:
    """``path`` is the outbox's file; an outbox in memory has none."""

    def __init__(self, outbox: Outbox, path: Path) -> None:
        self._outbox = outbox
        self._path = path.absolute()  # before anybody changes the working directory

    def handlers(self) -> dict[str, Callable[[Mapping[str, Any]], Any]]:
        """The commands of the local socket."""
        return {
            "outbox": self.describe,
            "outbox-purge": self.purge,
            "outbox-retry-dead": self.retry_dead,
        }

    def describe(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Where it is (``path`` None: in memory) and what is in it."""
        return {
            "path": str(self._path) if self._outbox.is_durable else None,
            "counts": dict(self._outbox.counts()),
        }

    def purge(self, arguments: Mapping[str, Any]) -> int:
        """Drop what waits and the dead letters; how many messages. Raises ``OutboxError``."""
        return self._durable().purge()

    def retry_dead(self, arguments: Mapping[str, Any]) -> int:
        """Put the dead letters back; how many. Raises ``OutboxError``."""
        return self._durable().retry_dead()

    def _durable(self) -> Outbox:
        if not self._outbox.is_durable:
            raise OutboxError("the outbox of this agent is in memory: restart the agent instead")
        return self._outbox
