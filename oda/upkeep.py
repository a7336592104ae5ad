"""What ``oda outbox`` requests from a running agent through its local socket.

Inspecting the store needs no agent: read access to the file is enough. Changing it does, because
the agent keeps in memory what it will send next.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from oda.errors import OutboxError
from oda.outbox.maintenance import TakenOver, take_over
from oda.outbox.outbox import Outbox
from oda.outbox.worker import IWorker
from oda.settings import OutboxSettings


def import_command(path: Path, configuration: Path) -> str:
    """The command that takes over the outbox at ``path`` into the outbox of the agent with this
    configuration directory."""
    return shlex.join(
        ["oda", "outbox", "import", str(path.absolute()), "--conf", str(configuration.absolute())]
    )


class Upkeep:
    """``make_worker`` returns a worker that does disk I/O in another thread."""

    def __init__(
        self, outbox: Outbox, settings: OutboxSettings, make_worker: Callable[[], IWorker]
    ) -> None:
        self._outbox = outbox
        self._settings = settings
        self._make_worker = make_worker
        self._is_importing = False

    def handlers(self) -> dict[str, Callable[[Mapping[str, Any]], Any]]:
        """The commands of the local socket."""
        return {
            "outbox": self.describe,
            "outbox-purge": self.purge,
            "outbox-retry-dead": self.retry_dead,
            "outbox-import": self.import_store,
        }

    def describe(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Where the outbox is (``path`` None: in memory), what it holds, and why it can't be
        written ("" where it can)."""
        return {
            "path": str(self._outbox.path) if self._outbox.path is not None else None,
            "counts": dict(self._outbox.counts()),
            "trouble": self._outbox.disk_trouble,
        }

    def purge(self, arguments: Mapping[str, Any]) -> int:
        """Drop waiting messages and dead letters; returns how many. Raises ``OutboxError``."""
        return self._durable().purge()

    def retry_dead(self, arguments: Mapping[str, Any]) -> int:
        """Put the dead letters back; returns how many. Raises ``OutboxError``."""
        return self._durable().retry_dead()

    def import_store(self, arguments: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        """Take over the store at ``path``; fires with a report of it. Fails with
        ``OutboxError``."""
        path = arguments.get("path")
        if not isinstance(path, str) or not path:
            raise OutboxError("no path is given")
        if self._is_importing:
            raise OutboxError("the agent is already taking over another outbox; try again later")
        self._is_importing = True
        worker = self._make_worker()

        def ended(result: Any) -> Any:
            self._is_importing = False
            worker.stop()
            return result

        taking: Deferred[TakenOver] = take_over(
            Path(path), self._settings, self._outbox, worker
        ).addBoth(ended)
        return taking.addCallback(
            lambda taken: {
                "isComplete": taken.is_complete,
                "text": taken.describe(Path(path)),
                **msgspec.structs.asdict(taken),
            }
        )

    def _durable(self) -> Outbox:
        if not self._outbox.is_durable:
            raise OutboxError("the outbox of this agent is in memory: restart the agent instead")
        return self._outbox
